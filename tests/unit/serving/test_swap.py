import asyncio
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.support.graphs import record
from worker.errors import ModelRejected, Unavailable
from worker.serving import swap
from worker.serving.model import Models
from worker.serving.rollout import FAILED_TAG, PREVIOUS_TAG, WEIGHT_TAG, RegistryView, Rollout
from worker.serving.swap import Swapper
from worker.telemetry.metrics import Metrics


@dataclass
class Registry:
    """A registry that says what it is told to say, and takes marks unless it is away."""

    records: dict = field(default_factory=dict)
    aliases: dict = field(default_factory=dict)
    paused: str | None = None
    away: Exception | None = None
    takes_marks: bool = True
    marks: list = field(default_factory=list)

    def point(self, **aliases):
        """Let aliases name records."""
        for alias, pointed in aliases.items():
            self.records.setdefault(pointed.version, pointed)
            self.aliases[alias] = pointed.version

    def tag(self, version, name, value):
        """Set a tag."""
        found = self.records[version]
        self.records[version] = replace(found, tags=found.tags | {name: value})

    def view(self):
        """What it says now."""
        if self.away is not None:
            raise self.away
        named = set(self.aliases.values())
        production = self.records.get(self.aliases.get("production", ""))
        if production is not None:
            named.add(production.tags.get(PREVIOUS_TAG, ""))
        records = {version: found for version, found in self.records.items() if version in named}
        return RegistryView(dict(self.aliases), records, self.paused)

    def mark_failed(self, version, reason):
        """Set the tag."""
        if self.away is not None or not self.takes_marks:
            raise Unavailable("the registry takes no marks")
        self.marks.append((version, reason))
        self.tag(version, FAILED_TAG, reason)


@dataclass
class Library:
    """Files that nobody looks into, and a memory."""

    fetched: list = field(default_factory=list)
    known: Rollout | None = None
    error: Exception | None = None

    @contextmanager
    def files(self, wanted):
        """A directory that is not there."""
        self.fetched.append(wanted.version)
        yield Path("/nowhere")

    def remember(self, rollout):
        """Note it, or fail."""
        if self.error is not None:
            raise self.error
        self.known = rollout

    def last_known(self):
        """What was noted."""
        if self.known is None:
            raise Unavailable("none")
        return self.known


@dataclass(frozen=True, eq=False)
class Version:
    """A loaded version, as far as the swapper looks at it."""

    record: object

    @property
    def digest(self):
        """As verified."""
        return self.record.digest

    @property
    def label(self):
        """As metrics name it."""
        return self.record.version


class World:
    """A swapper and what it works on."""

    def __init__(self, **aliases):
        self.registry = Registry()
        self.registry.point(**aliases)
        self.library = Library()
        self.refused = {}
        self.retired = []
        self.told = []
        self.models = Models(self.retired.append)
        self.metrics = Metrics()
        self.swapper = Swapper(self.registry, self.library, self.models, self.load, self.metrics, self.told.append)

    def load(self, directory, wanted):
        """Load, or refuse as told."""
        if wanted.version in self.refused:
            raise self.refused[wanted.version]
        return Version(wanted)

    def count(self, result):
        """Swaps that ended so."""
        return self.metrics.registry.get_sample_value("heimdall_model_swaps_total", {"result": result}) or 0

    @property
    def serving(self):
        """The version of each part."""
        current = self.models.current
        if current is None:
            return None
        return tuple(v.label if v else None for v in (current.primary, current.canary, current.shadow))


V1, V2, V3 = (record(f"sha256:{n}", version=n) for n in "123")
CANARY = replace(V2, alias="canary", tags={WEIGHT_TAG: "10"})
SHADOW = replace(V3, alias="shadow")


async def test_what_the_registry_names_serves():
    """The version is fetched, loaded and put in place; the one before retires."""
    world = World(production=V1)
    assert await world.swapper.sync() == "production 1"
    world.registry.point(production=V2)
    assert await world.swapper.sync("2") == "production 2"
    assert world.serving == ("2", None, None)
    assert [version.record for version in world.retired] == [V1]
    assert world.count("succeeded") == 2
    assert world.metrics.registry.get_sample_value("model_reloads_total") == 2


