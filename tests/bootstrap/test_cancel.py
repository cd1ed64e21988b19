"""Rows 7-10: a cancel before, during and after the script; and what is forwarded."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bootstrap.conftest import Start, Started

ASKING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS, signal.SIGABRT}
FORWARDED = sorted(
    set(signal.valid_signals()) - FAULTS - set(ASKING) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
)
# Says the number of every signal that it gets; SIGTERM ends it.
LISTENER = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print("ready", flush=True)
while True:
    number = signal.sigwait(signal.valid_signals() - {signal.SIGCHLD})
    print(int(number), flush=True)
    if number == signal.SIGTERM:
        break
"""


def ready(started: Started) -> None:
    """Until the script has said that it is ready."""
    assert started.process.stdout is not None
    assert started.process.stdout.readline() == b"ready\n"


@pytest.mark.parametrize("asked", ASKING, ids=lambda number: number.name)
def test_script_dies_by_it(start: Start, mode: str, asked: signal.Signals) -> None:
    started = start("sh", "-c", "ulimit -c 0; echo ready; exec sleep 60", mode=mode)
    ready(started)
    started.send(asked)
    result = started.finish()
    assert result.row() == ("Canceled", "Canceled", None, asked.name, 128 + asked)
    assert result.record["message"] == f"canceled ({asked.name})"
    assert result.record["cancel"] == {"by": "signal", "signal": asked.name, "escalated": False}
    assert result.record["warnings"] == []


def test_the_whole_group_is_asked(start: Start, mode: str) -> None:
    """bash that waits for a child in the foreground acts on SIGINT only if the child died by it too."""
    started = start("bash", "-c", "sh -c 'echo ready; exec sleep 60'; :", mode=mode)
    ready(started)
    started.send(signal.SIGINT)
    assert started.finish().row() == ("Canceled", "Canceled", None, "SIGINT", 130)


@pytest.mark.parametrize("asked", ASKING, ids=lambda number: number.name)
@pytest.mark.parametrize("code", [0, 3])
def test_script_exits_when_asked(start: Start, mode: str, asked: signal.Signals, code: int) -> None:
    script = f"trap 'exit {code}' {asked.name[3:]}; echo ready; while :; do sleep 0.05; done"
    started = start("bash", "-c", script, mode=mode)
    ready(started)
    started.send(asked)
    result = started.finish()
    assert result.row() == ("Canceled", "Canceled", code, None, 128 + asked)
    assert result.record["message"] == f"canceled ({asked.name}); script exited {code}"


def test_script_ignores_it(start: Start, mode: str) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 60; done"
    started = start("bash", "-c", script, options=["--grace", "0.3"], mode=mode)
    ready(started)
    started.send(signal.SIGTERM)
    result = started.finish()
    assert result.row() == ("Canceled", "Canceled", None, "SIGKILL", 137)
    assert result.record["message"] == "canceled (SIGTERM); killed after 0.3 s"
    assert result.record["cancel"] == {"by": "signal", "signal": "SIGTERM", "escalated": True}


def test_no_grace_at_all(start: Start, mode: str) -> None:
    started = start("bash", "-c", "trap '' INT; echo ready; sleep 60", options=["--grace", "0"], mode=mode)
    ready(started)
    started.send(signal.SIGINT)
    assert started.finish().row() == ("Canceled", "Canceled", None, "SIGKILL", 137)


def test_a_second_request_is_forwarded_and_the_first_decides(start: Start, mode: str) -> None:
    script = "trap 'echo one' INT; trap 'echo two; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    started = start("bash", "-c", script, mode=mode)
    ready(started)
    started.send(signal.SIGINT)
    assert started.process.stdout is not None
    assert started.process.stdout.readline() == b"one\n"
    started.send(signal.SIGTERM)
    result = started.finish()
    assert result.stdout == b"two\n"
    assert result.row() == ("Canceled", "Canceled", 4, None, 130)
    assert result.record["cancel"]["signal"] == "SIGINT"


