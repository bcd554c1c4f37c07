import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.graphs import record
from worker.errors import ModelRejected, Unavailable
from worker.serving import swap
from worker.serving.model import Models
from worker.serving.swap import Swapper
from worker.telemetry.metrics import Metrics


@dataclass
class Registry:
    """A registry that says what it is told to say."""

    answers: list = field(default_factory=list)
    downloads: int = 0

    def production(self):
        """The next answer; the last one stays."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @contextmanager
    def download(self, record):
        """A directory that nobody looks into."""
        self.downloads += 1
        yield Path("/nowhere")


@dataclass(eq=False)
class Version:
    """A loaded version, as far as the swapper looks at it."""

    record: object

    @property
    def digest(self):
        """As verified."""
        return self.record.digest


class World:
    """A swapper and what it works on."""

    def __init__(self, *answers, load=None):
        self.registry = Registry(list(answers))
        self.retired = []
        self.models = Models(self.retired.append)
        self.metrics = Metrics()
        self.swapper = Swapper(self.registry, self.models, load or (lambda _, record: Version(record)), self.metrics)

    def count(self, result):
        """Swaps that ended so."""
        return self.metrics.registry.get_sample_value("heimdall_model_swaps_total", {"result": result}) or 0

    @property
    def serving(self):
        """The version that serves."""
        return self.models.current.primary.record.version if self.models.current else None


V1, V2 = record("sha256:1", version="1"), record("sha256:2", version="2")


async def test_a_reload_serves_what_the_registry_names():
    """The version is downloaded, loaded and put in place; the one before retires."""
    world = World(V1, V2)
    assert "version 1 serves" in await world.swapper.reload()
    assert world.serving == "1"
    assert "version 2 serves" in await world.swapper.reload()
    assert world.serving == "2"
    assert [version.record for version in world.retired] == [V1]
    assert world.count("succeeded") == 2
    assert world.metrics.registry.get_sample_value("model_reloads_total") == 2


async def test_a_reload_of_what_serves_downloads_nothing():
    """Same version, same part, same digest: it serves already."""
    world = World(V1)
    await world.swapper.reload()
    assert await world.swapper.reload() == "version 1 serves already"
    assert world.registry.downloads == 1


@pytest.mark.parametrize(
    "changed", [record("sha256:9", version="1"), record("sha256:1", version="1", alias="Production")]
)
async def test_another_digest_or_part_is_another_version(changed):
    """What differs in digest or alias is loaded anew."""
    world = World(V1, changed)
    await world.swapper.reload()
    await world.swapper.reload()
    assert world.registry.downloads == 2


async def test_an_expectation_that_fails_changes_nothing():
    """An operator who expects another version is told which one the registry names."""
    world = World(V1, V2)
    await world.swapper.reload("1")
    with pytest.raises(ModelRejected, match="names version 2 for production, not 3"):
        await world.swapper.reload("3")
    assert world.serving == "1"
    assert world.count("failed") == 1


@pytest.mark.parametrize("error", [ModelRejected("golden[0]"), Unavailable("away")])
async def test_whatever_fails_leaves_the_version_before(error):
    """A rejected version, or a registry that is away, changes nothing and says why."""

    def load(_, record):
        if record is V2:
            raise error
        return Version(record)

    world = World(V1, V2, load=load)
    await world.swapper.reload()
    with pytest.raises(type(error), match=str(error).replace("[", r"\[")):
        await world.swapper.reload()
    assert world.serving == "1"
    assert world.retired == []
    assert (world.count("succeeded"), world.count("failed")) == (1, 1)


async def test_a_bug_in_loading_is_a_rejected_version():
    """What loading lets out, of whatever kind, rejects the version and is counted."""

    def load(_, record):
        raise KeyError("coordinates")

    world = World(V1, load=load)
    with pytest.raises(ModelRejected):
        await world.swapper.reload()
    assert world.count("failed") == 1


async def test_the_first_version_is_tried_until_one_is_valid(monkeypatch):
    """A start does not end with an error: it waits for a registry, and for a version that may serve."""
    monkeypatch.setattr(swap, "MAX_BACKOFF_S", 0.001)
    world = World(Unavailable("away"), ModelRejected("no alias"), V1)
    await world.swapper.first()
    assert world.serving == "1"
    assert world.count("failed") == 2


async def test_one_swap_at_a_time():
    """Two reloads at once: the second begins when the first has ended, and finds its work done."""
    under_way, most = 0, 0

    def load(_, record):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        under_way -= 1
        return Version(record)

    world = World(V1, load=load)
    answers = await asyncio.gather(world.swapper.reload(), world.swapper.reload())
    assert most == 1
    assert world.registry.downloads == 1
    assert answers[1] == "version 1 serves already"
