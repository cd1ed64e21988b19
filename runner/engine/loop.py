"""Drives one run, of whatever kind, to its end: one thread, one backend."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.engine.context import TICK_S, Context, Driver
from runner.engine.publish import Publisher
from runner.engine.step import StepDriver
from runner.errors import StoreError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.backends.base import Backend
    from runner.engine.publish import Publish
    from runner.model import Outcome
    from runner.store import RunRow, Store


_AT_ONCE_S, _VAIN, _VAIN_S = 0.001, 5, 0.05


class Engine:
    """Drives one run to its end."""

    def __init__(
        self, store: Store, run: RunRow, backend: Backend, secrets: Mapping[str, str] | None, publish: Publish
    ) -> None:
        """publish: see `Publisher`."""
        self._context = Context(store, backend, run, secrets, Publisher(publish))
        self._asked = 0.0
        self._vain = 0
        self._driver = _driver(self._context, run)

    def drive(self) -> Outcome:
        """Return when the run has ended, has been recorded as ended, and nothing of it is left on the backend."""
        driver = self._driver
        while True:
            self._heed()
            delay = driver.advance()
            if driver.outcome is not None:
                return driver.outcome
            if delay > 0:
                with suppress(StoreError):  # what could not be written is written with the next that can
                    self._context.store.flush()
                self._wait(min(delay, TICK_S))
            else:
                self._vain = 0

    def _heed(self) -> None:
        if time.monotonic() - self._asked >= TICK_S:
            with suppress(StoreError):
                self._context.cancels.refresh()
            self._asked = time.monotonic()

    def _wait(self, timeout: float) -> None:
        before = time.monotonic()
        try:
            self._context.backend.wait(timeout)
        except (UnavailableError, OSError):
            # The next poll will say so; but never spin.
            time.sleep(max(0.0, timeout - (time.monotonic() - before)))
        # An ended task wakes us again and again while its end cannot be recorded (a full disk).
        self._vain = self._vain + 1 if time.monotonic() - before < _AT_ONCE_S else 0
        if self._vain > _VAIN:
            time.sleep(min(timeout, _VAIN_S))


def _driver(context: Context, run: RunRow) -> Driver:
    """What brings a run of this kind to its end on that backend."""
    if not run.composed:
        return StepDriver(context, run, code=context.store.folder(run.name).code)
    plan = context.store.plan(run)
    if context.backend.capabilities.remote:
        from runner.engine.whole import WholeDriver

        return WholeDriver(context, run, plan)
    from runner.engine.graph import GraphDriver  # 30 ms, which a single script does not need

    return GraphDriver(context, run, plan)
