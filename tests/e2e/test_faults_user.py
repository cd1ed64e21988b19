"""Ctrl-C and a closed terminal at every phase of `submit --wait`: the run goes on, or nothing was submitted."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.conftest import DEADLINE_S, eventually, without_python_s_own
from tests.contract.helpers import stored, supervisors
from tests.e2e.phases import PHASES, Submit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli

_SCRIPT = "import time\nprint('began', flush=True)\ntime.sleep(1)\nprint('ended', flush=True)\n"
_GATED = (
    "import os, time\nprint('began', flush=True)\n"
    "while not os.path.exists(os.environ['RUNNER_INPUT_GATE'] + '/go'): time.sleep(0.05)\nprint('ended', flush=True)\n"
)
_DELAYS = (0.0, 0.01, 0.05, 0.15)
"""Seconds from when a phase is seen to Ctrl-C: the next phase may have begun by then, or not."""


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
    said = {}
    for number, (phase, delay) in enumerate(product(PHASES, _DELAYS)):
        command = cli.start(
            "submit", path, *where, "--input", f"gate={gate}", "--wait", "--name", f"r{number}", start_new_session=True
        )
        submit = Submit(cli.home, f"r{number}", command.pid)
        eventually(partial(PHASES[phase], submit), f"{submit} is {phase}")
        time.sleep(delay)  # the moment itself: there is no state to wait for
        err = _interrupted(command)
        if phase != "started":
            # Python dies by the signal itself, which shells call 130 too, when it met an import that makes a dataclass.
            assert command.returncode in {130, -signal.SIGINT}, (phase, delay, err)
            assert b"Traceback" not in without_python_s_own(err), err.decode()
        elif b"Could not import runpy" not in err and b"Fatal Python error: init_" not in err:
            # Before our own code runs, the interpreter itself answers: it dies by the signal, which shells call 130 too,
            # or ends with 1, while it imports `site` or what `-m` needs.
            assert command.returncode in {130, -signal.SIGINT}, (delay, command.returncode, err)
        said[submit.name, phase] = err.decode()
    (gate / "go").touch()
    accepted = {key: _check(cli, key[0], err) for key, err in said.items()}
    assert all(found for (_, phase), found in accepted.items() if phase in {"accepted", "supervised", "begun"})
    assert not accepted["r0", "started"]


def _interrupted(command: subprocess.Popen[bytes]) -> bytes:
    """Press Ctrl-C; what it wrote to stderr up to its end."""
    os.killpg(command.pid, signal.SIGINT)
    try:
        return command.communicate(timeout=DEADLINE_S)[1]
    except subprocess.TimeoutExpired:
        # Python drops an interruption that meets it in a destructor or a callback of its garbage collector; a user who
        # sees nothing happen presses again.
        os.killpg(command.pid, signal.SIGINT)
        err = command.communicate(timeout=DEADLINE_S)[1]
        # Only that excuses it: Python says what it drops.
        assert b"Exception ignored" in err, err
        assert b"KeyboardInterrupt" in err, err
        return err


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
