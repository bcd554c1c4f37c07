"""Simulated transmitters that move, and their publisher: something to look at on `heimdall map`.

Each walks on a closed curve within the network and is a session of its own; captures carry the time at which they are
made. Every figure that comes of it is of simulated scenes.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from client import Capture, HeimdallClient, Receiver
from examples.network import Network
from examples.propagation import SHADOWING_SIGMA_DB, Scenes, draw_present, mean_received_dbm
from examples.scenes import interleaved, receivers_json
from examples.simulator import SAMPLE_RATE_HZ, receive

ROUND_S: Final = 180.0
"""A source is back where it began."""
RADIUS_M: Final = 11_000.0
TOO_SHORT: Final = 100
"""Samples per receiver that no model takes."""
CI16_BYTES: Final = 4

Published = Callable[[str], None]


@dataclass(frozen=True)
class MovingSource:
    """A transmitter on an ellipse round the network's origin.

    Attributes:
        session_id: names it.
        phase: where on its way it begins, in turns.
        narrowness: minor by major axis.
        tilt_rad: of the major axis, counter-clockwise from east.
        shadowing_db: what each receiver hears more or less of it than its distance says (R,).
    """

    session_id: str
    phase: float
    narrowness: float
    tilt_rad: float
    shadowing_db: np.ndarray[Any, np.dtype[np.float64]]

    def position_m(self, elapsed_s: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        """East and north of the network's origin, metres (2,)."""
        angle = 2 * np.pi * (self.phase + elapsed_s / ROUND_S)
        along, across = RADIUS_M * np.cos(angle), RADIUS_M * self.narrowness * np.sin(angle)
        cosine, sine = np.cos(self.tilt_rad), np.sin(self.tilt_rad)
        return np.array([along * cosine - across * sine, along * sine + across * cosine])


def moving_sources(network: Network, count: int, seed: int) -> list[MovingSource]:
    """Sources that differ in everything; the same arguments give the same ones."""
    rng = np.random.default_rng(seed)
    return [
        MovingSource(
            f"source-{index + 1}",
            index / count,
            rng.uniform(0.3, 0.8),
            rng.uniform(0, np.pi),
            SHADOWING_SIGMA_DB * rng.standard_normal(len(network.sites)),
        )
        for index in range(count)
    ]


def capture_of(network: Network, source: MovingSource, elapsed_s: float, rng: np.random.Generator) -> Capture:
    """What the network records of a source at this moment."""
    truth_m = source.position_m(elapsed_s)[np.newaxis]
    received_dbm = mean_received_dbm(network, truth_m) + source.shadowing_db
    present = draw_present(received_dbm.shape, network.max_missing, rng)
    reception = receive(network, Scenes(truth_m, received_dbm, present), 0, rng)
    places = receivers_json(network, reception.present, reception.full_scale_dbm)
    return Capture(
        samples=interleaved(reception),
        datatype="ci16_le",
        channels=len(places),
        sample_rate=SAMPLE_RATE_HZ,
        center_frequency=network.frequency_hz,
        receivers=[Receiver.model_validate(place) for place in places],
        capture_time=datetime.now(UTC).isoformat(),
    )


def too_short(capture: Capture) -> Capture:
    """The beginning of a capture, which a worker answers with an error."""
    assert isinstance(capture.samples, bytes)
    return replace(capture, samples=capture.samples[: TOO_SHORT * capture.num_channels * CI16_BYTES])


async def publish_sources(
    url: str,
    network: Network,
    *,
    sources: int = 5,
    rate_hz: float = 5.0,
    bad_every: int = 0,
    seed: int = 1,
    published: Published = lambda _: None,
) -> None:
    """Publish captures of the sources in turn, until cancelled.

    Args:
        url: of the broker.
        network: whose receivers record.
        sources: how many.
        rate_hz: jobs per second, of all sources together.
        bad_every: each so manieth job is too short; 0 = none.
        seed: of everything random.
        published: told each job id.
    """
    loop, rng = asyncio.get_running_loop(), np.random.default_rng(seed)
    began_s = loop.time()
    async with HeimdallClient(url) as client:
        for number, source in _in_turn(moving_sources(network, sources, seed)):
            await asyncio.sleep(max(0.0, began_s + number / rate_hz - loop.time()))
            capture = await asyncio.to_thread(capture_of, network, source, loop.time() - began_s, rng)
            if bad_every and number % bad_every == bad_every - 1:
                capture = too_short(capture)
            published(await client.publish(capture, session_id=source.session_id, confidence=[0.5, 0.9]))


def _in_turn(sources: list[MovingSource]) -> Iterator[tuple[int, MovingSource]]:
    return enumerate(itertools.cycle(sources))
