"""Wrong inputs of `heimdall publish`, `follow` and `result`: a clear line, exit code 2, and nobody asked."""

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app

NOBODY = {"HEIMDALL_AMQP_URL": "amqp://localhost:1/", "HEIMDALL_REDIS_URL": "redis://localhost:1/", "COLUMNS": "200"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some files, the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iq.cu8").write_bytes(b"\x80" * 64)
    (tmp_path / "empty").mkdir()
    (tmp_path / "song.txt").write_text("la la la")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("publish none.cu8 --sample-rate 1M", "none.cu8: no such file or folder"),
        ("publish iq.cu8", "give --sample-rate, such as --sample-rate 2.4M"),
        ("publish iq.cu8 --window-ms 0 --sample-rate 1M", "longer than nothing"),
        ("publish iq.cu8 --rate 5 --sample-rate 1M", "give --window-ms"),
        ("publish iq.cu8 --window-ms 1 --rate 2.4M", "the sample rate of raw IQ is --sample-rate 2.4M"),
        ("publish iq.cu8 --window-ms 1 --rate -1 --sample-rate 1M", "--rate -1: windows per second are above zero"),
        ("publish iq.cu8 --window-ms 1 --rate fast --sample-rate 1M", "--rate: 'fast' is not a number"),
        ("publish iq.cu8 --sample-rate 1M --rx A", "--rx 'A': it must be ID=LAT,LON"),
        ("publish iq.cu8 --sample-rate 1M --watch", "--watch: name folders only"),
        ("publish empty --sample-rate 1M", "empty: no recording in there"),
        ("publish iq.cu8 --sample-rate 1M --journal song.txt", "another kind of file"),
        ("publish iq.cu8 --sample-rate 1M --journal none/journal", "--journal none/journal: No such file"),
        ("publish iq.cu8 --sample-rate 1M --claims ftp://host/", "no place for large bodies"),
        ("publish iq.cu8 --sample-rate 1M --claims s3://", "no place for large bodies"),
        ("publish - --sample-rate 1M", "heimdall locate -"),
        ("publish iq.cu8 --sample-rate 1M --url rabbit", "amqp://user:password@host"),
        ("publish iq.cu8 --sample-rate 1M --url amqp://me:s3cret@host:PORT/", "its port must be a number"),
        ("follow --cot --json", "--cot and --json: choose one"),
        ("follow --url rabbit", "amqp://user:password@host"),
        ("follow --url amqp://me:s3cret@host:PORT/", "its port must be a number"),
        ("result a/b", "job id 'a/b': it must be"),
        ("result a --redis http://host", "redis://"),
        ("result a --redis redis://:s3cret@host:PORT/0", "the URL of Redis is no URL: its port must be a number"),
        ("result a --redis redis://:s3cret@host/x", "the URL of Redis must end in the number of a database"),
        ("result a --redis redis://:s3cret@host/0?foo=bar", "the URL of Redis has a wrong parameter after its ?: "),
        ("result a --redis redis://:s3cret@host/0?retry=5", "the URL of Redis has a wrong parameter after its ?: "),
        ("result a --redis redis://:s3cret@host/0?db=one", "Invalid value for 'db'"),
        ("result a --geojson --json", "choose one"),
    ],
)
def test_message_and_exit_code(folder: Path, line: str, message: str) -> None:
    """The message says what was wrong and what would be right."""
    ran = CliRunner().invoke(app, line.split(), env=NOBODY)
    assert (ran.exit_code, ran.stdout) == (2, ""), ran.output
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "s3cret" not in ran.stderr


def test_follow_without_a_broker() -> None:
    """A time that passes before there is a connection is no end as asked, and the reason is said."""
    ran = CliRunner().invoke(app, ["follow", "--timeout", "0.5", "--url", "amqp://me:s3cret@localhost:1/"], env=NOBODY)
    assert (ran.exit_code, ran.stdout) == (3, "")
    assert "no connection to amqp://me@localhost:1/ within 0.5 s: " in ran.stderr
    assert "followed" not in ran.stderr


def test_publish_without_a_broker(folder: Path) -> None:
    """It is waited for as long as `--patience` says, and no longer."""
    began = time.monotonic()
    ran = CliRunner().invoke(app, ["publish", "iq.cu8", "--sample-rate", "1M", "--patience", "1"], env=NOBODY)
    assert (ran.exit_code, ran.stdout) == (3, "")
    assert "no connection to amqp://localhost:1/ within 1 s: " in ran.stderr
    assert "the patience of 1 s is over" in ran.stderr
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("command", ["publish", "follow", "result"])
def test_help_names_the_exit_codes(command: str) -> None:
    """`--help` is enough to write a script."""
    ran = CliRunner().invoke(app, [command, "--help"])
    assert ran.exit_code == 0
    assert "Exit codes" in ran.stdout
