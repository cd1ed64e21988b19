"""Reads and follows the log of a run, which its supervisor (or the script itself) writes. Bytes in, the same bytes out."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from runner.engine.logindex import log_offset
from runner.supervisor import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.store import RunRow, Store

_POLL_S = 0.01
"""A line shows at most so long after it is in the file. One fstat each costs 0.1 % of a processor."""
_STATUS_S = 0.1
_ENSURE_S = 1.0
_BLOCK = 1 << 18


def read(
    path: Path, *, tail: int | None = None, since: float | None = None, index: Path | None = None
) -> Iterator[bytes]:
    """The log's bytes: all, the last `tail` lines, or those written after `since` (seconds since the epoch)."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        start = log_offset(index, since) if since is not None and index is not None else 0
        if tail is not None:
            start = max(start, tail_offset(file.fileno(), tail))
        file.seek(start)
        while block := file.read(_BLOCK):
            yield block


def tail_offset(fd: int, lines: int) -> int:
    """Where the last `lines` lines begin, read backwards in blocks: 100 MB logs cost as little as small ones."""
    end = os.fstat(fd).st_size
    if lines <= 0:
        return end
    position, wanted = end, lines
    if end and os.pread(fd, 1, end - 1) != b"\n":
        wanted -= 1
    while position > 0:
        start = max(0, position - _BLOCK)
        block = os.pread(fd, position - start, start)
        count = block.count(b"\n")
        if count > wanted:
            offset = len(block)
            for _ in range(wanted + 1):
                offset = block.rfind(b"\n", 0, offset)
            return start + offset + 1
        wanted -= count
        position = start
    return 0


def last_lines(path: Path, count: int, width: int = 400) -> list[str]:
    """The last lines for people: decoded as far as possible, control characters out, each cut at `width`."""
    raw = b"".join(read(path, tail=count * 3))[-65536:]
    text = raw.decode("utf-8", "replace")
    lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
    clean = ["".join(c for c in line if c.isprintable() or c == "\t")[:width] for line in lines]
    return [line for line in clean if line.strip()][-count:]


class Follower:
    """Yields a run's log as it grows, over all its attempts, until the run has ended and all was read."""

    def __init__(
        self, store: Store, run: RunRow, *, gone: int | None = None, attempt: int | None = None,
        tail: int | None = None, since: float | None = None,
    ) -> None:  # fmt: skip
        self._store, self._run, self._gone = store, run, gone
        self._only = attempt
        self._number = attempt or 1
        self._tail, self._since = tail, since
        self._fd: int | None = None
        self._ensured = time.monotonic()
        if attempt is None and (tail is not None or since is not None):
            self._number = max(1, run.attempts)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._follow()
        finally:
            for fd in (self._fd, self._gone):
                if fd is not None:
                    os.close(fd)
            self._fd = self._gone = None

    def _follow(self) -> Iterator[bytes]:
        checked = 0.0
        ended, attempts = False, 1
        while True:
            # Asked before reading: what is read after the end was seen is all there is.
            gone = self._supervisor_gone()
            if gone or time.monotonic() - checked >= _STATUS_S:
                ended, attempts = self._state(gone=gone)
                checked = time.monotonic()
            yield from self._drain()
            if ended or attempts > self._number:
                if self._only is not None or self._number >= attempts:
                    return
                self._next()
                continue
            self._sleep()

    def _state(self, *, gone: bool) -> tuple[bool, int]:
        row = self._store.get(self._run.name)
        # A supervisor of ours tells its end by the descriptor; any other is looked after once a second.
        due = self._gone is None and time.monotonic() - self._ensured > _ENSURE_S
        if not row.status.terminal and (gone or due):
            ensure(self._store, row)
            self._ensured = time.monotonic()
        return row.status.terminal, row.attempts

    def _supervisor_gone(self) -> bool:
        if self._gone is None:
            return False
        if not select.select([self._gone], [], [], 0)[0]:
            return False
        os.close(self._gone)
        self._gone = None
        return True

    def _sleep(self) -> None:
        if self._gone is None:
            time.sleep(_POLL_S)
        else:
            select.select([self._gone], [], [], _POLL_S)

    def _next(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._number += 1

    def _drain(self) -> Iterator[bytes]:
        if self._fd is None and not self._open():
            return
        assert self._fd is not None  # noqa: S101 - _open
        while block := os.read(self._fd, _BLOCK):
            yield block

    def _open(self) -> bool:
        folder = self._store.folder(self._run.name).attempt(self._number)
        try:
            self._fd = os.open(folder.log, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        start = 0
        if self._since is not None:
            start = log_offset(folder.log_index, self._since)
        if self._tail is not None:
            start = max(start, tail_offset(self._fd, self._tail))
        self._tail = self._since = None
        os.lseek(self._fd, start, os.SEEK_SET)
        return True
