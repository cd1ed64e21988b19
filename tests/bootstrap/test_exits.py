"""Rows 1-3 and 6: how a script that ran to some end of its own, or to its time limit, is judged."""

from __future__ import annotations

import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bootstrap.conftest import Run, Start

STOPPING = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
DEADLY = sorted(set(signal.valid_signals()) - STOPPING - HARMLESS)


def name_of(number: int) -> str:
    """The name that the record has to carry."""
    if signal.SIGRTMIN < number < signal.SIGRTMAX:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
    return signal.Signals(number).name.replace("SIGPOLL", "SIGIO").replace("SIGIOT", "SIGABRT")


def test_all_256_exit_codes_arrive_unchanged(run: Run, mode: str) -> None:
    # As PID 1 every code; as a plain process, the same function decides: those that other tools give a meaning to.
    codes = range(256) if mode == "pid1" else [0, 1, 2, *range(124, 144), 254, 255]

    def one(code: int) -> None:
        result = run("sh", "-c", f"exit {code}", mode=mode)
        status, reason = ("Failed", "NonZeroExit") if code else ("Completed", "Completed")
        assert result.row() == (status, reason, code, None, code)
        assert result.record["message"] == (f"script exited with code {code}" if code else "")
        assert result.record["origin"] == "script"
        assert result.record["retryable"] is False
        assert result.stderr == b""

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(one, codes))) == len(codes)


def test_every_deadly_signal_is_told_from_an_exit_code(run: Run, mode: str) -> None:
    def one(number: int) -> None:
        result = run("sh", "-c", f"ulimit -c 0; kill -{number} $$", mode=mode)
        assert result.row() == ("Failed", "Signaled", None, name_of(number), 128 + number), number
        assert result.record["message"] == f"script was killed by {name_of(number)}"
        assert result.record["core_dumped"] is False
        assert result.record["cancel"] is None

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(one, DEADLY))) > 50


def test_voluntary_137_is_no_kill(run: Run) -> None:
    assert run("sh", "-c", "exit 137").row() == ("Failed", "NonZeroExit", 137, None, 137)


def test_a_core_dump_is_said(run: Run, work: Path) -> None:
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/")):
        pytest.skip("this host sends core dumps elsewhere")
    limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if limit == 0:
        pytest.skip("this host forbids core dumps")
    result = run("bash", "-c", f"ulimit -c {'unlimited' if limit < 0 else limit // 1024}; kill -SEGV $$")
    assert result.row() == ("Failed", "Signaled", None, "SIGSEGV", 139)
    assert result.record["core_dumped"] is True
    assert result.record["message"] == "script was killed by SIGSEGV (core dumped)"


def test_signals_have_their_usual_meaning_in_the_script(run: Run) -> None:
    """Python ignores SIGPIPE; a child that inherits this makes `yes | head -1` end 1."""
    result = run("bash", "-c", "set -o pipefail; yes | head -1")
    assert result.row() == ("Failed", "NonZeroExit", 141, None, 141)
    assert result.stdout == b"y\n"


def test_a_time_limit_that_the_script_obeys(run: Run, mode: str) -> None:
    began = time.monotonic()
    result = run("sleep", "60", options=["--timeout", "0.2"], mode=mode)
    assert result.row() == ("Failed", "Timeout", None, "SIGTERM", 124)
    assert result.record["message"] == "timed out after 0.2 s"
    assert result.record["cancel"] is None
    assert 0.2 <= result.record["elapsed_s"] <= time.monotonic() - began < 5


def test_a_time_limit_whatever_the_ending(run: Run, mode: str) -> None:
    result = run(
        "bash", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done", options=["--timeout", "0.2"], mode=mode
    )
    assert result.row() == ("Failed", "Timeout", 0, None, 124)


def test_a_time_limit_that_the_script_ignores(run: Run, mode: str) -> None:
    command = ["bash", "-c", "trap '' TERM; while :; do sleep 60; done"]
    result = run(*command, options=["--timeout", "0.2", "--grace", "0.3"], mode=mode)
    assert result.row() == ("Failed", "Timeout", None, "SIGKILL", 124)
    assert result.record["message"] == "timed out after 0.2 s (needed SIGKILL)"
    assert result.record["elapsed_s"] >= 0.5


@pytest.mark.parametrize("ignores", ["", "trap '' TERM;"])
def test_a_stopped_script_still_has_a_time_limit(run: Run, mode: str, ignores: str) -> None:
    command = ["bash", "-c", f"{ignores} kill -STOP $$; while :; do sleep 60; done"]
    result = run(*command, options=["--timeout", "0.3", "--grace", "0.3"], mode=mode)
    assert result.row() == ("Failed", "Timeout", None, "SIGKILL" if ignores else "SIGTERM", 124)


def test_times_memory_and_cpu_are_measured(run: Run, mode: str) -> None:
    code = (
        "import time; block = b'x' * 80_000_000; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    )
    record = run("python3", "-c", code, mode=mode).record
    assert 80_000_000 < record["max_rss_bytes"] < 200_000_000
    assert 0.15 < record["user_s"] + record["sys_s"] < 2
    assert 0.2 <= record["elapsed_s"] < 10
    assert record["started"] < record["finished"]
    assert record["started"].endswith("Z")
    assert len(record["started"]) == len("2026-01-01T00:00:00.000Z")


def test_the_time_limit_does_not_follow_the_wall_clock(start: Start, until: Callable[..., object]) -> None:
    """A frozen bootstrapper wakes up after its limit has passed: the limit is then enforced at once."""
    started = start("sleep", "60", options=["--timeout", "0.5"])
    started.wait_record()
    started.send(signal.SIGSTOP)
    until(lambda: "T" in Path(f"/proc/{started.pid}/stat").read_text().split(")")[1], "the bootstrapper to be stopped")
    end = time.monotonic() + 0.6
    until(lambda: time.monotonic() > end, "the limit to pass")
    started.send(signal.SIGCONT)
    assert started.finish().row() == ("Failed", "Timeout", None, "SIGTERM", 124)
