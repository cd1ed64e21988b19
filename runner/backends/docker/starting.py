"""Starts containers aside, since an engine takes 200 ms for each."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.docker_api.containers import Engine

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from runner.backends.base import Handle

_STARTS = 8
"""So many containers are started at once."""


class Starter:
    """Starts containers in threads, each with a connection of its own: an engine starts two as quickly as one.

    `fileno` becomes readable with each answer.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._threads: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._engines: list[Engine] = []

    def start(self, handle: Handle) -> Future[None]:
        """Ask for the start; the result is None, or the engine's error."""
        from concurrent.futures import ThreadPoolExecutor

        self._threads = self._threads or ThreadPoolExecutor(_STARTS, "start")
        future = self._threads.submit(self._one, handle)
        future.add_done_callback(lambda _: os.eventfd_write(self._told, 1))
        return future

    def fileno(self) -> int:
        """For a selector."""
        return self._told

    def heard(self) -> None:
        """The answers so far have been looked at."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._told)

    def _one(self, handle: Handle) -> None:
        engine: Engine | None = getattr(self._own, "engine", None)
        if engine is None:
            engine = self._own.engine = Engine(self._host)
            self._engines.append(engine)
        engine.start(handle)

    def close(self) -> None:
        """Wait for what was asked, and close the connections."""
        if self._threads is not None:
            self._threads.shutdown()
        for engine in self._engines:
            engine.close()
        told, self._told = self._told, -1
        if told >= 0:  # a backend may be closed twice, and the number may mean another file by then
            os.close(told)
