"""A pipeline as it runs: on a terminal a line for each running step, else every log line and one for each step's end."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, BinaryIO, Protocol

from runner import console
from runner.logs import last_lines
from runner.model import Status
from runner.steplogs import Follower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.store import Progress, RunRow, Store


def follow(store: Store, run: RunRow, *, gone: int | None, json: bool) -> RunRow:
    """Show the steps of a pipeline until it has ended; its row then. With `json` stdout is left to the result."""
    board = None
    # A terminal that is dumb cannot take a line back.
    if sys.stderr.isatty() and sys.stdout.isatty() and not json and os.environ.get("TERM") != "dumb":
        board = _Board(store, sum(store.counts(run).values()))
    view: _View = board or _Lines(store, sys.stderr.buffer if json else None)
    follower = Follower(store, run, gone=gone, told=view.told)
    if board is not None:
        board.unfinished = follower.unfinished
    try:
        for block in follower:
            view.feed(block)
    finally:
        view.close()
    return store.get(run.name)


class _View(Protocol):
    def feed(self, block: bytes) -> None:
        """Whole lines of steps, each with its prefix."""

    def told(self, moving: Sequence[Progress], ended: Sequence[Progress]) -> None:
        """The steps that run, and those that have ended since the last call."""

    def close(self) -> None:
        """Nothing more comes."""


class _Lines:
    """Log lines on stdout, ends of steps on stderr."""

    def __init__(self, store: Store, sink: BinaryIO | None) -> None:
        self._store, self._sink = store, sink

    def feed(self, block: bytes) -> None:
        """See `_View`."""
        console.result_bytes(block, self._sink)

    def told(self, moving: Sequence[Progress], ended: Sequence[Progress]) -> None:
        """See `_View`."""
        del moving
        for step in ended:
            console.say("step", _ended(self._store.get(step.name)))

    def close(self) -> None:
        """See `_View`."""


class _Board:
    """Finished steps scroll up; below them one line for each that runs, with the last of its log, and a total."""

    def __init__(self, store: Store, count: int) -> None:
        self._store, self._count = store, count
        self._done = 0
        self._trials = 0
        self._drawn = 0
        self._last: dict[str, str] = {}
        self.unfinished: Callable[[str], bytes] = lambda _path: b""
        """The line that a step has begun: a progress bar has no other."""

    def feed(self, block: bytes) -> None:
        """See `_View`. All lines of a block are of one step."""
        if not block:
            return
        line = block.rstrip(b"\n").rpartition(b"\n")[2].decode("utf-8", "replace")
        step, _, text = line.removeprefix("[").partition("] ")
        self._last[step] = text

    def told(self, moving: Sequence[Progress], ended: Sequence[Progress]) -> None:
        """See `_View`."""
        if ended:
            self._erase()
        for step in ended:
            self._last.pop(step.path, None)
            row = self._store.get(step.name)
            console.say("step", _ended(row))
            for line in _why(self._store, row):
                console.say("", f"           {line}")
            self._trials += step.trial
            self._done += not step.trial
        self._draw(moving)

    def close(self) -> None:
        """See `_View`."""
        self._erase()

    def _draw(self, moving: Sequence[Progress]) -> None:
        size = shutil.get_terminal_size()
        shown = moving[: max(1, size.lines - 3)]
        names = [console.shortened(step.path, max(12, size.columns // 3)) for step in shown]
        width = max((len(name) for name in names), default=0)
        lines = [f"  {name.ljust(width)}  {self._state(step)}" for name, step in zip(names, shown, strict=True)]
        trials = f" and {self._trials} trial{'s' * (self._trials != 1)}" if self._trials else ""
        more = f", {len(moving) - len(shown)} more run" if len(moving) > len(shown) else ""
        lines.append(f"{self._done}/{self._count} steps{trials} ended, {len(moving)} running{more}")
        # One write, so that no half of it is seen.
        frame = "".join(f"{console.clipped(line, size.columns - 1)}\x1b[K\n" for line in lines)
        print(f"{self._back()}{frame}\x1b[J", end="", file=sys.stderr, flush=True)
        self._drawn = len(lines)

    def _state(self, step: Progress) -> str:
        row = self._store.get(step.name)
        begun = self.unfinished(step.path).decode("utf-8", "replace")
        return (
            f"{row.status.value}  {console.elapsed(row)}  {console.last_state(begun or self._last.get(step.path, ''))}"
        )

    def _erase(self) -> None:
        if self._drawn:
            print(f"{self._back()}\x1b[J", end="", file=sys.stderr, flush=True)
            self._drawn = 0

    def _back(self) -> str:
        return f"\x1b[{self._drawn}F" if self._drawn else ""


def _why(store: Store, row: RunRow) -> list[str]:
    """The last lines of a step that failed: a board has shown none of them for long."""
    if row.status is not Status.FAILED:
        return []
    return [
        console.last_state(line) for line in last_lines(store.folder(row.name).attempt(max(1, row.attempts)).log, 5)
    ]


def _ended(row: RunRow) -> str:
    took = console.elapsed(row)
    note = f"reused from {row.reused_from}" if row.reused_from else row.outcome.message if row.outcome else ""
    colour = console.paint(console.status_text(row), console.status_colour(row.status), sys.stderr)
    return (
        f"{row.path}  {colour}"
        + (f" in {took}" if took and not row.reused_from else "")
        + (f"  {note}" if note else "")
    )
