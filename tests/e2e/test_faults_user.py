"""Ctrl-C and a closed terminal at every phase of `submit --wait`: the run goes on, or nothing was submitted."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import termios
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import eventually
from tests.contract.helpers import supervisors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli

_SCRIPT = "import time\nprint('began', flush=True)\ntime.sleep(1)\nprint('ended', flush=True)\n"
_MOMENTS = [0.1, 0.25, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0, 1.2, 1.5]
"""Seconds after the start. The command reads its options at about 0.4, accepts the run at 0.6, and stays from then on."""


def _check(cli: Cli, name: str, err: str) -> bool:
    """Whether the run was accepted; then it must end by itself, and what was said must be true."""
    rows = [row for row in cli("list", "--json").json if row["name"] == name]
    if not rows:
        assert "goes on" not in err
        return False
    assert "nothing was submitted" not in err
    eventually(lambda: cli.row(name)["status"] == "Completed", "the run ends as if nothing had been")
    log = (cli.home / "runs" / name / "attempts" / "1" / "log").read_bytes()
    assert log == b"began\nended\n"
    return True


@pytest.mark.slow
def test_ctrl_c_at_each_phase(cli: Cli, where: list[str], script: Callable[[str, str], Path]) -> None:
    path = script("a.py", _SCRIPT)
    accepted = []
    for number, moment in enumerate(_MOMENTS):
        name = f"r{number}"
        process = cli.start("submit", path, *where, "--wait", "--name", name, start_new_session=True)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
        # Before our own code runs, the interpreter itself answers: it dies by the signal, which shells call 130 too.
        assert process.returncode in {130, -signal.SIGINT}, (moment, process.returncode, err)
        assert b"Traceback" not in err or moment < 0.5, err.decode()
        accepted.append(_check(cli, name, err.decode()))
    assert any(accepted)


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

    def own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        cli.argv("submit", script("a.py", _SCRIPT), *where, "--wait", "--name", "it"), env=cli.env, cwd=cli.cwd,
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=own_terminal,
    )  # fmt: skip
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
