"""How a command that starts servers ends."""

import os
import signal
from collections.abc import Iterator

import pytest

from deploy.local import LocalStackError
from deploy.local.command import run_command


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The suite's own handlers, put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_its_own_exit_code_counts() -> None:
    """Whatever it is."""
    assert [run_command(lambda code=code: code) for code in (0, 3)] == [0, 3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unwinds_it(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    """What it opened is closed, also where the shell had the signal ignored."""
    signal.signal(number, signal.SIG_IGN)
    closed = []

    def command() -> int:
        try:
            os.kill(os.getpid(), number)
            return 0
        finally:
            closed.append(True)

    assert run_command(command) == 130
    assert closed == [True]
    assert "interrupted" in capsys.readouterr().err


def test_a_server_that_fails_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, no traceback."""

    def command() -> int:
        raise LocalStackError("no RabbitMQ here")

    assert run_command(command) == 1
    assert capsys.readouterr().err == "error: no RabbitMQ here\n"
