"""Start of a worker: settings → logs → service → exit code."""

import os
import sys

# One core computes features while the other runs the model: a product of matrices must not fan out.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import asyncio

import structlog
import uvloop
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from worker.config import ENV_PREFIX, Settings, unknown_variables
from worker.errors import SettingRefused
from worker.service import Service
from worker.telemetry import tracing
from worker.telemetry.logs import configure

log = structlog.get_logger(__name__)

EXIT_SETTINGS = 2
SWITCH_INTERVAL_S = 0.0002
"""How long a thread may keep the interpreter: at the usual 5 ms each of a job's dozens of steps that let go of it would
wait that long while another thread reads the registry."""


def main() -> int:
    """Run a worker; its exit code."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            print(f"heimdall-worker: {_explain(problem)}", file=sys.stderr)  # noqa: T201
        return EXIT_SETTINGS
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    configure(settings.log_level, settings.log_format, settings.instance)
    tracing.configure(settings.instance)
    for name, known in unknown_variables(os.environ).items():
        log.warning("settings.unknown", variable=name, resembles=known)

    async def serve() -> int:
        try:
            return await Service(settings).run()
        except SettingRefused as error:
            log.critical("settings.refused", error=str(error))
            return EXIT_SETTINGS
        finally:
            await asyncio.to_thread(tracing.shutdown)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve())


def _explain(problem: ErrorDetails) -> str:
    """What is wrong with which variable; a check of several settings names theirs itself."""
    said = problem["msg"].removeprefix("Value error, ")
    return f"{ENV_PREFIX}{str(problem['loc'][0]).upper()}: {said}" if problem["loc"] else said


if __name__ == "__main__":
    sys.exit(main())
