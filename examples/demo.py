"""`make demo`: sixty simulated scenes through a real RabbitMQ, Redis, registry and worker.

Prints a table, writes GeoJSON and a map, and ends with one line of figures. Every figure is of simulated scenes.
"""

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from client import Capture, HeimdallClient, HeimdallError, LocalizationResult, Receiver
from deploy.local import ServiceProcess, Stack
from deploy.local.command import run_command
from examples.map_picture import draw
from examples.network import NETWORKS, Network
from examples.scenes import FreshScene, fresh_scenes
from worker.geo.ellipse import chi_square_scale
from worker.geo.wgs84 import geodesic_distance_m, wgs84_to_enu
from worker.serving.registry import Registry

MODELS: Final = Path(__file__).parent / "models"
OUT: Final = Path("out/demo")
MODEL_NAME: Final = "heimdall"
JOBS: Final = 60
SEED: Final = 1
CONFIDENCES: Final = (0.5, 0.9)
PACE_S: Final = 0.05
TIMEOUT_S: Final = 30.0
SHOWN: Final = 12


@dataclass(frozen=True)
class Located:
    """A scene, its answer, and what it cost.

    Attributes:
        latency_s: from publish to reply.
    """

    scene: FreshScene
    answer: LocalizationResult | HeimdallError
    latency_s: float

    @property
    def error_m(self) -> float:
        """Distance of the fix from the truth."""
        position = self.result.position
        truth = self.scene.latitude_deg, self.scene.longitude_deg
        return float(geodesic_distance_m(position.latitude, position.longitude, *truth))

    @property
    def result(self) -> LocalizationResult:
        """The answer, where it is a result."""
        assert isinstance(self.answer, LocalizationResult)
        return self.answer

    def covered(self, confidence: float) -> bool:
        """Whether the truth lies within the ellipse of that confidence."""
        position = self.result.position
        offset = np.array(
            wgs84_to_enu(position.latitude, position.longitude, self.scene.latitude_deg, self.scene.longitude_deg)
        ).reshape(2)
        distance = offset @ np.linalg.solve(np.array(self.result.covariance_m2), offset)
        return bool(distance <= chi_square_scale(confidence) ** 2)


def register_demo_model(tracking_uri: str, name: str = MODEL_NAME, network: str = "torino") -> int:
    """Register the committed model of a network as production.

    Args:
        tracking_uri: of the registry.
        name: of the registered model.
        network: key in `NETWORKS`.

    Returns:
        The version.
    """
    return int(Registry(tracking_uri, name).register(MODELS / f"{network}.onnx"))


def capture_of(scene: FreshScene) -> Capture:
    """The scene as a client sends it."""
    info, first = scene.metadata["global"], scene.metadata["captures"][0]
    return Capture(
        samples=scene.body,
        datatype=info["core:datatype"],
        channels=info["core:num_channels"],
        sample_rate=info["core:sample_rate"],
        center_frequency=first["core:frequency"],
        receivers=[Receiver.model_validate(receiver) for receiver in info["heimdall:receivers"]],
    )


async def locate_all(url: str, scenes: Sequence[FreshScene], progress: Progress) -> list[Located]:
    """Publish the scenes, one every 50 ms, and collect the answers."""
    task = progress.add_task("locating", total=len(scenes))

    async with HeimdallClient(url) as client:

        async def one(index: int, scene: FreshScene) -> Located:
            await asyncio.sleep(index * PACE_S)
            started = time.perf_counter()
            answer: LocalizationResult | HeimdallError
            try:
                answer = await client.locate(
                    capture_of(scene), session_id=f"demo-{index % 6}", confidence=list(CONFIDENCES), timeout=TIMEOUT_S
                )
            except HeimdallError as error:
                answer = error
            progress.advance(task)
            return Located(scene, answer, time.perf_counter() - started)

        return await asyncio.gather(*(one(index, scene) for index, scene in enumerate(scenes)))


def table_of(located: Sequence[Located]) -> Table:
    """The first answers, to look at."""
    table = Table(
        title=f"The first {min(SHOWN, len(located))} of {len(located)} simulated scenes", title_justify="left"
    )
    for column in ("fix: lat", "lon", "error", "90 % ellipse", "holds truth", "receivers", "latency"):
        table.add_column(column, justify="right", no_wrap=True)
    for item in located[:SHOWN]:
        position, ellipse = item.result.position, item.result.ellipses[CONFIDENCES.index(0.9)]
        table.add_row(
            f"{position.latitude:.4f}",
            f"{position.longitude:.4f}",
            f"{item.error_m / 1000:.1f} km",
            f"{ellipse.semi_major_m / 1000:.1f} x {ellipse.semi_minor_m / 1000:.1f} km",
            "yes" if item.covered(0.9) else "no",
            str(len(item.result.receivers_used)),
            f"{1000 * item.latency_s:.0f} ms",
        )
    return table


def write_outputs(located: Sequence[Located], network: Network) -> None:
    """`results.geojson` and `map.png` in `out/demo`."""
    features = [feature for item in located for feature in item.result.geojson["features"]]
    collection = {"type": "FeatureCollection", "features": features}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "results.geojson").write_text(json.dumps(collection, separators=(",", ":")))
    truths = [(item.scene.latitude_deg, item.scene.longitude_deg) for item in located]
    draw(collection, truths, network, OUT / "map.png")


def summary(located: Sequence[Located], answered: Sequence[Located]) -> str:
    """The last line."""
    errors_km = [item.error_m / 1000 for item in answered]
    latencies_ms = [1000 * item.latency_s for item in answered]
    figures = {
        "jobs": str(len(located)),
        "results": str(len(answered)),
        "errors": str(len(located) - len(answered)),
        "median_error_km": f"{np.median(errors_km):.2f}" if answered else "none",
        "coverage90": f"{np.mean([item.covered(0.9) for item in answered]):.2f}" if answered else "none",
        "p50_ms": f"{np.percentile(latencies_ms, 50):.1f}" if answered else "none",
        "p95_ms": f"{np.percentile(latencies_ms, 95):.1f}" if answered else "none",
    }
    return "demo: " + " ".join(f"{name}={value}" for name, value in figures.items())


def run(network: Network, jobs: int, seed: int, console: Console) -> int:
    """The whole demo; 0 only if every job has a result."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console.print(f"simulating {jobs} scenes of {network.title} …")
    scenes = list(fresh_scenes(network, jobs, seed))
    console.print("starting RabbitMQ and Redis …")
    with Stack.running() as stack:
        console.print("registering the model …")
        register_demo_model(stack.tracking_uri, network=network.name)
        console.print("starting a worker …")
        with (
            ServiceProcess([sys.executable, "-m", "worker"], stack.worker_env()),
            Progress(*columns, console=console) as progress,
        ):
            gc.freeze()  # Else a full collection in mid-run would show as the latency of some job.
            located = asyncio.run(locate_all(stack.broker.url, scenes, progress))
    answered = [item for item in located if isinstance(item.answer, LocalizationResult)]
    for item in located:
        if isinstance(item.answer, HeimdallError):
            console.print(f"[red]no result:[/red] {item.answer}")
    if answered:
        console.print(table_of(answered))
        write_outputs(answered, network)
        console.print(f"written: {OUT}/results.geojson, {OUT}/map.png")
    print(summary(located, answered))
    return 0 if len(answered) == len(located) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="torino", choices=sorted(NETWORKS))
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args(argv)
    return run_command(lambda: run(NETWORKS[arguments.network], arguments.jobs, arguments.seed, Console()))


if __name__ == "__main__":
    sys.exit(main())