async def test_every_part_serves_and_is_remembered():
    """Canary with its weight, and shadow; the answer names all."""
    world = World(production=V1, canary=CANARY, shadow=SHADOW)
    assert await world.swapper.sync() == "production 1, canary 2 at 10 %, shadow 3"
    assert world.serving == ("1", "2", "3")
    assert world.library.known == Rollout(V1, CANARY, 10.0, SHADOW)


async def test_an_unchanged_rollout_stays_the_same_object():
    """Nothing is fetched, replaced or counted, so nothing that hangs on the versions begins anew."""
    world = World(production=V1, canary=CANARY, shadow=CANARY)
    await world.swapper.sync()
    before, fetched = world.models.current, list(world.library.fetched)
    assert await world.swapper.sync() == "version 1 serves already"
    assert world.models.current is before
    assert world.library.fetched == fetched
    assert world.count("succeeded") == 1


async def test_another_digest_is_another_version():
    """What differs in digest is loaded anew."""
    world = World(production=V1)
    await world.swapper.sync()
    world.registry.records["1"] = replace(V1, digest="sha256:9")
    await world.swapper.sync()
    assert world.library.fetched == ["1", "1"]


async def test_a_promoted_canary_is_not_loaded_again():
    """It plays another part, with the same session."""
    world = World(production=V1, canary=CANARY)
    await world.swapper.sync()
    world.registry.aliases = {"production": "2"}
    world.registry.records["2"] = replace(CANARY, alias="production")
    assert await world.swapper.sync("2") == "production 2"
    assert world.library.fetched == ["1", "2"]
    assert world.models.current.primary.record.alias == "production"


async def test_another_weight_loads_nothing():
    """A canary's share grows by a tag."""
    world = World(production=V1, canary=CANARY)
    await world.swapper.sync()
    world.registry.tag("2", WEIGHT_TAG, "50")
    assert "canary 2 at 50 %" in await world.swapper.sync()
    assert world.models.current.canary_weight == 50.0
    assert world.library.fetched == ["1", "2"]


async def test_an_expectation_that_fails_changes_nothing():
    """An operator who expects another version is told which one the registry names."""
    world = World(production=V1)
    await world.swapper.sync("1")
    world.registry.point(production=V2)
    with pytest.raises(ModelRejected, match="names version 2 for production, not 3"):
        await world.swapper.sync("3")
    assert world.serving == ("1", None, None)
    assert world.count("failed") == 1


@pytest.mark.parametrize("error", [ModelRejected("golden[0]"), Unavailable("away"), OSError("disk full")])
async def test_whatever_fails_leaves_the_version_before(error):
    """A refused production, a registry or a disk that fails: nothing changes, nothing is marked, and why is told."""
    world = World(production=V1)
    await world.swapper.sync()
    world.registry.point(production=V2)
    world.refused["2"] = error
    expected = (ModelRejected, Unavailable)
    with pytest.raises(expected, match=str(error).replace("[", r"\[")):
        await world.swapper.sync()
    assert world.serving == ("1", None, None)
    assert world.retired == world.registry.marks == []
    assert (world.count("succeeded"), world.count("failed")) == (1, 1)


@pytest.mark.parametrize(("part", "serving"), [("canary", ("1", None, "3")), ("shadow", ("1", "2", None))])
async def test_a_refused_trial_is_marked_and_production_serves(part, serving):
    """The rest of the roll-out serves; the registry learns why, and so does who asked."""
    world = World(production=V1, canary=CANARY, shadow=SHADOW)
    bad = {"canary": "2", "shadow": "3"}[part]
    world.refused[bad] = ModelRejected("golden[0] is off")
    with pytest.raises(ModelRejected, match=rf"^{part} version {bad}: golden\[0\] is off$"):
        await world.swapper.sync()
    assert world.serving == serving
    assert world.registry.marks == [(bad, "golden[0] is off")]
    assert len(world.library.known.versions) == 2
    await world.swapper.sync()
    assert world.library.fetched.count(bad) == 1, "marked as failed, it is not tried again"


