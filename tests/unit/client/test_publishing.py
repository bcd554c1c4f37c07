"""What a worker is asked before a recording is published, and what is made of its answer, or of none."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from client import BrokerUnreachable, LocalizationError, LocalizationTimeout, PublishRefused, ReadOptions
from client.journal import Journal
from client.publishing import TRIAL_SESSION, How, Publishing
from client.sources import Source, open_sources
from client.windows import Windows
from tests.unit.client.fakes import rate_mismatch

RATE = 1000.0


@dataclass
class Client:
    """Answers what it is asked as told: with an error, or not at all; and prepares jobs."""

    answers: list[Exception | None]
    asked: list[str] = field(default_factory=list)

    async def request(self, capture: Any, *, job_id: str, session_id: str, **_: Any) -> None:
        """Ask."""
        self.asked.append(session_id if session_id == TRIAL_SESSION else job_id)
        error = self.answers.pop(0)
        if error is not None:
            raise error

    async def prepared(self, capture: Any, job_id: str, options: Any) -> Any:
        """A job."""
        return SimpleNamespace(job_id=job_id, rate=capture.sample_rate)


@dataclass
class Sender:
    """Has a confirm for everything."""

    sent: list[Any] = field(default_factory=list)

    async def submit(self, job: Any, confirmed: Any) -> None:
        """Publish."""
        self.sent.append(job)
        confirmed()


@dataclass
class Desk:
    """A publisher whose client answers as told."""

    answers: list[Exception | None]
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Join the parts."""
        self.client, self.sender = Client(self.answers), Sender()
        how = How(windows=Windows(0.1), options=self.options, ask_s=1.0)  # type: ignore[arg-type]
        self.publishing = Publishing(self.client, self.sender, how, Journal(None), lambda _: None)  # type: ignore[arg-type]

    async def publish(self, source: Source) -> list[float]:
        """Publish a recording; the rates of its jobs that went through the sender."""
        before = len(self.sender.sent)
        await self.publishing.publish(source)
        return [job.rate for job in self.sender.sent[before:]]


def recording(folder: Path, name: str) -> Source:
    """Half a second: five windows."""
    np.save(folder / f"{name}.npy", np.ones((1, 500), np.complex64))
    (source,) = open_sources(folder / f"{name}.npy", ReadOptions(sample_rate=RATE))
    return source


def other_rate(rate: float) -> LocalizationError:
    """The model takes another rate."""
    return LocalizationError(rate_mismatch("j", rate))


@pytest.mark.parametrize(
    "error", [PublishRefused("j", "the queue is full", retriable=True), BrokerUnreachable("no connection")]
)
async def test_a_broker_that_takes_no_question_is_left_to_the_sender(tmp_path: Path, error: Exception) -> None:
    """It has patience; a question has none. The next recording is asked about again."""
    desk = Desk([error, None])
    assert await desk.publish(recording(tmp_path, "one")) == [RATE] * 5
    assert await desk.publish(recording(tmp_path, "two")) == [RATE] * 4
    assert len(desk.client.asked) == 2


async def test_silence_is_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked again for a while; then a worker that runs by now is heard, and its word stands."""
    desk = Desk([LocalizationTimeout("j", "no worker"), other_rate(500.0)])
    for name in ("one", "two"):
        assert await desk.publish(recording(tmp_path, name)) == [RATE] * 5
    assert len(desk.client.asked) == 1
    desk.publishing._unasked_until = 0.0
    for name in ("three", "four"):
        assert await desk.publish(recording(tmp_path, name)) == [500.0] * 5
    assert len(desk.client.asked) == 2


@pytest.mark.parametrize(("above", "trial"), [(100, True), (10_000, False)])
async def test_what_will_be_a_reference_is_not_asked_about_by_its_body(tmp_path: Path, above: int, trial: bool) -> None:  # noqa: FBT001
    """Under the same job id it would be other input, which is a conflict."""
    desk = Desk([None], {"store": SimpleNamespace(above_bytes=above)})
    sent = await desk.publish(recording(tmp_path, "one"))
    assert (desk.client.asked == [TRIAL_SESSION]) == trial
    assert len(sent) == (5 if trial else 4)
