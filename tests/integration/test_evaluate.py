"""`heimdall evaluate` as a user runs it, and the POWDER example on an invented file, through real queues."""

import asyncio
import json
import re
import shlex
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from aio_pika.abc import AbstractIncomingMessage
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app
from client.evaluation.labels import Label
from client.evaluation.report import evaluate as score
from client.evaluation.report import write_report
from client.evaluation.scenes import located
from examples.model_file import read_contract
from examples.powder.__main__ import main
from examples.powder.campus import DIRECTORY, FINAL
from examples.powder.model_file import campus_of
from schemas.geo import Point
from schemas.problems import ErrorCode
from schemas.result import LocalizationResult
from tests.unit.client.fakes import FakeWorker, batch_result, fake_worker, problem, result

Evaluate = Callable[..., Awaitable[Result]]
TURIN = [7.672, 45.044]
NORTH_DEG = 0.001
PAGE = Path(__file__).resolve().parents[2] / "docs/evaluation.md"


@pytest.fixture
async def worker(amqp_url: str) -> AsyncIterator[FakeWorker]:
    """A worker that locates everything 111 m north of Torino, by a sigma of 100 m."""

    def answer(message: AbstractIncomingMessage) -> LocalizationResult:
        place = {"latitude": TURIN[1] + NORTH_DEG, "longitude": TURIN[0]}
        return result(message.message_id or "", position=place, covariance_m2=[[1e4, 0.0], [0.0, 1e4]])

    async with fake_worker(amqp_url) as running:
        running.answer = answer
        yield running


@pytest.fixture
def evaluate(amqp_url: str) -> Evaluate:
    """Run `heimdall evaluate` with the given arguments beside the test's loop."""

    async def run(*arguments: object) -> Result:
        environment = {"HEIMDALL_AMQP_URL": amqp_url, "COLUMNS": "120"}
        line = ["evaluate", *map(str, arguments)]
        return await asyncio.to_thread(CliRunner().invoke, app, line, env=environment)

    return run