async def test_production_serves_also_when_no_mark_can_be_made():
    """A registry that may only be read: the refused canary stays out, and is not loaded at each look."""
    world = World(production=V1, canary=CANARY)
    world.registry.takes_marks = False
    world.refused["2"] = ModelRejected("NaN")
    with pytest.raises(ModelRejected, match="NaN"):
        await world.swapper.sync()
    assert await world.swapper.sync() == "version 1 serves already"
    assert world.library.fetched.count("2") == 1
    world.registry.takes_marks = True
    await world.swapper.sync()
    assert world.registry.marks == [("2", "NaN")]


async def test_a_bug_in_loading_is_a_rejected_version():
    """What loading lets out, of whatever kind, rejects the version and is counted."""
    world = World(production=V1)
    world.refused["1"] = KeyError("coordinates")
    with pytest.raises(ModelRejected, match="KeyError"):
        await world.swapper.sync()
    assert world.count("failed") == 1


async def test_a_disk_that_keeps_nothing_is_told():
    """The roll-out serves, and who asked learns that it could not be remembered."""
    world = World(production=V1)
    world.library.error = OSError("read-only")
    with pytest.raises(Unavailable, match="cannot be kept: read-only"):
        await world.swapper.sync()
    assert world.serving == ("1", None, None)


@pytest.mark.parametrize("broken", [False, True])
async def test_a_pause_is_told_whatever_becomes_of_the_versions(broken):
    """A fleet that is paused because of a bad version must pause."""
    world = World(production=V1)
    await world.swapper.sync()
    world.registry.paused = "alice"
    if broken:
        world.registry.point(production=V2)
        world.refused["2"] = ModelRejected("bad")
        with pytest.raises(ModelRejected):
            await world.swapper.sync()
    else:
        await world.swapper.sync()
    assert world.told == [None, "alice"]


async def test_one_swap_at_a_time():
    """Two looks at once: the second begins when the first has ended, and finds its work done."""
    world = World(production=V1)
    counting = threading.Lock()
    under_way, most = 0, 0

    def load(_, wanted):
        nonlocal under_way, most
        with counting:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.05)
        with counting:
            under_way -= 1
        return Version(wanted)

    world.swapper._load = load
    answers = await asyncio.gather(world.swapper.sync(), world.swapper.sync())
    assert most == 1
    assert world.library.fetched == ["1"]
    assert answers[1] == "version 1 serves already"


async def test_a_failed_canary_is_marked_and_gone():
    """One tag with the reason; production goes on, and the part is counted."""
    world = World(production=V1, canary=CANARY)
    await world.swapper.sync()
    await world.swapper.fail(world.models.current.canary, "5 of 5")
    assert world.serving == ("1", None, None)
    assert world.registry.marks == [("2", "5 of 5")]
    assert [version.label for version in world.retired] == ["2"]
    labels = {"alias": "canary"}
    assert world.metrics.registry.get_sample_value("heimdall_model_rollbacks_total", labels) == 1


async def test_a_failed_canary_goes_also_while_the_registry_is_away():
    """It serves no longer here; when the registry answers it is marked, and does not come back in between."""
    world = World(production=V1, canary=CANARY)
    await world.swapper.sync()
    world.registry.away = Unavailable("away")
    await world.swapper.fail(world.models.current.canary, "5 of 5")
    assert world.serving == ("1", None, None)
    world.registry.away = None
    await world.swapper.sync()
    assert world.serving == ("1", None, None)
    assert world.registry.marks == [("2", "5 of 5")]
    assert world.library.fetched == ["1", "2"]


async def test_failed_production_gives_way_to_the_version_before():
    """The registry names the version before it, which is loaded."""
    world = World(production=V2)
    world.registry.records["1"] = V1
    world.registry.tag("2", PREVIOUS_TAG, "1")
    await world.swapper.sync()
    await world.swapper.fail(world.models.current.primary, "most items failed")
    assert world.serving == ("1", None, None)


