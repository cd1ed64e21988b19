"""The log of a pipeline: the lines of all its steps, each with `[step] ` before it, and otherwise the same bytes.

Only the logs of steps that run are held open, and only what changed is asked of the store: ten thousand steps are followed
at the price of those that run.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runner import logs
from runner.engine.logindex import log_offset
from runner.supervisor import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runner.store import Progress, RunRow, Store

    Told = Callable[[Sequence[Progress], Sequence[Progress]], object]

_POLL_S = 0.02
_STATUS_S = 0.1
_ENSURE_S = 1.0
_MARGIN_S = 1.0
"""An end is seen so long after the time that it bears, on a busy machine; at the end of all, every step is looked at."""

_BLOCK = 1 << 18
_LINE = 1 << 20
"""A longer line is broken: a script that never ends its line must not be held in memory whole, and copied for each block."""

_SHOWN = 4096
"""Of a line that a step has begun, as much as anybody could see."""


class Prefixer:
    """Puts a text before each line of a stream of bytes that comes in pieces. One of more than 1 MiB becomes several."""

    def __init__(self, step: str) -> None:
        self._prefix = f"[{step}] ".encode()
        self._part = b""

    def feed(self, block: bytes) -> bytes:
        """The whole lines that are there now, each with its prefix."""
        lines, newline, rest = (self._part + block).rpartition(b"\n")
        if len(rest) > _LINE:
            lines, newline, rest = lines + newline + rest, b"\n", b""
        self._part = rest
        return b"".join(self._prefix + line + b"\n" for line in lines.split(b"\n")) if newline else b""

    @property
    def begun(self) -> bytes:
        """The end of the line that has no end yet."""
        return self._part[-_SHOWN:]

    def close(self) -> bytes:
        """What is left of a line without an end, which it is given."""
        part, self._part = self._part, b""
        return self._prefix + part + b"\n" if part else b""


def read(store: Store, run: RunRow, *, tail: int | None = None, since: float | None = None) -> Iterator[bytes]:
    """Step after step, in the order in which they were started: all, the last `tail` lines, or those since then."""
    steps = store.by_start(run)
    if tail is not None:
        yield from _last(store, steps, tail, since)
        return
    for step in steps:
        yield from _of_step(store, step, since=since)


def _of_step(store: Store, step: Progress, *, tail: int | None = None, since: float | None = None) -> Iterator[bytes]:
    """Of its last attempt."""
    prefixer = Prefixer(step.path)
    folder = store.folder(step.name).attempt(max(1, step.attempts))
    for block in logs.read(folder.log, tail=tail, since=since, index=folder.log_index):
        yield prefixer.feed(block)
    yield prefixer.close()


def _last(store: Store, steps: Sequence[Progress], count: int, since: float | None) -> Iterator[bytes]:
    """The last lines of all together: as many steps are read, from the last one back, as it takes."""
    found: list[bytes] = []
    for step in reversed(steps):
        if count <= 0:
            break
        block = b"".join(_of_step(store, step, tail=count, since=since))
        count -= block.count(b"\n")
        found.append(block)
    yield from reversed(found)


class _Open:
    """The log of one step that runs."""

    def __init__(self, store: Store, step: Progress) -> None:
        self._store, self.step, self._number = store, step, 1
        self._fd: int | None = None
        self._prefixer = Prefixer(step.path)

    def skip(self, *, tail: int | None, since: float | None) -> None:
        """Begin at the last `tail` lines of the present attempt, or at those since then."""
        self._number = max(1, self.step.attempts)
        folder = self._store.folder(self.step.name).attempt(self._number)
        if not self._open():
            return
        assert self._fd is not None  # noqa: S101 - _open
        start = log_offset(folder.log_index, since) if since is not None else 0
        if tail is not None:
            start = max(start, logs.tail_offset(self._fd, tail))
        os.lseek(self._fd, start, os.SEEK_SET)

    def drain(self, attempts: int) -> Iterator[bytes]:
        """What has come, over all attempts so far."""
        while True:
            if self._fd is not None or self._open():
                assert self._fd is not None  # noqa: S101 - _open
                while block := os.read(self._fd, _BLOCK):
                    yield self._prefixer.feed(block)
            if self._number >= attempts:
                return
            yield self.close()
            self._number += 1

    def close(self) -> bytes:
        """Forget the file; the end of a line that had none."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        return self._prefixer.close()

    @property
    def begun(self) -> bytes:
        """Of the line that has no end yet, what a terminal could show."""
        return self._prefixer.begun

    def _open(self) -> bool:
        path = self._store.folder(self.step.name).attempt(self._number).log
        with suppress(FileNotFoundError):
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._fd is not None