def record(directory: Path, name: str, *, samples: int = 1, **annotation: object) -> None:
    """A labelled recording of one receiver; several samples make it a batch job."""
    directory.mkdir(exist_ok=True)
    described = {
        "core:datatype": "ci8",
        "core:sample_rate": 48_000,
        "core:version": "1.2.0",
        "core:geolocation": {"type": "Point", "coordinates": TURIN},
    }
    if samples > 1:
        described["heimdall:samples"] = [{"sample_start": 500 * n, "sample_count": 500} for n in range(samples)]
    truth = {"core:sample_start": 0, "heimdall:truth": {"type": "Point", "coordinates": TURIN}, **annotation}
    document = {"global": described, "captures": [{"core:sample_start": 0}], "annotations": [truth]}
    (directory / f"{name}.sigmf-meta").write_text(json.dumps(document))
    (directory / f"{name}.sigmf-data").write_bytes(bytes(1_000 * samples))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four recordings in two blocks."""
    for number in range(4):
        record(tmp_path / "drives", f"drive-{number}", **{"heimdall:block": number % 2})
    return tmp_path / "drives"


async def test_reports_figures_and_pictures(
    evaluate: Evaluate, worker: FakeWorker, dataset: Path, tmp_path: Path
) -> None:
    """The last line has the figures, the directory the report and the plots; the truth is not published."""
    ran = await evaluate(dataset, "--out", tmp_path / "out")
    assert ran.exit_code == 0, ran.output
    # d² = 1.111² of every scene: within the 50 % ellipse (1.386), whose sigma is 100 m.
    assert ran.stdout.splitlines()[-1] == (
        "evaluate: n=4 median_m=111.1 p90_m=111.1 coverage50=1.000 coverage90=1.000 nll=11.666"
    )
    assert "bootstrap over 2 blocks" in ran.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.json",
        "errors.png",
        "pit.png",
        "error-map.png",
        "ellipse-map.png",
    }
    assert all("truth" not in str(job.headers["sigmf"]) for job in worker.jobs)


async def test_reports_are_judged_again_without_a_broker(evaluate: Evaluate, tmp_path: Path) -> None:
    """Reports pool with each other, and nothing is published for them."""
    fix = result("job", position={"latitude": TURIN[1] + NORTH_DEG, "longitude": TURIN[0]})
    label = Label(Point(coordinates=(TURIN[0], TURIN[1])), None)
    write_report(score([located("drive", 0, label, fix, fix.model)] * 4), ["drives"], tmp_path / "report.json")
    reports = [tmp_path / "report.json"] * 2
    ran = await evaluate(*reports, "--url", "amqp://127.0.0.1:1/", "--fail-if", "n<8")
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.splitlines()[-1].startswith("evaluate: n=8 median_m=111.1 ")


async def test_a_condition_that_holds_fails(evaluate: Evaluate, worker: FakeWorker, dataset: Path) -> None:
    """Exit code 1, the condition and the figure on standard error; others do not matter."""
    ran = await evaluate(dataset, "--fail-if", "coverage90<0.8", "--fail-if", "median_m > 100")
    assert ran.exit_code == 1
    assert "failed: median_m>100: median_m is 111.1" in ran.stderr
    assert "coverage90<0.8" not in ran.stderr


async def test_scenes_without_a_fix_are_no_success(evaluate: Evaluate, worker: FakeWorker, dataset: Path) -> None:
    """A model that refuses what is hard does not get better figures for it: exit code 1, and each is named."""
    fine = worker.answer
    worker.answer = lambda message: (
        problem(message.message_id or "", ErrorCode.TOO_FEW_SAMPLES) if len(worker.jobs) == 2 else fine(message)
    )
    ran = await evaluate(dataset, "--concurrency", "1")
    assert ran.exit_code == 1
    assert "no fix: drive-1[0]: too_few_samples: what was wrong with it" in ran.stderr
    assert "evaluate: n=3 " in ran.stdout


async def test_samples_of_a_batch_recording_count_each(evaluate: Evaluate, worker: FakeWorker, tmp_path: Path) -> None:
    """A fix and a problem of one job are two scenes."""
    record(tmp_path / "batch", "tour", samples=2)
    worker.answer = lambda message: batch_result(message.message_id or "", 2)
    ran = await evaluate(tmp_path / "batch")
    assert ran.exit_code == 1
    assert "no fix: tour[1]: non_finite_iq" in ran.stderr
    assert "evaluate: n=1 median_m=0.0 " in ran.stdout


async def test_documented_commands_run(
    evaluate: Evaluate, worker: FakeWorker, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each `heimdall evaluate` of the documentation, on a data set of that name."""
    monkeypatch.chdir(dataset.parent)
    commands = re.findall(r"^heimdall evaluate (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        for name in re.findall(r"\S+/report\.json", command):
            shutil.copytree("out/evaluation", Path(name).parent)
        ran = await evaluate(*shlex.split(command))
        assert ran.exit_code == 0, ran.output


async def test_nothing_is_sent_when_an_input_is_wrong(evaluate: Evaluate, worker: FakeWorker, dataset: Path) -> None:
    """One recording without truth, or a condition that makes no sense: exit code 2."""
    ran = await evaluate(dataset, "--fail-if", "cov90<0.8")
    assert (ran.exit_code, "no figure is called 'cov90'" in ran.stderr) == (2, True)
    ran = await evaluate(dataset, "--out", dataset / "drive-0.sigmf-meta")
    assert (ran.exit_code, "--out " in ran.stderr) == (2, True)
    record(dataset, "unlabelled", **{"heimdall:truth": None})
    ran = await evaluate(dataset)
    assert (ran.exit_code, "unlabelled.sigmf-meta: no annotation with heimdall:truth" in ran.stderr) == (2, True)
    assert worker.jobs == []


async def test_no_broker_is_exit_code_three(evaluate: Evaluate, dataset: Path) -> None:
    """As with the other commands."""
    ran = await evaluate(dataset, "--url", "amqp://127.0.0.1:1/", "--timeout", "0.5")
    assert ran.exit_code == 3
    assert "heimdall: " in ran.stderr


def test_powder_evaluates_an_unseen_file_through_the_queue(
    amqp_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The committed model, a real worker, and a file in the format of the data set with invented powers."""
    monkeypatch.setenv("HEIMDALL_TEST_AMQP_URL", amqp_url)
    monkeypatch.setenv("HEIMDALL_TEST_REDIS_URL", redis_url)
    monkeypatch.setenv(DIRECTORY, str(tmp_path / "absent"))
    campus, rng = campus_of(read_contract(FINAL)), np.random.default_rng(3)
    lines = [",".join(["timestamp", *campus.ids, "tx_x_coord", "tx_y_coord"])]
    for number in range(6):
        powers = rng.uniform(-95.0, -60.0, len(campus.ids))
        # The last has too few receivers, and is left out with a word.
        powers[(4 if number == 5 else 12) :] = -101.0
        lines.append(",".join([f"t{number}", *map(str, powers), "40.766", "-111.841"]))
    (tmp_path / "unseen.csv").write_text("\n".join(lines))
    assert main(["--data", str(tmp_path / "unseen.csv"), "--out", str(tmp_path / "out")]) == 0
    told = capfd.readouterr().out
    assert "1 of 6 samples have fewer receivers than the model takes" in told
    assert told.splitlines()[-1].startswith("evaluate: n=5 median_m=")
    assert json.loads((tmp_path / "out" / "report.json").read_bytes())["models"][0]["scenes"] == 5


def test_powder_without_its_data_is_skipped_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data set is not part of the project."""
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    assert main([]) == 0
    assert "skipped" in capsys.readouterr().out
    assert main(["--data", str(tmp_path / "no.csv"), "--out", str(tmp_path)]) == 1
    assert "no.csv" in capsys.readouterr().err
