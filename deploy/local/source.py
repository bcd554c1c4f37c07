"""Where a server comes from: a URL, an installed binary, a container, or a package, in this order."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

from deploy.local import apt, containers
from deploy.local.errors import MissingProgram
from deploy.local.server import Server

ServerT = TypeVar("ServerT", bound=Server)


@dataclass(frozen=True)
class Source(Generic[ServerT]):
    """The ways to one kind of server. Each way is a context manager that yields it ready."""

    name: str
    variable: str
    package: str
    installed: Callable[[], bool]
    external: Callable[[str], AbstractContextManager[ServerT]]
    private: Callable[[], AbstractContextManager[ServerT]]
    container: Callable[[], AbstractContextManager[ServerT]]

    def open(self) -> AbstractContextManager[ServerT]:
        """Choose the first way that works here.

        Raises:
            MissingProgram: None does; the message lists what would help.
        """
        url = os.environ.get(self.variable, "")
        if url:
            return self.external(url)
        if self.installed():
            return self.private()
        if containers.engine_answers():
            return self.container()
        self._install()
        return self.private()

    def _install(self) -> None:
        if not apt.possible():
            raise MissingProgram(self._advice())
        apt.install(self.package, self.installed)

    def _advice(self) -> str:
        return (
            f"{self.name} is missing: {self.variable} is not set, no installed {self.package} was found, no Docker"
            " engine answers, and packages can only be installed as root where there is apt-get. One of these helps:\n"
            f"  - sudo apt-get install {self.package}\n"
            "  - start a Docker engine that this user may talk to\n"
            f"  - set {self.variable} to a server that may be used for tests"
        )
