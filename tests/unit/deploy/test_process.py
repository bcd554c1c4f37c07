import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.errors import LocalStackError, StartFailed
from deploy.local.process import OwnedProcess
from deploy.local.service import ServiceProcess

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
SERVER = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
print("greeting", os.environ["GREETING"], flush=True)
HTTPServer(("127.0.0.1", int(os.environ["HEIMDALL_HTTP_PORT"])), Ready).serve_forever()
"""


def python(tmp_path: Path, code: str) -> OwnedProcess:
    """Return a Python program, not yet started."""
    return OwnedProcess("child", [sys.executable, "-c", code], dict(os.environ), tmp_path / "child.log")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[OwnedProcess]:
    """Run a program that does nothing for a minute."""
    process = python(tmp_path, "import time; time.sleep(60)")
    process.start()
    yield process
    process.stop()


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 5.0) -> bool:
    """Poll a condition and return what it was in the end."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_the_pid_is_the_program_itself(sleeper: OwnedProcess) -> None:
    """Signals reach the program, not a wrapper in front of it."""
    program = Path(sys.executable).resolve()
    assert wait_until(lambda: Path(f"/proc/{sleeper.pid}/exe").resolve() == program)


def test_kill_ends_at_once_and_start_starts_anew(sleeper: OwnedProcess) -> None:
    """A killed process is gone when kill returns, and the same object starts it again."""
    first = sleeper.pid
    sleeper.kill()
    assert not alive(first)
    assert sleeper.returncode == -signal.SIGKILL
    sleeper.start()
    assert sleeper.running
    assert sleeper.pid != first


def test_starting_twice_is_refused(sleeper: OwnedProcess) -> None:
    """A second start would lose the first process."""
    with pytest.raises(LocalStackError, match="runs already"):
        sleeper.start()


def test_stop_kills_what_ignores_sigterm(tmp_path: Path) -> None:
    """The wait is bounded: after it comes SIGKILL."""
    process = python(tmp_path, STUBBORN)
    process.start()
    process.wait_ready(lambda: "up" in process.log_tail(), 10, "its greeting")
    process.stop(timeout=0.2)
    assert process.returncode == -signal.SIGKILL


def test_stop_reaches_a_paused_process(sleeper: OwnedProcess) -> None:
    """A test that fails while a server is paused leaves nothing behind."""
    sleeper.pause()
    sleeper.stop(timeout=5)
    assert sleeper.returncode == -signal.SIGTERM


def test_a_process_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    """Whoever waits for it learns the exit code and what it said."""
    process = python(tmp_path, "print('no disk left'); raise SystemExit(3)")
    process.start()
    with pytest.raises(StartFailed, match=r"ended with code 3 before readiness\n(.|\n)*no disk left"):
        process.wait_ready(lambda: False, 10, "readiness")


def test_waiting_for_a_silent_process_is_bounded(sleeper: OwnedProcess) -> None:
    """A process that never becomes ready fails its deadline."""
    with pytest.raises(StartFailed, match=r"no readiness within 0\.2 s"):
        sleeper.wait_ready(lambda: False, 0.2, "readiness")


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    """SIGKILL to the parent takes the child along: nothing is left running."""
    code = f"""
        import os, sys, time
        from pathlib import Path
        from deploy.local.process import OwnedProcess
        child = OwnedProcess("c", ["sleep", "60"], dict(os.environ), Path({str(tmp_path / "c.log")!r}))
        child.start()
        print(child.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        parent.kill()
    assert wait_until(lambda: not alive(pid))


def test_a_child_outlives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    """The kernel's parent-death signal goes by thread; ours must not come from a short-lived one."""
    process = python(tmp_path, "import time; time.sleep(60)")
    thread = threading.Thread(target=process.start)
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert process.running
    process.stop()


def test_a_service_gets_its_environment_and_is_awaited() -> None:
    """Ready means 200; terminate and wait give the exit code; start brings it back on the same port."""
    with ServiceProcess([sys.executable, "-c", SERVER], {"GREETING": "hello"}) as service:
        log = service.log
        assert "greeting hello" in service.log_text()
        service.terminate()
        assert service.wait(10) == -signal.SIGTERM
        service.start()
        service.wait_ready()
        assert service.log_text().count("greeting hello") == 2
    assert not service.running
    assert not log.exists()


def test_a_service_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The error carries the log, and the block is never entered."""
    log = tmp_path / "own.log"
    service = ServiceProcess([sys.executable, "-c", "raise SystemExit('bad settings')"], {}, log=log)
    with pytest.raises(StartFailed, match="bad settings"), service:
        pass
    assert not service.running
    assert log.exists()
