"""Row 17, and the world that the script finds itself in: session, descriptors, signals, environment, log."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bootstrap.conftest import Run, Start

DAEMON = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if "stubborn" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open("daemon", "w") as file: file.write(str(os.getpid()))
        os.rename("daemon", "armed")
        while True: signal.pause()
    os._exit(0)
os.wait()
while not os.path.exists("armed"): pass
sys.exit(3)
"""
MANY = """
import os, signal
receive, send = os.pipe()
for _ in range(1000):
    if os.fork() == 0:
        os.write(send, b"x")
        while True: signal.pause()
count = 0
while count < 1000: count += len(os.read(receive, 1000))
"""
HELPER = """
import os
receive, send = os.pipe()
up, ready = os.pipe()
if os.fork() == 0:
    os.close(send)
    os.write(ready, b"x")
    os.read(receive, 1)
    os.write(1, b"helper\\n")
    os._exit(0)
os.read(up, 1)
"""
SHORT_LIVED = """
import os
for _ in range(200):
    if os.fork() == 0:
        if os.fork() == 0: os._exit(0)  # an orphan at once: the bootstrapper has to collect it
        os._exit(0)
    os.wait()
"""


def no_process_with(word: str) -> bool:
    """Whether no living process has `word` among its arguments."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if word.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                    return False
            except OSError:
                continue
    return True


@pytest.mark.parametrize("manner", ["", "stubborn"])
def test_a_daemonised_grandchild_is_stopped_and_said(run: Run, mode: str, work: Path, manner: str) -> None:
    word = f"marker-{os.getpid()}-{mode}-{manner}"
    result = run("python3", "-c", DAEMON, word, manner, options=["--grace", "0.3"], mode=mode)
    assert result.row() == ("Failed", "NonZeroExit", 3, None, 3)
    assert result.record["warnings"] == ["1 process was still running and was stopped"]
    assert no_process_with(word)


def test_1000_children_left_behind(run: Run, mode: str) -> None:
    word = f"marker-{os.getpid()}-{mode}-many"
    result = run("python3", "-c", MANY, word, mode=mode)
    assert result.row() == ("Completed", "Completed", 0, None, 0)
    assert result.record["warnings"] == ["1000 processes were still running and were stopped"]
    assert no_process_with(word)


def test_orphans_are_collected(start: Start, mode: str, work: Path, until: Callable[..., Any]) -> None:
    os.mkfifo(work / "go")
    started = start("python3", "-c", SHORT_LIVED + "print('ready', flush=True); open('go').read()", mode=mode)
    assert started.process.stdout is not None
    assert started.process.stdout.readline() == b"ready\n"
    bootstrapper = started.pid
    children = Path(f"/proc/{bootstrapper}/task/{bootstrapper}/children")
    until(lambda: len(children.read_text().split()) == 1, "only the script to be left, no zombies")
    (work / "go").write_text("")
    result = started.finish()
    assert result.row() == ("Completed", "Completed", 0, None, 0)
    assert result.record["warnings"] == []


def test_helpers_that_end_by_themselves_are_no_leftovers(run: Run, mode: str) -> None:
    """As multiprocessing's resource tracker does: it ends when the pipe from its parent closes."""
    result = run("python3", "-c", HELPER, mode=mode)
    assert result.stdout == b"helper\n"
    assert result.record["warnings"] == []


def test_leftovers_do_not_hold_up_the_end(run: Run, mode: str) -> None:
    """A background child keeps stdout open: whoever waited for the pipe to close would wait for ever."""
    result = run("bash", "-c", "sleep 1000 & echo done", mode=mode)
    assert result.stdout == b"done\n"
    assert result.record["elapsed_s"] < 5
    assert result.record["warnings"] == ["1 process was still running and was stopped"]


def test_kill_9_of_the_bootstrapper_takes_the_script_along(start: Start, mode: str, until: Callable[..., Any]) -> None:
    word = f"marker-{os.getpid()}-{mode}-orphan"
    started = start("python3", "-c", "print('ready', flush=True); import signal; signal.pause()", word, mode=mode)
    assert started.process.stdout is not None
    assert started.process.stdout.readline() == b"ready\n"
    os.kill(started.pid, signal.SIGKILL)
    until(lambda: no_process_with(word), "the script to be gone")
    assert b'"final": false' in started.status.read_bytes()


def test_the_script_is_not_pid_1_and_leads_its_own_session(run: Run, mode: str) -> None:
    code = "import os; print(os.getpid() != 1, os.getsid(0) == os.getpgrp() == os.getpid())"
    assert run("python3", "-c", code, mode=mode).stdout == b"True True\n"


