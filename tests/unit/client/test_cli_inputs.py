"""Wrong inputs on the command line: one clear line on standard error, exit code 2, and no broker asked."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app

NOBODY = {"HEIMDALL_AMQP_URL": "amqp://localhost:1/"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some files, the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iq.cu8").write_bytes(b"\x80" * 64)
    (tmp_path / "iq.dat").write_bytes(b"\x80" * 64)
    (tmp_path / "lonely.sigmf-data").write_bytes(b"\x80" * 64)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("none.cu8 --rate 1M", "heimdall: none.cu8: no such file"),
        ("lonely.sigmf-data", "lonely.sigmf-meta: no such file; a SigMF recording is"),
        ("iq.dat --rate 1M", "its name does not say the datatype: give --datatype"),
        ("iq.dat --rate 1M --datatype cf33", "unknown datatype 'cf33'"),
        ("iq.cu8", "give --sample-rate, such as --sample-rate 2.4M"),
        ("iq.cu8 --rate fast", "--rate or --sample-rate: 'fast' is not a number such as 2.4M"),
        ("iq.cu8 --sample-rate 48x", "--rate or --sample-rate: '48x' is not a number"),
        ("iq.cu8 --rate 0", "--rate or --sample-rate: a sample rate is above zero"),
        ("iq.cu8 --rate 1M --freq x", "--freq: 'x' is not a number"),
        ("iq.cu8 --rate 1M --rx Roof", "--rx 'Roof': it must be ID=LAT,LON"),
        ("iq.cu8 --rate 1M --rx Roof=91,0", "receiver 'Roof' at latitude 91"),
        ("iq.cu8 --rate 1M --rx A=1,2 --receivers x.geojson", "--rx and --receivers: choose one"),
        ("iq.cu8 --rate 1M --receivers x.geojson", "--receivers x.geojson: No such file"),
        ("iq.cu8 --rate 1M --rx A=1,2 --channels 2", "1 receivers for 2 channels"),
        ("iq.cu8 --rate 1M --duration 1 --samples 5", "--duration and --samples: choose one"),
        ("iq.cu8 --rate 1M --start 9", "--start 9 s lies outside"),
        ("iq.cu8 iq.cu8 --rate 1M --job-id a", "--job-id names one job"),
        ("iq.cu8 --rate 1M --job-id a/b", "job id 'a/b': it must be"),
        ("iq.cu8 --rate 1M --confidence 95", "confidence 95: it must be above 0 and at most 0.999, such as 0.95"),
        ("iq.cu8 --rate 1M --confidence nan", "confidence nan: it must be above 0"),
        ("iq.cu8 --rate 1M --geojson --json", "--geojson and --json: choose one"),
        ("- - --rate 1M --datatype cu8", "standard input can be read once"),
        ("iq.cu8 --rate 1M --url rabbit", "amqp://user:password@host"),
        ("iq.cu8 --rate 1M --url amqp://me:s3cret@host:PORT/", "the broker's URL is no URL: its port must be a number"),
    ],
)
def test_message_and_exit_code(folder: Path, line: str, message: str) -> None:
    """The message says what was wrong and what would be right."""
    ran = CliRunner().invoke(app, ["locate", *line.split()], env=NOBODY)
    assert (ran.exit_code, ran.stdout) == (2, ""), ran.output
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "s3cret" not in ran.stderr


def test_help_names_the_exit_codes() -> None:
    """`--help` is enough to write a script."""
    ran = CliRunner().invoke(app, ["locate", "--help"])
    assert ran.exit_code == 0
    assert "Exit codes" in ran.stdout


def test_version() -> None:
    """`--version` prints one line."""
    ran = CliRunner().invoke(app, ["--version"])
    assert (ran.exit_code, len(ran.stdout.splitlines())) == (0, 1)