async def test_failed_production_gives_way_where_marks_are_refused():
    """A login that may only read the registry: this worker rolls back all the same."""
    world = World(production=V2)
    world.registry.records["1"] = V1
    world.registry.tag("2", PREVIOUS_TAG, "1")
    world.registry.takes_marks = False
    await world.swapper.sync()
    await world.swapper.fail(world.models.current.primary, "most items failed")
    assert world.serving == ("1", None, None)


async def test_failed_production_without_another_stays_in_place():
    """Nothing else may serve: what is in place is not exchanged for the same, and the failure is marked."""
    world = World(production=V1)
    await world.swapper.sync()
    before = world.models.current
    await world.swapper.fail(before.primary, "most items failed")
    assert world.models.current is before
    assert world.registry.marks == [("1", "most items failed")]


async def test_failed_production_is_marked_when_the_registry_is_back():
    """A registry that was away at the wrong moment does not end the rollback."""
    world = World(production=V2)
    world.registry.records["1"] = V1
    world.registry.tag("2", PREVIOUS_TAG, "1")
    await world.swapper.sync()
    world.registry.away = Unavailable("away")
    await world.swapper.fail(world.models.current.primary, "most items failed")
    assert world.serving == ("2", None, None)
    world.registry.away = None
    await world.swapper.sync()
    assert world.serving == ("1", None, None)


async def test_the_first_version_is_tried_until_one_is_valid(monkeypatch):
    """A start does not end with an error: it waits for a registry, and for a version that may serve."""
    monkeypatch.setattr(swap, "MAX_BACKOFF_S", 0.001)
    world = World()
    world.registry.away = Unavailable("away")
    starting = asyncio.create_task(world.swapper.first())
    await _until(lambda: world.count("failed") >= 1)
    world.registry.away = None  # It answers, and names nothing.
    await _until(lambda: world.count("failed") >= 2)
    assert not starting.done()
    world.registry.point(production=V1)
    await asyncio.wait_for(starting, 10)
    assert world.serving == ("1", None, None)


async def test_what_served_last_serves_while_the_registry_is_down():
    """At a start only; a canary whose files are damaged stays out, and is not blamed in the registry."""
    world = World()
    world.registry.away = Unavailable("away")
    world.library.known = Rollout(V1, CANARY, 10.0, SHADOW)
    world.refused["2"] = ModelRejected("the digest differs")
    await world.swapper.first()
    assert world.serving == ("1", None, "3")
    assert world.models.current.canary_weight == 0.0
    world.registry.away = None
    world.registry.point(production=V1)
    await world.swapper.sync()
    assert world.registry.marks == []


async def test_a_refusal_is_no_reason_to_serve_what_served_last(monkeypatch):
    """A registry that answers is obeyed: an operator may have good reasons that nothing serves."""
    monkeypatch.setattr(swap, "MAX_BACKOFF_S", 0.001)
    world = World()
    world.library.known = Rollout(V1)
    starting = asyncio.create_task(world.swapper.first())
    await _until(lambda: world.count("failed") >= 2)
    starting.cancel()
    assert world.serving is None


async def test_a_poll_survives_what_fails():
    """A worker that missed a command converges at the next look."""
    world = World(production=V1)
    world.registry.away = Unavailable("away")
    polling = asyncio.create_task(world.swapper.poll(0.01))
    await _until(lambda: world.count("failed") >= 2)
    world.registry.away = None
    await _until(lambda: world.serving is not None)
    polling.cancel()
    assert world.serving == ("1", None, None)


async def _until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_start_that_cannot_keep_what_serves_serves_it_all_the_same(monkeypatch):
    """No disk for the memory of it: what the registry names goes on, not what was kept before."""
    monkeypatch.setattr(swap, "MAX_BACKOFF_S", 0.001)
    world = World(production=V2)
    world.library.known = Rollout(V1)
    world.library.error = OSError("no space left")
    await asyncio.wait_for(world.swapper.first(), 5)
    assert world.serving == ("2", None, None)
