"""Ctrl-C and a closed terminal at every phase of `submit --wait`: the run goes on, or nothing was submitted."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import eventually, without_python_s_own
from tests.contract.helpers import stored, supervisors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli

_SCRIPT = "import time\nprint('began', flush=True)\ntime.sleep(1)\nprint('ended', flush=True)\n"
_GATED = (
    "import os, time\nprint('began', flush=True)\n"
    "while not os.path.exists(os.environ['RUNNER_INPUT_GATE'] + '/go'): time.sleep(0.05)\nprint('ended', flush=True)\n"
)
_MOMENTS = [0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4, 1.7]
"""In units of what `submit` takes: it has read its options at about 0.6, accepts the run at 0.9, and --wait stays."""


def _check(cli: Cli, name: str, err: str) -> bool:
    """Whether the run was accepted; then it must end by itself, without a further command, and what was said be true."""
    if stored(cli.home, name) is None:
        assert "goes on" not in err
        return False
    assert "nothing was submitted" not in err
    eventually(lambda: _status(cli, name) == "Completed", "the run ends as if nothing had been")
    log = (cli.home / "runs" / name / "attempts" / "1" / "log").read_bytes()
    assert log == b"began\nended\n"
    return True


def _status(cli: Cli, name: str) -> str | None:
    row = stored(cli.home, name)
    return row.status.value if row else None


@pytest.mark.slow
def test_ctrl_c_at_each_phase(cli: Cli, where: list[str], script: Callable[[str, str], Path], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    path = script("a.py", _GATED)
    options = [*where, "--input", f"gate={gate}"]
    began = time.monotonic()
    assert cli("submit", path, *options).code == 0
    usual = time.monotonic() - began
    said = []
    for number, share in enumerate(_MOMENTS):
        name, moment = f"r{number}", share * usual
        process = cli.start("submit", path, *options, "--wait", "--name", name, start_new_session=True)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
        try:
            _, err = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            # Python drops an interruption that meets it in a destructor or a callback of its garbage collector; a user who
            # sees nothing happen presses again.
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=60)
            # Only that excuses it: Python says what it drops.
            assert b"Exception ignored" in err, (share, err)
            assert b"KeyboardInterrupt" in err, (share, err)
        # Before our own code runs, the interpreter itself answers: it dies by the signal, which shells call 130 too.
        # Python's own start, interrupted, ends with 1: while it imports `site`, or what `-m` needs.
        started = b"Could not import runpy" not in err and b"Fatal Python error: init_" not in err
        assert process.returncode in {130, -signal.SIGINT} or not started, (share, process.returncode, err)
        assert b"Traceback" not in without_python_s_own(err) or share < 0.6, err.decode()
        said.append((name, err.decode()))
    (gate / "go").touch()
    accepted = [_check(cli, name, err) for name, err in said]
    assert any(accepted)
    assert not all(accepted)


def test_ctrl_c_on_logs_follow_leaves_the_run_alone(
    cli: Cli, where: list[str], script: Callable[[str, str], Path]
) -> None:
    name = cli.submit(script("a.py", _SCRIPT), *where)
    process = cli.start("logs", name, "--follow", start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"began\n"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"goes on" in err
    assert _check(cli, name, err.decode())


def test_a_closed_terminal_leaves_the_run_alone(cli: Cli, where: list[str], script: Callable[[str, str], Path]) -> None:
    master, slave = pty.openpty()

    # setsid -c makes its standard input the terminal that the session belongs to.
    command = cli.argv("submit", script("a.py", _SCRIPT), *where, "--wait", "--name", "it")
    process = subprocess.Popen(
        ["setsid", "-c", *command], env=cli.env, cwd=cli.cwd, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    seen = b""
    while b"began" not in seen:
        seen += os.read(master, 1000)
    os.close(master)  # the kernel sends SIGHUP to the terminal's processes
    assert process.wait(30) != 0
    assert _check(cli, "it", "")


def test_a_killed_shell_leaves_the_run_alone(cli: Cli, where: list[str], script: Callable[[str, str], Path]) -> None:
    """SIGTERM to everything of the command's session, as a logout does."""
    process = cli.start("submit", script("a.py", _SCRIPT), *where, "--wait", "--name", "it", start_new_session=True)
    eventually(lambda: [pid for pid in supervisors(cli.home, "it") if pid != process.pid], "the supervisor is there")
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert _check(cli, "it", "")


def test_a_reader_that_stops_reading_ends_the_command_alone(
    cli: Cli, where: list[str], script: Callable[[str, str], Path]
) -> None:
    text = "import time\nprint('began', flush=True)\ntime.sleep(1)\nprint('ended', flush=True)\n"
    process = cli.start("submit", script("a.py", text), *where, "--wait", "--name", "it")
    assert process.stdout is not None
    assert process.stdout.readline() == b"began\n"
    process.stdout.close()
    process.stdout = None
    process.communicate(timeout=60)
    assert process.returncode == 141
    assert _check(cli, "it", "")


def test_a_supervisor_killed_twice_while_somebody_waits(
    cli: Cli, where: list[str], script: Callable[[str, str], Path]
) -> None:
    """`submit --wait` starts a new supervisor as often as it takes."""
    text = "import time\nprint('began', flush=True)\ntime.sleep(4)\nprint('ended', flush=True)\n"
    process = cli.start("submit", script("a.py", text), *where, "--wait", "--name", "it")
    killed: set[int] = set()
    end = time.monotonic() + 60
    while len(killed) < 2 and time.monotonic() < end:
        for pid in supervisors(cli.home, "it"):
            if pid != process.pid and pid not in killed and _is_supervised(cli, "it"):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    out, err = process.communicate(timeout=60)
    assert len(killed) == 2
    assert (process.returncode, out) == (0, b"began\nended\n"), err


def _is_supervised(cli: Cli, name: str) -> bool:
    log = cli.home / "runs" / name / "attempts" / "1" / "log"
    return log.exists() and b"began" in log.read_bytes()
