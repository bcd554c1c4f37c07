"""A RabbitMQ node of our own: ports, data, cookie and epmd shared with nobody."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from deploy.local.errors import LocalStackError, MissingProgram
from deploy.local.ports import PortLease
from deploy.local.process import OwnedProcess

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
TOOL_TIMEOUT_S = 60.0
LOOPBACK = "127.0.0.1"

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""The packages' commands in /usr/sbin change to the rabbitmq user; those they call, here, run as whoever calls them."""

PLUGINS = "rabbitmq_management"


def scripts() -> Path | None:
    """Return the directory of RabbitMQ's own scripts, or None where it is not installed."""
    if (SCRIPTS / "rabbitmq-server").exists():
        return SCRIPTS
    found = shutil.which("rabbitmq-server")
    return Path(found).resolve().parent if found else None


class RabbitNode:
    """One private node and the epmd it registers with; the `Controls` of a broker.

    `stop`, `kill` and `start` act on the node; epmd runs from the first `start` to `close`.
    """

    def __init__(self, *, management: bool, config: Mapping[str, str], answers: Callable[[str, int], bool]) -> None:
        self._answers = answers
        self._home = Path(tempfile.mkdtemp(prefix="heimdall-rabbitmq-"))
        self._leases = {role: PortLease.take() for role in ("amqp", "dist", "epmd", "http")}
        self._management = management
        self._write_files(config)
        self._env = self._environment()
        self._epmd = OwnedProcess("epmd", self._epmd_command(), self._env, self._home / "epmd.log")
        self._server = OwnedProcess(
            "RabbitMQ", [self._script("rabbitmq-server")], self._env, self._home / "rabbitmq.log"
        )

    @property
    def port(self) -> int:
        """Where it speaks AMQP."""
        return self._leases["amqp"].port

    @property
    def management_url(self) -> str | None:
        """Where it speaks HTTP, if asked to."""
        return f"http://guest:guest@{LOOPBACK}:{self._leases['http'].port}" if self._management else None

    @property
    def pid(self) -> int:
        """The Erlang machine itself: the script replaces itself by it."""
        return self._server.pid

    def start(self) -> None:
        """Start the node (and, the first time, epmd); returns when the broker opens an AMQP handshake."""
        if not self._epmd.running:
            self._epmd.start()
            self._epmd.wait_ready(self._epmd_listens, START_TIMEOUT_S, "a listening socket")
        self._server.start()
        self._server.wait_ready(lambda: self._answers(LOOPBACK, self.port), START_TIMEOUT_S, "an AMQP handshake")

    def stop(self) -> None:
        """SIGTERM, which RabbitMQ takes as an orderly shutdown."""
        self._server.stop(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL."""
        self._server.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        self._server.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._server.resume()

    def execute(self, argv: Sequence[str]) -> str:
        """Run one of RabbitMQ's tools against this node.

        Raises:
            LocalStackError: It failed or hung; the message carries what it said.
        """
        command = [self._script(argv[0]), *argv[1:]]
        try:
            done = subprocess.run(
                command, env=self._env, check=False, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise LocalStackError(
                f"{' '.join(argv)} gave no answer in {TOOL_TIMEOUT_S:g} s; is the node paused?"
            ) from None
        if done.returncode != 0:
            raise LocalStackError(
                f"{' '.join(argv)} ended with code {done.returncode}: {(done.stderr + done.stdout).strip()}"
            )
        return done.stdout

    def close(self) -> None:
        """End the node and epmd, give the ports back, remove the data; harmless when nothing was started.

        The node gets no time to say goodbye (up to six seconds with management): nobody will read its data again.
        """
        self._server.stop(0)
        self._epmd.stop()
        for lease in self._leases.values():
            lease.release()
        shutil.rmtree(self._home, ignore_errors=True)

    def _script(self, name: str) -> str:
        directory = scripts()
        if directory is None:
            raise MissingProgram(f"{name} not found; install the package rabbitmq-server")
        return str(directory / name)

    def _epmd_command(self) -> list[str]:
        found = shutil.which("epmd")
        if found is None:
            raise MissingProgram("epmd, Erlang's port mapper, was not found on PATH; install the package erlang-base")
        return [found, "-address", LOOPBACK, "-port", str(self._leases["epmd"].port)]

    def _epmd_listens(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self._leases["epmd"].port), 1.0):
            return True
        return False

    def _write_files(self, config: Mapping[str, str]) -> None:
        lines = {"listeners.tcp.1": f"{LOOPBACK}:{self.port}"}
        if self._management:
            lines |= {"management.tcp.ip": LOOPBACK, "management.tcp.port": str(self._leases["http"].port)}
            lines |= {"collect_statistics_interval": "1000"}
        text = "".join(f"{key} = {value}\n" for key, value in (lines | dict(config)).items())
        (self._home / "rabbitmq.conf").write_text(text)
        (self._home / "enabled_plugins").write_text(f"[{PLUGINS if self._management else ''}].\n")
        cookie = self._home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)

    def _environment(self) -> dict[str, str]:
        """Return the whole environment: nothing of the machine's own RabbitMQ may leak in."""
        home, port = self._home, {role: str(lease.port) for role, lease in self._leases.items()}
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": port["epmd"],
            "ERL_CRASH_DUMP": os.devnull,
            "RABBITMQ_NODENAME": f"heimdall-{port['amqp']}@localhost",
            "RABBITMQ_NODE_PORT": port["amqp"],
            "RABBITMQ_DIST_PORT": port["dist"],
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "config"),
            # With input allowed the script becomes the Erlang machine instead of watching over it, so that our signals
            # reach it; the arguments then say what the script would have said: no shell, no Ctrl-C handler.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_START_ARGS": "-noinput +B i",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
