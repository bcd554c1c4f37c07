"""A registry that does not answer, and a disk that takes no model."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from bench.chaos import broker_side
from bench.chaos.workers import WORKER, Worker
from bench.chaos.world import World
from tests.support.models import LATITUDE, write_model
from worker.serving.registry import Registry

_STARTED_S: Final = 90.0
_CONVERGED_S: Final = 60.0
_DISK: Final = "1m"
_CHUNK: Final = b"\0" * 4096
_MOUNT: Final = 'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"'
"""In a mount namespace of the worker's own: the small disk goes with its last process."""


def registry_down(world: World) -> None:
    """15: the registry down at a start and at a reload."""
    state = {"HEIMDALL_STATE_DIR": str(world.directory / "state")}
    (serving,) = world.fleet(1, env=state)
    with world.load():
        world.answers(50)
        with world.disturbance(), locked(world.directory / "mlflow.db"):
            answer = broker_side.command(world.amqp_url, "reload", timeout=60.0)
            world.check(
                "reload is refused", answer.get("ok") is False, answer.get("detail", "no answer"), "with the reason"
            )
            (remembering,) = world.fleet(1, env=state, wait=False)
            world.within("a start with what served last", remembering.ready, _STARTED_S, _STARTED_S)
            (waiting,) = world.fleet(1, wait=False)
            world.within(
                "a start without it lives", lambda: waiting.page("/health/live")[0] == 200, _STARTED_S, _STARTED_S
            )
            world.calm(world.scale.pick(2.0, 10.0))
            world.check("and takes no jobs", not waiting.ready(), waiting.page("/health/ready")[1], "not ready")
        world.within("it serves when the registry is back", waiting.ready, _CONVERGED_S, _CONVERGED_S)
        answer = broker_side.command(world.amqp_url, "reload", timeout=60.0)
        world.check("reload is obeyed again", answer.get("ok") is True, answer.get("detail", "no answer"), "obeyed")
    world.settle()
    known = [bool(worker.events("model.serving_last_known")) for worker in (serving, remembering, waiting)]
    world.check("who served what was known last", known == [False, True, False], known, "the second alone")


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """A registry whose database answers nobody."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=30.0)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def disk_full(world: World) -> None:
    """17: no room on the disk for the model's download."""
    disk = world.directory / "disk"
    disk.mkdir(parents=True, exist_ok=True)
    namespace = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount"]
    argv = [*namespace, "sh", "-c", _MOUNT, _DISK, str(disk), *WORKER]
    env = {"TMPDIR": str(disk), "HEIMDALL_STATE_DIR": str(disk / "state")}
    (worker,) = world.fleet(1, argv=argv, env=env)
    with world.load():
        world.answers(50)
        model = write_model(world.directory / "next.onnx", latitude=LATITUDE + 1.0)
        version = Registry(world.tracking_uri, "heimdall").register(model)
        with world.disturbance():
            filler = _fill(worker, disk)
            answer = broker_side.command(world.amqp_url, "reload", timeout=60.0)
            detail = str(answer.get("detail", "no answer"))
            world.check("reload is refused", answer.get("ok") is False, detail, "with the reason")
            world.check("the reason names the disk", "space" in detail.lower(), detail, "no space left")
            world.check("version 1 serves on", serving(worker) == ["1"], serving(worker), ["1"])
            world.answers(20)
            filler.unlink()
        answer = broker_side.command(world.amqp_url, "reload", timeout=60.0)
        world.check(
            "with room, reload is obeyed", answer.get("ok") is True, answer.get("detail", "no answer"), "obeyed"
        )
        world.check("the new version serves", serving(worker) == [version], serving(worker), [version])
        world.answers(20)
    world.settle()
    world.check("the worker lived", not worker.codes, worker.codes, "no restart")


def serving(worker: Worker) -> list[str]:
    """Versions that serve, as it says."""
    return [str(version["version"]) for version in json.loads(worker.page("/model/versions")[1] or "[]")]


def _fill(worker: Worker, disk: Path) -> Path:
    """Take all room on the worker's disk; the file that holds it."""
    filler = Path(f"/proc/{worker.process.pid}/root{disk}/filler")
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(_CHUNK):
            pass
    return filler