class Follower:
    """Yields the lines of all steps as they come, until the pipeline has ended and all was read.

    Args:
        told: called ten times a second with the steps that run and those that have ended since (their lines were yielded).
        gone: reads end-of-file when the supervisor is gone; closed here.
        tail, since: what has ended before is left out; of what runs, the last so many lines, or those since then.
    """

    def __init__(
        self, store: Store, run: RunRow, *, gone: int | None = None, tail: int | None = None,
        since: float | None = None, told: Told | None = None,
    ) -> None:  # fmt: skip
        self._store, self._run, self._gone = store, run, gone
        self._told = told
        self._tail, self._since = tail, since
        self._open: dict[str, _Open] = {}
        self._done: set[str] = set()
        self._seen = 0.0
        self._ensured = time.monotonic()

    def __iter__(self) -> Iterator[bytes]:
        try:
            if self._tail is not None or self._since is not None:
                self._begin_late()
            yield from self._follow()
        finally:
            for opened in self._open.values():
                opened.close()
            if self._gone is not None:
                os.close(self._gone)

    def unfinished(self, path: str) -> bytes:
        """Of the line that a running step has begun and not ended, the last 4 KiB."""
        opened = self._open.get(path)
        return opened.begun if opened else b""

    def _begin_late(self) -> None:
        for step in self._store.moving(self._run):
            self._open[step.path] = opened = _Open(self._store, step)
            opened.skip(tail=self._tail, since=self._since)
        since = self._since if self._tail is None else None
        late = set() if since is None else {step.path for step in self._store.ended(self._run, since)}
        self._done = {step.path for step in self._store.ended(self._run, 0.0)} - late

    def _follow(self) -> Iterator[bytes]:
        while True:
            # Asked before reading: what is read after the end was seen is all there is.
            ended = self._store.get(self._run.name).status.terminal
            if not ended:
                self._look_after()
            moving = self._store.moving(self._run)
            for step in moving:
                if step.path not in self._open:
                    self._open[step.path] = self._opened(step)
                self._open[step.path].step = step
            found = [
                step
                for step in self._store.ended(self._run, 0.0 if ended else self._seen - _MARGIN_S)
                if step.path not in self._done
            ]
            yield from self._finish(found)
            if self._told is not None:
                self._told([step for step in moving if step.path not in self._done], found)
            if ended:
                return
            due = time.monotonic() + _STATUS_S
            while time.monotonic() < due:
                for opened in self._open.values():
                    yield from opened.drain(opened.step.attempts)
                time.sleep(_POLL_S)

    def _opened(self, step: Progress) -> _Open:
        opened = _Open(self._store, step)
        if self._since is not None:
            opened.skip(tail=None, since=self._since)
        return opened

    def _finish(self, found: Sequence[Progress]) -> Iterator[bytes]:
        """Read the steps that have ended to their ends."""
        for step in found:
            opened = self._open.pop(step.path, None) or self._opened(step)
            yield from opened.drain(step.attempts)
            if part := opened.close():
                yield part
            self._done.add(step.path)
        if found:
            self._seen = time.time()

    def _look_after(self) -> None:
        if time.monotonic() - self._ensured > _ENSURE_S:
            ensure(self._store, self._run)
            self._ensured = time.monotonic()
