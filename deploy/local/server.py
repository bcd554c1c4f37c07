"""What every server of the stack can do, whoever runs it."""

from collections.abc import Sequence
from typing import NoReturn, Protocol

from deploy.local.errors import NotControllable


class Controls(Protocol):
    """The hand on one server's process. Data and port survive `stop` and `kill`; `start` returns when it is ready."""

    @property
    def pid(self) -> int:
        """The process that serves; another one after a restart."""

    def start(self) -> None:
        """Start a stopped or killed server on its old port and data; returns when it answers."""

    def stop(self) -> None:
        """End it in good order."""

    def kill(self) -> None:
        """End it by SIGKILL."""

    def pause(self) -> None:
        """Stop its clock: connections stay, nothing answers."""

    def resume(self) -> None:
        """Undo `pause`."""

    def execute(self, argv: Sequence[str]) -> str:
        """Run one of the server's own tools beside it and return what it printed."""


class NoControls:
    """A server given by URL: every method refuses, and says which variable to unset."""

    def __init__(self, name: str, variable: str) -> None:
        self._reason = (
            f"{name} comes from {variable} and is not ours to control; unset it to have a private one started"
        )

    @property
    def pid(self) -> int:
        """Refuse."""
        self._refuse()

    def start(self) -> None:
        """Refuse."""
        self._refuse()

    def stop(self) -> None:
        """Refuse."""
        self._refuse()

    def kill(self) -> None:
        """Refuse."""
        self._refuse()

    def pause(self) -> None:
        """Refuse."""
        self._refuse()

    def resume(self) -> None:
        """Refuse."""
        self._refuse()

    def execute(self, argv: Sequence[str]) -> str:
        """Refuse."""
        del argv
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotControllable(self._reason)


class Server:
    """A running server: where it is, and the hand on it."""

    def __init__(self, url: str, controls: Controls) -> None:
        self.url = url
        self._controls = controls

    @property
    def pid(self) -> int:
        """The process that serves (on Docker: as the host sees it)."""
        return self._controls.pid

    def start(self) -> None:
        """Start again after `stop` or `kill`, with the same data on the same port; returns when ready."""
        self._controls.start()

    def stop(self) -> None:
        """End it in good order; its data stay for `start`."""
        self._controls.stop()

    def kill(self) -> None:
        """End it by SIGKILL, as a power cut would."""
        self._controls.kill()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and silent."""
        self._controls.pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        self._controls.resume()
