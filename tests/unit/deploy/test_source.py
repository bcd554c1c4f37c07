import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from deploy.local import apt, containers
from deploy.local.broker import rabbitmq
from deploy.local.errors import LocalStackError, MissingProgram, NotControllable
from deploy.local.server import NoControls, Server
from deploy.local.source import Source
from deploy.local.store import redis


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch):
    """Open a source on a machine described by keywords and return the way it took."""

    def take(*, url: str = "", installed: bool = False, docker: bool = False, root: bool = False) -> str:
        state = {"installed": installed}
        monkeypatch.setenv("SOME_URL", url)
        monkeypatch.setattr(containers, "engine_answers", lambda: docker)
        monkeypatch.setattr(apt, "possible", lambda: root)
        monkeypatch.setattr(apt, "install", lambda *_: state.update(installed="by apt"))
        source = Source(
            name="Some",
            variable="SOME_URL",
            package="some-server",
            installed=lambda: bool(state["installed"]),
            external=lambda url: nullcontext(f"external {url}"),
            private=lambda: nullcontext(f"private, installed {state['installed']}"),
            container=lambda: nullcontext("container"),
        )
        with source.open() as taken:
            return taken

    return take


def test_the_order_of_the_ways(way) -> None:
    """A URL wins over a binary, a binary over a container, a container over installing packages."""
    assert way(url="amqp://x", installed=True, docker=True, root=True) == "external amqp://x"
    assert way(installed=True, docker=True, root=True) == "private, installed True"
    assert way(docker=True, root=True) == "container"
    assert way(root=True) == "private, installed by apt"


def test_with_no_way_the_message_lists_what_helps(way) -> None:
    """Somebody without root, Docker and packages learns all three ways out."""
    with pytest.raises(MissingProgram, match=r"(?s)apt-get install some-server.*Docker engine.*set SOME_URL"):
        way()


def test_a_server_by_url_refuses_control() -> None:
    """Each control names the variable that makes the server somebody else's."""
    server = Server("redis://x", NoControls("Redis", "SOME_URL"))
    for control in (server.start, server.stop, server.kill, server.pause, server.resume, lambda: server.pid):
        with pytest.raises(NotControllable, match="SOME_URL"):
            control()


@pytest.mark.parametrize(
    ("variable", "url", "opened"),
    [
        ("HEIMDALL_TEST_AMQP_URL", "amqp://u:secret@127.0.0.1:1/", rabbitmq),
        ("HEIMDALL_TEST_REDIS_URL", "redis://u:secret@127.0.0.1:1/0", redis),
    ],
)
def test_a_dead_url_is_said_at_once_without_its_password(monkeypatch, variable, url, opened) -> None:
    """A wrong URL fails before the first test, naming host and port only."""
    monkeypatch.setenv(variable, url)
    with pytest.raises(LocalStackError, match=r"127\.0\.0\.1:1") as caught, opened():
        pass
    assert "secret" not in str(caught.value)


def test_services_are_denied_only_while_installing(tmp_path: Path) -> None:
    """policy-rc.d answers 101 inside the block and is gone after it."""
    policy = tmp_path / "policy-rc.d"
    with apt.services_denied(policy):
        assert policy.stat().st_mode & stat.S_IXUSR
        assert subprocess.run([policy], check=False).returncode == 101
    assert not policy.exists()


def test_a_policy_of_the_machine_is_left_alone(tmp_path: Path) -> None:
    """Somebody else's policy-rc.d survives unchanged."""
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    with apt.services_denied(policy):
        pass
    assert policy.read_text() == "#!/bin/sh\nexit 101\n"


def test_strays_of_an_installation_are_ended_by_their_mark() -> None:
    """Only what inherited the installation's mark is killed."""
    code = "import time; print('up', flush=True); time.sleep(60)"
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with (
        subprocess.Popen(command, env={apt.MARK: "a-mark"}, stdout=pipe) as stray,
        subprocess.Popen(command, env={apt.MARK: "another"}, stdout=pipe) as innocent,
    ):
        stray.stdout.readline()
        innocent.stdout.readline()
        apt.end_strays("a-mark")
        assert stray.wait(5) == -9
        assert innocent.poll() is None
        innocent.kill()
