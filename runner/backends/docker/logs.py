"""Copies what containers write into the logs of their tasks, as it comes: one selector, no thread.

The end of a stream is how the end of a task is seen at once.
"""

from __future__ import annotations

import os
import select
import selectors
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.docker_api.containers import Engine, Frames
from runner.errors import BackendError, UnavailableError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from runner.backends.base import Handle, Observation, Task
    from runner.backends.docker.starting import Starter
    from runner.docker_api.wire import Stream


@dataclass(slots=True)
class Watched:
    """A task whose log is being copied. `copied` counts the bytes that are in the log file.

    live: the stream is the container's own, from its first byte on; else it is the engine's log file, read anew, of
    which `skip` bytes have still to be passed over, since the log has them already.
    """

    task: Task
    stream: Stream | None = None
    live: bool = False
    frames: Frames = field(default_factory=Frames)
    skip: int = 0
    copied: int = 0
    pending: bytes = b""
    whole: bool = False
    last: Observation | None = None
    asked: float = 0.0
    ended: float = 0.0
    start_error: str | None = None
    starting: Future[None] | None = None
    unstarted: bool = False
    connected: int = 0
    """The connection to the engine that stood when the live stream was opened."""
    early: bool = False
    """Its end is told by its record; the engine may not have seen it yet."""


class Logs:
    """What is watched, and the streams of it."""

    def __init__(self, engine: Engine, starter: Starter) -> None:
        self.watched: dict[Handle, Watched] = {}
        self._engine, self._starter = engine, starter
        self._selector = selectors.DefaultSelector()
        self._selector.register(starter, selectors.EVENT_READ)

    def wait(self, timeout: float) -> None:
        """Copy until a stream ends or a start is answered, or for `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self.flush_all()
            # With bytes that a full disk refuses, the streams are left alone: they would be ready at every look.
            if any(watched.pending for watched in self.watched.values()):
                time.sleep(left)
                return
            if self._read(left):
                return

    def _read(self, timeout: float) -> bool:
        """Copy what is there, or comes first; whether a stream has ended, or a start was answered."""
        changed = False
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._starter.heard()
                changed = True
            else:
                changed |= self._pump(self.watched[key.data])
        return changed

    def follow(self, handle: Handle, watched: Watched) -> bool:
        """Open the engine's log file from its start; what ours has already is passed over. False: there is none."""
        try:
            stream = self._engine.logs(handle)
        except UnavailableError:
            raise
        except BackendError:  # the container is gone; poll will say so
            return False
        self.take(handle, watched, stream, live=False)
        self._pump(watched)
        return True

    def take(self, handle: Handle, watched: Watched, stream: Stream, *, live: bool) -> None:
        """Copy from this stream from now on."""
        self.drop(watched)
        watched.stream, watched.live, watched.whole = stream, live, False
        watched.frames, watched.skip, watched.pending = Frames(), 0 if live else watched.copied, b""
        self._selector.register(stream, selectors.EVENT_READ, handle)

    def _pump(self, watched: Watched) -> bool:
        """Copy what is there; whether the stream has ended. Bytes that a full disk refused are kept and come first."""
        stream = watched.stream
        if stream is None or not self.flush(watched):
            return False
        watched.pending = _unknown(watched, watched.frames.feed(stream.read()))
        self.flush(watched)
        if stream.ended and not watched.pending:
            # A connection to another machine may end by itself, and only the engine's log file tells where it ends.
            watched.whole = (watched.live and self._engine.local) or stream.complete
            watched.ended = time.monotonic()
            self.drop(watched)
            return True
        return False

    def flush_all(self) -> None:
        for watched in self.watched.values():
            self.flush(watched)

    def flush(self, watched: Watched, *, must: bool = False) -> bool:
        """Write pending log bytes; False when the disk is full (`must`: raise instead)."""
        if not watched.pending:
            return True
        fd = os.open(watched.task.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            while watched.pending:
                written = os.write(fd, watched.pending)
                watched.pending = watched.pending[written:]
                watched.copied += written
        except OSError:
            if must:
                raise
            return False
        finally:
            os.close(fd)
        return True

    def drop(self, watched: Watched) -> None:
        if watched.stream is not None:
            self._selector.unregister(watched.stream)
            watched.stream.close()
            watched.stream = None

    def drain(self, watched: Watched) -> None:
        """Read the stream of an ended container to its end; the engine has all of it already."""
        while watched.stream is not None:
            if not _readable(watched.stream, 60.0):
                self.drop(watched)
                raise UnavailableError("the engine does not hand over the rest of a log", "it is asked again")
            self._pump(watched)
            self.flush(watched, must=True)

    def close(self) -> None:
        """Close the streams."""
        for watched in self.watched.values():
            self.drop(watched)
        self._selector.close()


def _readable(stream: Stream, timeout: float) -> bool:
    """Whether the stream has something within so many seconds."""
    poller = select.poll()
    poller.register(stream, select.POLLIN)
    return bool(poller.poll(timeout * 1000))


def _unknown(watched: Watched, data: bytes) -> bytes:
    """What the log does not have yet of the next bytes of the engine's log file, which is read anew.

    That file spoils what is not UTF-8. Where it differs from what we have, it is taken as it is from there on: better
    spoilt than twice or not at all.
    """
    if not (again := data[: watched.skip]):
        return data
    with watched.task.log.open("rb+") as log:
        log.seek(watched.copied - watched.skip)
        have = log.read(len(again))
        if have == again:
            watched.skip -= len(again)
            return data[len(again) :]
        same = next((n for n, (a, b) in enumerate(zip(have, again, strict=False)) if a != b), len(have))
        watched.copied += same - watched.skip
        log.truncate(watched.copied)
    watched.skip = 0
    return data[same:]