def test_signals_start_afresh(run: Run, mode: str) -> None:
    """Ours are blocked, and a caller under nohup ignores some: the script has neither."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        result = run("sh", "-c", "grep -E '^Sig(Blk|Ign|Pnd)' /proc/self/status", mode=mode)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    found = {line.split()[0]: int(line.split()[1], 16) for line in result.stdout.splitlines()}
    libc = 0b11 << 31  # signals 32 and 33 are the C library's own: it lets nobody change them
    assert {name: mask & ~libc for name, mask in found.items()} == {b"SigPnd:": 0, b"SigBlk:": 0, b"SigIgn:": 0}


def test_started_with_children_ignored(python: str, tmp_path: Path, installed: Path) -> None:
    """SIGCHLD ignored is inherited, and the kernel would then throw exit codes away."""
    argv = ["--status", str(tmp_path / "s.json"), "--", "sh", "-c", "exit 3"]
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, python, "-I", "-S", str(installed), *argv], check=False)
    assert done.returncode == 3


def test_no_descriptor_but_the_three(run: Run, mode: str) -> None:
    receive, send = os.pipe()
    code = "import os; print([n for n in range(64) if os.path.exists(f'/proc/self/fd/{n}')], os.readlink('/proc/self/fd/0'))"
    try:
        result = run("python3", "-c", code, pass_fds=[send], mode=mode)
    finally:
        os.close(receive)
        os.close(send)
    assert result.stdout == b"[0, 1, 2] /dev/null\n"


def test_started_without_any_descriptor(python: str, tmp_path: Path, installed: Path) -> None:
    status = tmp_path / "s.json"
    command = 'exec "$0" -I -S "$1" --status "$2" -- sh -c "echo lost; echo lost >&2; exit 3" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command, python, str(installed), str(status)], check=False).returncode == 3
    assert len(status.read_bytes()) == 8192
    assert b"lost" not in status.read_bytes()


def test_the_environment_is_the_callers(run: Run, mode: str, work: Path, installed: Path) -> None:
    env = {"PATH": os.environ["PATH"], "A": "b=c", "EMPTY": "", "LANG": "", "B": "ü"}
    lines = run("env", "-0", env=env, mode=mode).stdout.decode().split("\0")
    seen = dict(line.split("=", 1) for line in lines if line)
    added = {name: value for name, value in seen.items() if env.get(name) != value}
    here = installed.parent if mode == "pid1" else Path(__file__).resolve().parents[2] / "bootstrap"
    assert {name: seen[name] for name in env} == env
    assert added == {
        "PYTHONUNBUFFERED": "1",
        "RUNNER_PLOTS": str(work / "outputs" / "plots"),
        "R_PROFILE_USER": str(here / "profile.R"),
        "MPLBACKEND": "module://runner_plots",
        "PYTHONPATH": str(here / "python"),
    }


def test_what_the_user_has_set_wins(run: Run, installed: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONUNBUFFERED": "",
        "RUNNER_PLOTS": "/p",
        "MPLBACKEND": "svg",
        "PYTHONPATH": "/a:/b",
        "R_PROFILE_USER": "/home/me/profile",
    }
    lines = run("env", env=env).stdout.decode().splitlines()
    seen = dict(line.split("=", 1) for line in lines)
    assert seen.pop("RUNNER_R_PROFILE_USER") == "/home/me/profile"
    assert seen.pop("R_PROFILE_USER").endswith("/bootstrap/profile.R")
    assert seen == {name: value for name, value in env.items() if name != "R_PROFILE_USER"}
    del env["MPLBACKEND"]
    assert b"PYTHONPATH=/a:/b:" in run("env", env=env).stdout


def test_notebooks_keep_their_own_plots(run: Run, work: Path, tmp_path: Path) -> None:
    (work / "x.ipynb").write_text("{}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "papermill").write_text('#!/bin/sh\necho "${MPLBACKEND-unset}"\n')
    (tmp_path / "bin" / "papermill").chmod(0o755)
    assert run("x.ipynb", env={"PATH": str(tmp_path / "bin")}).stdout == b"unset\n"


def test_python_logs_are_live(start: Start, mode: str, work: Path) -> None:
    os.mkfifo(work / "go")
    (work / "x.py").write_text("print('live'); open('go').read()\n")
    started = start("x.py", mode=mode)
    assert started.process.stdout is not None
    assert started.process.stdout.readline() == b"live\n"
    (work / "go").write_text("")
    assert started.finish().code == 0


def test_100_mb_of_anything_arrive_byte_by_byte(start: Start, mode: str, work: Path) -> None:
    """Not UTF-8, NUL, no line ends; and the bootstrapper's memory does not grow with it."""
    os.mkfifo(work / "go")
    block = bytes(range(256)) * 4096
    code = "import sys; block = bytes(range(256)) * 4096\nfor _ in range(100): sys.stdout.buffer.write(block)\n"
    code += "sys.stdout.flush(); open('go').read()"
    started = start("python3", "-c", code, mode=mode)
    assert started.process.stdout is not None
    digest, size = hashlib.sha256(), 0
    while size < 100 << 20:
        piece = started.process.stdout.read1(1 << 20)  # type: ignore[attr-defined]
        digest.update(piece)
        size += len(piece)
    peak = next(line for line in Path(f"/proc/{started.pid}/status").read_text().splitlines() if "VmHWM" in line)
    (work / "go").write_text("")
    result = started.finish()
    assert result.stdout == b""
    assert digest.hexdigest() == hashlib.sha256(block * 100).hexdigest()
    assert int(peak.split()[1]) < 30_000, peak


def test_stderr_is_stderr(run: Run, mode: str) -> None:
    result = run("sh", "-c", r"printf '\377\000\r' >&2; printf '\376'", mode=mode)
    assert (result.stdout, result.stderr) == (b"\xfe", b"\xff\x00\r")


FAULTY = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("bootstrap", sys.argv[1])
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)
def broken(*_): raise RuntimeError("a fault of our own")
bootstrap.supervise = broken
bootstrap.own_process()
os._exit(bootstrap.main(sys.argv[2:]))
"""


def test_row_15_a_fault_of_our_own_while_the_script_runs(python: str, tmp_path: Path, installed: Path) -> None:
    word = f"marker-{os.getpid()}-fault"
    status = tmp_path / "s.json"
    argv = [python, "-c", FAULTY, str(installed), "--status", str(status), "--", "sh", "-c", "sleep 60; :", word]
    done = subprocess.run(argv, capture_output=True, check=False)
    record = json.loads(status.read_bytes())
    assert done.returncode == record["process_exit"] == 125
    assert (record["final"], record["reason"], record["origin"]) == (True, "BootstrapError", "bootstrapper")
    assert record["message"] == "bootstrapper fault: RuntimeError: a fault of our own"
    assert record["retryable"] is True
    assert no_process_with(word)
