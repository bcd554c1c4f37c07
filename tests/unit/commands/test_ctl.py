"""`heimdall ctl` without servers: arguments, changes of the registry, agreement, figures."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas.control import CommandReply, ServedVersion
from tests.support.models import write_model
from worker.commands import ctl
from worker.commands.ctl import ExitCode, app, exit_code
from worker.commands.live_report import LiveReport, read_event
from worker.commands.orders import Order, Outcome
from worker.commands.registry_changes import Change, Rollouts
from worker.commands.swap_figures import SwapFigures, p99_ratio
from worker.errors import ModelRejected
from worker.serving.rollout import FAILED_TAG, PREVIOUS_TAG, WEIGHT_TAG

CLOSED = "amqp://guest:guest@127.0.0.1:9/"


@pytest.fixture(scope="module")
def three_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with three versions, of which the first is production; made once, as that takes seconds."""
    directory = tmp_path_factory.mktemp("three")
    model = write_model(directory / "model.onnx")
    registry = Rollouts(f"sqlite:///{directory}/mlflow.db", "heimdall")
    for alias in ("production", "candidate", "candidate"):
        registry.register(model, alias=alias)
    return directory / "mlflow.db"


@pytest.fixture
def rollouts(three_versions: Path, tmp_path: Path) -> Rollouts:
    """A copy of it."""
    shutil.copy(three_versions, tmp_path)
    return Rollouts(f"sqlite:///{tmp_path}/mlflow.db", "heimdall")


def tags(rollouts: Rollouts, version: str) -> dict[str, str]:
    """Ours, of a version."""
    found = rollouts._version(version).tags
    return {name: value for name, value in found.items() if name != "heimdall.digest"}


def answer(instance: str, *, ok: bool = True, state: str = "serving", **parts: str) -> CommandReply:
    """A worker's answer."""
    serving = [ServedVersion(name="heimdall", version=v, alias=a, digest="sha256:0") for a, v in parts.items()]
    return CommandReply(
        command_id="c", command="reload", instance=instance, ok=ok, detail="said", state=state, serving=serving
    )


def outcome(command: str, *answers: CommandReply, called: tuple[str, ...] = (), parts: dict[str, str] | None = None):
    """An outcome with these answers, of a fleet that all answered the ping."""
    order = Order(command, command, "heimdall")
    names = [*called, *(reply.instance for reply in answers)]
    change = None if parts is None else Change(("done",), parts)
    return Outcome(order, {name: answer(name) for name in names}, {a.instance: a for a in answers}, change)


@pytest.mark.parametrize(
    "version", ["http://evil/7", "/tmp/7", "7.0", "-1", "latest", "0", "\N{ARABIC-INDIC DIGIT SEVEN}", ""]
)
def test_a_version_is_a_number(version: str) -> None:
    """Anything else is refused before anything is asked of anybody."""
    for command in (["promote"], ["canary", "--weight", "5"], ["shadow"]):
        result = CliRunner().invoke(app, [*command, "--", version])
        assert result.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    "arguments",
    [
        ["canary"],
        ["canary", "2"],
        ["canary", "2", "--weight", "0"],
        ["canary", "2", "--weight", "101"],
        ["canary", "2", "--weight", "nan"],
        ["canary", "2", "--weight", "5", "--off"],
        ["shadow"],
        ["shadow", "2", "--off"],
        ["ping", "--instance", "all"],
        ["ping", "--instance", "a#b"],
        ["info", "--url", "http://broker"],
        ["pause", "--url", "http://broker"],
        ["info", "--url", "amqp://127.0.0.1:PORT/"],
        ["pause", "--url", "amqp://127.0.0.1:PORT/"],
        ["info", "--name", "a/b"],
    ],
)
def test_usage(arguments: list[str]) -> None:
    """Arguments that do not fit are named, with exit code 2."""
    assert CliRunner().invoke(app, arguments).exit_code == ExitCode.USAGE