def test_a_stopped_script_can_be_canceled(start: Start, mode: str, until: Callable[..., Any]) -> None:
    started = start("bash", "-c", "echo $$; kill -STOP $$; sleep 60", mode=mode)
    assert started.process.stdout is not None
    started.process.stdout.readline()
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")

    def stopped() -> bool:
        return Path(f"/proc/{children.read_text().split()[0]}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    until(stopped, "the script to stop itself")
    started.send(signal.SIGTERM)
    assert started.finish().row() == ("Canceled", "Canceled", None, "SIGTERM", 143)


@pytest.mark.parametrize("asked", ASKING, ids=lambda number: number.name)
def test_cancel_before_the_script_started(start: Start, mode: str, asked: signal.Signals) -> None:
    """Held back by the mask that the bootstrapper inherits, the signal is there before its first line runs."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [asked])
    try:
        started = start("sleep", "60", mode=mode)
        started.send(asked)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [asked])
    assert started.finish().row() == ("Canceled", "Canceled", None, asked.name, 128 + asked)


def test_cancel_right_after_the_first_record(start: Start, mode: str) -> None:
    started = start("sleep", "60", mode=mode)
    started.wait_record()
    started.send(signal.SIGTERM)
    assert started.finish().row() == ("Canceled", "Canceled", None, "SIGTERM", 143)


@pytest.mark.parametrize("code", [0, 7])
def test_cancel_while_leftovers_are_stopped_changes_nothing(
    start: Start, mode: str, code: int, work: Path, until: Callable[..., Any]
) -> None:
    left = "trap 'touch asked' TERM; touch armed; while :; do sleep 0.05; done"
    script = f'bash -c "$0" & while [ ! -e armed ]; do :; done; exit {code}'
    started = start("bash", "-c", script, left, options=["--grace", "0.5"], mode=mode)
    until((work / "asked").exists, "the leftover to be asked, so the script has ended")
    started.send(signal.SIGTERM)
    result = started.finish()
    assert result.row()[1:] == ("NonZeroExit" if code else "Completed", code, None, code)
    assert result.record["cancel"] is None


def test_cancel_and_end_seen_together(start: Start, mode: str, work: Path, until: Callable[..., Any]) -> None:
    """The kernel hands out SIGTERM before SIGCHLD; the end came first all the same."""
    os.mkfifo(work / "go")
    started = start("bash", "-c", "echo ready; read -t 60 < go; exit 0", mode=mode)
    ready(started)
    bootstrapper = started.pid
    script = Path(f"/proc/{bootstrapper}/task/{bootstrapper}/children").read_text().split()[0]
    started.send(signal.SIGSTOP)
    (work / "go").write_text("x\n")
    until(lambda: Path(f"/proc/{script}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "the script's end")
    started.send(signal.SIGTERM)
    started.send(signal.SIGCONT)
    result = started.finish()
    assert result.row() == ("Completed", "Completed", 0, None, 0)
    assert result.record["cancel"] is None


def test_timeout_first_then_cancel_stays_a_timeout(
    start: Start, mode: str, work: Path, until: Callable[..., Any]
) -> None:
    script = "trap 'touch asked' TERM; echo ready; while :; do sleep 0.05; done"
    started = start("bash", "-c", script, options=["--timeout", "0.2", "--grace", "0.6"], mode=mode)
    until((work / "asked").exists, "the time limit")
    started.send(signal.SIGINT)
    result = started.finish()
    assert result.row()[:2] == ("Failed", "Timeout")
    assert result.record["cancel"] is None


def test_cancel_first_then_timeout_stays_a_cancel(start: Start, mode: str) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 60; done"
    started = start("bash", "-c", script, options=["--timeout", "0.6", "--grace", "0.9"], mode=mode)
    ready(started)
    started.send(signal.SIGTERM)
    result = started.finish()
    assert result.row() == ("Canceled", "Canceled", None, "SIGKILL", 137)
    assert result.record["elapsed_s"] >= 0.6


def test_every_other_signal_is_forwarded(start: Start, mode: str) -> None:
    started = start("python3", "-c", LISTENER, mode=mode)
    ready(started)
    assert started.process.stdout is not None
    bootstrapper = started.pid
    for number in FORWARDED:
        os.kill(bootstrapper, number)
        assert started.process.stdout.readline() == b"%d\n" % number
    assert len(FORWARDED) > 40
    started.send(signal.SIGTERM)
    result = started.finish()
    assert result.row() == ("Canceled", "Canceled", 0, None, 143)
    assert result.stdout == b"%d\n" % signal.SIGTERM or result.stdout == b"15\n18\n"


def test_a_forwarded_signal_that_kills_is_no_cancel(start: Start, mode: str) -> None:
    started = start("bash", "-c", "echo ready; sleep 60", mode=mode)
    ready(started)
    started.send(signal.SIGUSR1)
    assert started.finish().row() == ("Failed", "Signaled", None, "SIGUSR1", 138)
