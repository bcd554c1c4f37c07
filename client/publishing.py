"""Publishing recordings: every window a job, at the rate the model takes, each once."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from client.capture import Capture
from client.client import HeimdallClient
from client.errors import BrokerUnreachable, LocalizationError, LocalizationTimeout, PublishRefused
from client.journal import Journal
from client.options import PublishOptions
from client.replies import model_rate
from client.sending import Sender
from client.sources import Source, identity, slug
from client.windows import NANOSECONDS, Stretch, Windows
from schemas.problems import ErrorCode

logger = logging.getLogger(__name__)

LARGEST_TRIAL_BYTES: Final = 1024 * 1024
"""Of a larger first window its beginning is tried."""
ASK_AGAIN_S: Final = 60.0
"""After a question that nobody answered; else every recording would be held up while no worker runs."""
TRIAL_SESSION: Final = "heimdall-publish-trial"
"""Of such beginnings: whoever follows a session does not see them."""
_CF32_BYTES: Final = 8
_OF_THE_JOB_ALONE: Final = frozenset(
    {ErrorCode.INTERNAL, ErrorCode.CRASHES_WORKER, ErrorCode.EXPIRED, ErrorCode.INFERENCE_FAILED}
)
"""Errors of a first window that say nothing of the others."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A window that the broker has."""

    source: str
    session_id: str
    job_id: str
    stretch: Stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How recordings are published.

    Attributes:
        windows: how they are cut.
        options: of each job; without `session_id` the recording's name is the session.
        resample: hertz; None = the recording's own, unless the model takes another.
        ask_s: seconds to wait for a worker's word on the first window of a recording; 0 = do not ask.
        compact: send 16-bit integers.
        realtime: publish no faster than it was recorded.
    """

    windows: Windows
    options: PublishOptions
    resample: float | None = None
    ask_s: float = 0.0
    compact: bool = False
    realtime: bool = False


class Publishing:
    """Publishes recordings over one client.

    Args:
        client: open.
        sender: over the client's connection.
        how: see there.
        journal: what was confirmed before.
        confirmed: told of each window.
    """

    def __init__(
        self,
        client: HeimdallClient,
        sender: Sender,
        how: How,
        journal: Journal,
        confirmed: Callable[[Confirmed], None],
    ) -> None:
        self._client = client
        self._sender = sender
        self._how = how
        self._journal = journal
        self._confirmed = confirmed
        self._accepted: dict[float, float] = {}
        """The rate that a worker takes recordings of a rate at, by a worker's own word."""
        self._unasked_until = 0.0

    def todo(self, source: Source) -> list[Stretch]:
        """The windows of a recording that no run has published yet."""
        key = self._key(source)
        return [
            one for one in self._how.windows.stretches(source.duration_s) if not self._journal.holds(key, one.index)
        ]

    async def publish(self, source: Source) -> None:
        """Publish what is left of a recording; returns when all of it is submitted, and much of it confirmed.

        Raises:
            CaptureError: it cannot be read or sent.
            LocalizationError: a worker refuses its first window, and would refuse the others.
            PublishRefused, BrokerUnreachable: see `Sender.submit`.
        """
        todo = self.todo(source)
        if not todo:
            return
        rate = self._how.resample or await self._rate(source, todo[0])
        key, began = self._key(source), time.monotonic()
        for stretch in todo:
            if self._journal.holds(key, stretch.index):  # The one that was asked about.
                continue
            if self._how.realtime:
                due = began + (stretch.start_ns - todo[0].start_ns) / NANOSECONDS + (stretch.duration_s or 0.0)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._submit(source, key, stretch, rate)

    async def _submit(self, source: Source, key: str, stretch: Stretch, rate: float) -> None:
        capture = await asyncio.to_thread(self._read, source, stretch, rate)
        job_id = self._job_id(source, key, stretch, rate)
        job = await self._client.prepared(capture, job_id, {**self._how.options, "session_id": self._session(source)})
        await self._sender.submit(job, partial(self._on_confirm, source, key, stretch, job_id))

    async def _rate(self, source: Source, first: Stretch) -> float:
        """The rate that a worker takes a recording at; its own, where no worker says."""
        own = source.sample_rate
        if self._how.ask_s and own not in self._accepted and time.monotonic() >= self._unasked_until:
            wanted = await self._ask(source, first)
            if wanted is not None:
                self._accepted[own] = wanted
                if wanted != own:
                    logger.info("%s: the model takes %.12g S/s, not %.12g: resampled", source.name, wanted, own)
        return self._accepted.get(own, own)

    async def _ask(self, source: Source, first: Stretch) -> float | None:
        """Have a worker answer the first window; one too large for a message is tried by its beginning.

        Returns:
            The rate that a worker takes it at; None where none says.
        """
        capture = await asyncio.to_thread(self._read, source, first, source.sample_rate)
        key, options = self._key(source), self._how.options
        job_id, session = self._job_id(source, key, first, source.sample_rate), self._session(source)
        store = options.get("store")
        # What is published later as a reference would be other input under the same job id.
        inline = LARGEST_TRIAL_BYTES if store is None else min(LARGEST_TRIAL_BYTES, store.above_bytes)
        whole = len(capture.body()) <= inline
        if not whole:
            capture, job_id, session = _beginning(capture), f"{job_id}.trial", TRIAL_SESSION
        try:
            await self._client.request(
                capture,
                job_id=job_id,
                session_id=session,
                confidence=options.get("confidence"),
                timeout=self._how.ask_s,
                expire=False,  # A job that waits for the first worker must not come to its end as expired.
            )
        except LocalizationTimeout:
            own = f"published at its own {source.sample_rate:.12g} S/s"
            logger.info("%s: no worker answered within %g s; %s", source.name, self._how.ask_s, own)
            self._unasked_until = time.monotonic() + ASK_AGAIN_S
            return None
        except (PublishRefused, BrokerUnreachable) as error:  # The sender waits for either, as long as it may.
            logger.info("%s: not asked: %s", source.name, error)
            return None
        except LocalizationError as error:
            return self._refused(source, error)
        if whole:
            self._on_confirm(source, key, first, job_id)
        return source.sample_rate

    def _refused(self, source: Source, error: LocalizationError) -> float | None:
        if error.code is ErrorCode.SAMPLE_RATE_MISMATCH and (rate := model_rate(error.problem)) is not None:
            return rate
        if error.code not in _OF_THE_JOB_ALONE:
            raise error
        logger.warning("%s: the first window: %s", source.name, error)
        return None

    def _on_confirm(self, source: Source, key: str, stretch: Stretch, job_id: str) -> None:
        self._journal.add(key, stretch.index)
        self._confirmed(Confirmed(source.name, self._session(source), job_id, stretch))

    def _session(self, source: Source) -> str:
        return self._how.options.get("session_id") or slug(source.name)

    def _read(self, source: Source, stretch: Stretch, rate: float) -> Capture:
        capture = source.read(stretch, rate)
        if not self._how.compact or capture.datatype == "ci16_le":
            return capture
        return replace(capture, samples=capture.array(), datatype="ci16_le", channels=None)

    def _key(self, source: Source) -> str:
        """Of a recording as it is now and is cut here: the same in every run."""
        windows = self._how.windows
        cut = f"{identity(source.files)} {source.name} {windows.window_s} {windows.hop_s}"
        return hashlib.sha256(cut.encode()).hexdigest()[:16]

    def _job_id(self, source: Source, key: str, stretch: Stretch, rate: float) -> str:
        """The same for the same window in a run that goes on: a window published twice is one job."""
        made = f"{self._journal.run} {key} {rate!r} {self._how.compact}"
        return f"{slug(source.name)}-{hashlib.sha256(made.encode()).hexdigest()[:12]}-{stretch.index:06d}"


def _beginning(capture: Capture) -> Capture:
    count = max(1, LARGEST_TRIAL_BYTES // (_CF32_BYTES * capture.num_channels))
    return replace(capture, samples=capture.array()[:, :count], datatype="cf32_le", channels=None, windows=())