def test_a_broker_that_is_away(rollouts: Rollouts) -> None:
    """Nothing is changed in the registry, and the exit code says that nobody was reached."""
    result = CliRunner().invoke(app, ["promote", "2", "--url", CLOSED, "--tracking-uri", rollouts._uri])
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "guest@127.0.0.1" in result.stderr
    assert "guest:guest" not in result.stderr
    assert rollouts.parts() == {"production": "1"}


def test_promote_notes_the_way_back(rollouts: Rollouts) -> None:
    """The version before is noted, and to promote again changes nothing."""
    change = rollouts.promote("2")
    assert change.parts == {"production": "2"}
    assert tags(rollouts, "2") == {PREVIOUS_TAG: "1"}
    assert rollouts.promote("2").said == ("the registry says so already",)
    assert tags(rollouts, "2") == {PREVIOUS_TAG: "1"}


def test_promote_ends_the_canary(rollouts: Rollouts) -> None:
    """A canary that becomes production is none any more; another one stays."""
    rollouts.canary("2", 10)
    assert rollouts.promote("2").parts == {"production": "2"}
    assert WEIGHT_TAG not in tags(rollouts, "2")
    rollouts.canary("3", 10)
    assert rollouts.promote("1").parts == {"production": "1", "canary": "3"}


def test_promote_after_a_failure(rollouts: Rollouts) -> None:
    """The version that served in place of a failed one is the way back; the failed one may be promoted again."""
    rollouts.promote("2")
    rollouts.mark_failed("2", "answers nonsense")
    rollouts.promote("3")
    assert tags(rollouts, "3") == {PREVIOUS_TAG: "1"}
    assert rollouts.promote("2").parts == {"production": "2"}
    assert tags(rollouts, "2") == {PREVIOUS_TAG: "3"}


def test_rollback(rollouts: Rollouts) -> None:
    """Production goes back, the version left says who did it, and beyond the first version there is no way."""
    rollouts.promote("2")
    change = rollouts.rollback("alice")
    assert change.parts == {"production": "1"}
    assert tags(rollouts, "2")[FAILED_TAG] == "rolled back by alice"
    with pytest.raises(ModelRejected, match=PREVIOUS_TAG):
        rollouts.rollback("alice")
    rollouts.promote("2")
    rollouts.promote("1")
    rollouts.mark_failed("2", "bad")
    with pytest.raises(ModelRejected, match=r"2.*bad"):
        rollouts.rollback("alice")


def test_rollback_keeps_the_workers_reason(rollouts: Rollouts) -> None:
    """A version that a worker marked keeps that mark."""
    rollouts.promote("2")
    rollouts.mark_failed("2", "fails on every job")
    assert rollouts.rollback("alice").parts == {"production": "1"}
    assert tags(rollouts, "2")[FAILED_TAG] == "fails on every job"


def test_canary_and_shadow(rollouts: Rollouts) -> None:
    """They come with their weight, go, and are never production."""
    rollouts.mark_failed("2", "once")
    assert rollouts.canary("2", 12.5).parts == {"production": "1", "canary": "2"}
    assert tags(rollouts, "2") == {WEIGHT_TAG: "12.5"}
    assert rollouts.shadow("3").parts == {"production": "1", "canary": "2", "shadow": "3"}
    assert rollouts.end("canary").parts == {"production": "1", "shadow": "3"}
    assert rollouts.end("canary").said == ("the registry says so already",)
    assert rollouts.end("shadow").parts == {"production": "1"}
    for act in (lambda: rollouts.canary("1", 5), lambda: rollouts.shadow("1"), lambda: rollouts.promote("99")):
        with pytest.raises(ModelRejected):
            act()
    assert rollouts.parts() == {"production": "1"}


def test_pause_and_resume(rollouts: Rollouts) -> None:
    """The tag says who and why."""
    rollouts.pause("alice", "maintenance")
    assert rollouts.view().paused == "alice: maintenance"
    rollouts.resume()
    assert rollouts.view().paused is None
    assert rollouts.resume().said == ("the registry says so already",)


