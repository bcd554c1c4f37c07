"""RabbitMQ and Redis as containers, for a user with a Docker engine and nothing else."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from docker import from_env  # type: ignore[import-untyped]
from docker.errors import DockerException  # type: ignore[import-untyped]
from testcontainers.core.container import DockerContainer

from deploy.local.errors import LocalStackError, StartFailed
from deploy.local.process import POLL_S
from deploy.local.server import Controls

ENGINE_TIMEOUT_S = 5
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30


@cache
def engine_answers() -> bool:
    """Whether a Docker engine answers a ping; asked once per process."""
    try:
        client = from_env(timeout=ENGINE_TIMEOUT_S)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (DockerException, OSError):
        return False


class ContainerControls:
    """The hand on one container; its ports are fixed, so that a restart keeps the URL."""

    def __init__(self, container: DockerContainer, answers: Callable[[], bool]) -> None:
        self._container = container
        self._answers = answers

    @property
    def pid(self) -> int:
        """The container's first process as the engine's host sees it."""
        container = self._wrapped()
        container.reload()
        return int(container.attrs["State"]["Pid"])

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._wrapped().start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Poll until the server answers.

        Raises:
            StartFailed: It did not in time; the message carries the container's log.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"container {self._container.image}: no answer within {START_TIMEOUT_S:g} s\n{self._log()}"
                )
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop it in good order; its file system stays."""
        self._wrapped().stop(timeout=STOP_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL."""
        self._wrapped().kill()

    def pause(self) -> None:
        """Freeze its control group."""
        self._wrapped().pause()

    def resume(self) -> None:
        """Thaw it."""
        self._wrapped().unpause()

    def execute(self, argv: Sequence[str]) -> str:
        """Run a command inside the container.

        Raises:
            LocalStackError: It ended with another code than 0.
        """
        code, output = self._wrapped().exec_run(list(argv))
        text = bytes(output).decode(errors="replace")
        if code != 0:
            raise LocalStackError(f"{' '.join(argv)} ended with code {code}: {text.strip()}")
        return text

    def _log(self) -> str:
        return bytes(self._wrapped().logs(tail=30)).decode(errors="replace")

    def _wrapped(self) -> Any:
        return self._container.get_wrapped_container()


@contextmanager
def running(
    image: str, ports: Mapping[int, int], answers: Callable[[], bool], command: Sequence[str] = ()
) -> Iterator[Controls]:
    """Run an image with its ports (inside → on 127.0.0.1) until the block ends."""
    container = DockerContainer(image).with_command(list(command))
    published = cast("dict[str, Any]", container.ports)
    published.update({f"{inside}/tcp": ("127.0.0.1", outside) for inside, outside in ports.items()})
    with container:
        controls = ContainerControls(container, answers)
        controls.wait_ready()
        yield controls
