"""A pipeline as it runs: on a terminal a line for each running step, else every log line and one for each step's end."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, BinaryIO, Protocol

from runner import console
from runner.steplogs import Follower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.store import Progress, RunRow, Store


def follow(store: Store, run: RunRow, *, gone: int | None, json: bool) -> RunRow:
    """Show the steps of a pipeline until it has ended; its row then. With `json` stdout is left to the result."""
    view: _View
    if sys.stderr.isatty() and sys.stdout.isatty() and not json:
        view = _Board(store, sum(store.counts(run).values()))
    else:
        view = _Lines(store, sys.stderr.buffer if json else None)
    try:
        for block in Follower(store, run, gone=gone, told=view.told):
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
        self._drawn = 0
        self._last: dict[str, str] = {}

    def feed(self, block: bytes) -> None:
        """See `_View`. All lines of a block are of one step."""
        if not block:
            return
        line = block.rstrip(b"\n").rpartition(b"\n")[2].decode("utf-8", "replace")
        step, _, text = line.removeprefix("[").partition("] ")
        self._last[step] = console.printable(text.rpartition("\r")[2] or text)

    def told(self, moving: Sequence[Progress], ended: Sequence[Progress]) -> None:
        """See `_View`."""
        self._erase()
        for step in ended:
            self._last.pop(step.path, None)
            console.say("step", _ended(self._store.get(step.name)))
        self._done += len(ended)
        size = shutil.get_terminal_size()
        shown = moving[: max(1, size.lines - 3)]
        for step in shown:
            row = self._store.get(step.name)
            text = f"  {step.path}  {row.status.value}  {console.elapsed(row)}  {self._last.get(step.path, '')}"
            self._line(text, size.columns)
        more = f", {len(moving) - len(shown)} more run" if len(moving) > len(shown) else ""
        self._line(f"{self._done}/{self._count} steps ended, {len(moving)} running{more}", size.columns)

    def close(self) -> None:
        """See `_View`."""
        self._erase()

    def _line(self, text: str, width: int) -> None:
        print(text[: width - 1], file=sys.stderr, flush=True)
        self._drawn += 1

    def _erase(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}F\x1b[J", end="", file=sys.stderr, flush=True)
            self._drawn = 0


def _ended(row: RunRow) -> str:
    took = console.elapsed(row)
    note = f"reused from {row.reused_from}" if row.reused_from else row.outcome.message if row.outcome else ""
    colour = console.paint(console.status_text(row), console.status_colour(row.status), sys.stderr)
    return (
        f"{row.path}  {colour}"
        + (f" in {took}" if took and not row.reused_from else "")
        + (f"  {note}" if note else "")
    )