def test_agreement_on_versions() -> None:
    """Everybody must serve what the registry asks for, and nothing else."""
    good = answer("a", production="2", canary="3")
    wanted = {"production": "2", "canary": "3"}
    assert outcome("reload", good, parts=wanted).agreed
    differs = outcome("reload", good, answer("b", production="1"), parts=wanted)
    assert differs.complaints == {"b": "serves production 1, not production 2, canary 3"}
    assert exit_code(differs) == ExitCode.NOT_AGREED
    refuses = outcome("reload", good, answer("b", ok=False, production="1"), parts=wanted)
    assert refuses.complaints == {"b": "said"}


def test_agreement_without_a_change() -> None:
    """Who serves otherwise than most is named."""
    two = [answer(name, production="2") for name in "ab"]
    assert outcome("info", *two).agreed
    assert set(outcome("info", *two, answer("c", production="1")).complaints) == {"c"}
    assert outcome("ping", *two, answer("c", production="1")).agreed


def test_who_has_not_answered() -> None:
    """A worker that answered the ping and not the command is named; with no answers at all nobody was reached."""
    partly = outcome("reload", answer("a", production="2"), called=("b",))
    assert (partly.missing, partly.agreed, exit_code(partly)) == (["b"], False, ExitCode.NOT_AGREED)
    assert exit_code(outcome("reload", called=("b",))) == ExitCode.UNREACHABLE
    assert exit_code(outcome("reload")) == ExitCode.UNREACHABLE


def test_paused_and_resumed() -> None:
    """The state must be what was asked for."""
    assert outcome("pause", answer("a", state="the fleet is paused by an operator")).agreed
    assert not outcome("pause", answer("a")).agreed
    assert outcome("resume", answer("a", state="about to consume")).agreed
    assert not outcome("resume", answer("a", state="the fleet is paused by an operator")).agreed


def test_for_scripts() -> None:
    """The document can be read by programs."""
    document = outcome("reload", answer("a", production="1"), called=("b",), parts={"production": "2"}).document()
    assert json.loads(json.dumps(document))["missing"] == ["b"]
    assert document["workers"][0]["agrees"] is False
    assert document["expected"] == {"production": "2"}


def test_the_line_of_figures() -> None:
    """What cannot be seen is a dash."""
    figures = SwapFigures(1, 10, None, None, 0, 0, 1.234, None)
    assert figures.clean
    expected = "swaps: swaps=1 jobs=10 lost=- refused=- errors=0 mixed=0 p99_ratio=1.23 rss_growth=-"
    assert figures.line() == expected
    assert not SwapFigures(1, 10, 1, 0, 0, 0, None, 0.05).clean
    assert p99_ratio([], [1.0]) is None
    assert p99_ratio([2.0], [1.0]) == 2.0


async def test_live_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events before the promotion are the measure; those since then count."""
    monkeypatch.setattr("worker.commands.live_report.AFTERMATH_S", 0.0)
    said = {"data": {"model_version": "1", "model": {"version": "1"}, "timings_ms": {"total": 4.0}}}
    good = read_event("localization.complete", json.dumps(said).encode())
    said["data"]["model"] = {"version": "2"}
    mixed = read_event("localization.complete", json.dumps(said).encode())
    failed = read_event("localization.failed", b'{"data": {"code": "inference_failed"}}')
    figures = await LiveReport([good, good, mixed, failed]).figures(mixed.at, {"1", "2"})
    assert (figures.jobs, figures.errors, figures.mixed) == (2, 1, 1)
    assert figures.p99_ratio == 1.0


def test_every_command_has_help() -> None:
    """All of the commands are there."""
    names = {command.name or command.callback.__name__ for command in ctl.app.registered_commands}
    assert names == {
        *("promote", "rollback", "canary", "shadow"),
        *("pause", "resume", "drain", "reload", "info", "ping"),
    }
