import socket
import sys

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app


def run(*arguments: object) -> Result:
    """`heimdall map` with these arguments."""
    return CliRunner().invoke(app, ["map", *map(str, arguments)])


def test_without_nicegui_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that is missing is named; nothing is connected to."""
    monkeypatch.setitem(sys.modules, "nicegui", None)
    ran = run()
    assert ran.exit_code == 2
    assert "pip install 'heimdall-worker[map]'" in ran.stderr


def test_a_tile_url_without_its_parts() -> None:
    """A template that names no tile is refused, and an example given."""
    ran = run("--tiles", "http://tiles.local/map.png")
    assert ran.exit_code == 2
    assert "{z}, {x}, {y} missing" in ran.stderr
    assert "{z}/{x}/{y}.png" in ran.stderr


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://me:s3cret@host/", "amqp://user:password@host:port/vhost"),
        ("amqp://me:s3cret@host:PORT/", "its port must be a number"),
    ],
)
def test_a_url_that_is_none(url: str, message: str) -> None:
    """The broker's URL is checked first, and not repeated."""
    ran = run("--url", url)
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert "s3cret" not in ran.output


def test_a_port_that_is_taken() -> None:
    """The address and the way out are named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("--port", port)
    assert ran.exit_code == 2
    assert f"--host 127.0.0.1 --port {port}: " in ran.stderr
    assert "--port 0 takes a free one" in ran.stderr


@pytest.mark.parametrize("options", [("--keep", 0), ("--keep", 10**9), ("--forget", 0), ("--port", 70000)])
def test_options_out_of_range(options: tuple[str, int]) -> None:
    """Limits are checked before anything is started."""
    ran = run(*options)
    assert ran.exit_code == 2
    assert options[0] in ran.stderr
