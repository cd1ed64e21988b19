"""What `submit --wait` draws on a terminal while a pipeline runs."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TYPE_CHECKING

import pytest

from runner import console
from runner.cli import board
from runner.model import Status
from runner.plan import Plan
from runner.store import Store
from runner.store.rows import Progress
from runner.supervisor import launch
from tests.plans import accept, bash

if TYPE_CHECKING:
    from pathlib import Path


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    seen: Path | None = None
    """A file that is made once a bar has been drawn."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.seen is not None and "20%" in text:
            self.seen.touch()
        return super().write(text)


def shown(text: str) -> str:
    """All that was ever written, without the terminal's escapes."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def attached(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 60 columns. Called by the test itself: pytest's capture comes after its fixtures."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    return screen


def test_a_bar_without_an_end_is_seen_a_failure_says_why_and_no_line_wraps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = attached(monkeypatch)
    long, seen = "step_" + "x" * 80, tmp_path / "seen"
    bar = r"printf '\r\033[31m10%%\033[0m\r\033[31m20%% 一二三四五六七八九十一二三四五六七八九十'"
    until_seen = f"for i in $(seq 600); do [ -e {seen} ] && break; sleep 0.1; done; echo"
    terminal.seen = seen
    store = Store(tmp_path / "home")
    bad = bash("bad", "echo the reason; exit 3")
    run, lock = accept(store, Plan((bash(long, f"{bar}; {until_seen}"), bad), continue_on_step_failure=True))
    board.follow(store, run, gone=launch(store, run, lock, {}), json=False)
    lines = shown(terminal.getvalue()).splitlines()
    drawn = [line for line in lines if line.startswith("  step_xx")]
    assert any("…xxx" in line and "Running" in line and "20% 一二" in line for line in drawn)
    assert not any("10%" in line or "[31m" in line for line in drawn)
    assert all(sum(1 + (ord(char) > 0x2FFF) for char in line) < 60 for line in drawn)
    failed = next(index for index, line in enumerate(lines) if line.startswith("step") and "bad  Failed" in line)
    assert lines[failed + 1].strip() == "the reason"
    store.close()


def test_trials_are_not_counted_as_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attached(monkeypatch)
    store = Store(tmp_path / "home")
    run, lock = accept(store, Plan((bash("search", "true"),)))
    for number in range(2):
        store.add_child(run, f"search.trial_{number}", store.child(run, "search").step)
    assert sum(store.counts(run).values()) == 1
    assert sum(store.counts(run, trials=True).values()) == 2
    view = board._Board(store, 1)
    view.told([], [Progress("search.trial_0", f"{run.name}.search.trial_0", Status.COMPLETED, 1, trial=True)])
    assert shown(terminal.getvalue()).splitlines()[-1] == "0/1 steps and 1 trial ended, 0 running"
    os.close(lock)
    store.close()


def test_a_dumb_terminal_gets_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attached(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    log = io.BytesIO()
    monkeypatch.setattr(terminal, "buffer", log, raising=False)
    store = Store(tmp_path / "home")
    run, lock = accept(store, Plan((bash("one", "echo 1"),)))
    board.follow(store, run, gone=launch(store, run, lock, {}), json=False)
    assert "\x1b" not in terminal.getvalue()
    assert log.getvalue() == b"[one] 1\n"
    store.close()


def test_what_a_line_comes_to() -> None:
    assert console.last_state("\r 5%\r10%\r") == "10%"
    assert console.last_state("\x1b[1;31ma\x1b[0m\tb\x1b]0;title\x07c") == "a       bc"
    assert console.last_state("\x1b[") == "?["
    assert console.clipped("a一二三", 4) == "a一"
    assert console.clipped("abc", 2) == "ab"
    assert console.shortened("abcdefghij", 7) == "abc…hij"
    assert console.shortened("abc", 3) == "abc"
