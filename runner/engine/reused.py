"""A step that an earlier run may stand for: looked for, laid into place, and run after all where there is none."""

from __future__ import annotations

from concurrent.futures import wait
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from runner import verdict
from runner.engine.cache import Taken
from runner.errors import RunnerError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from runner.engine.cache import Fields, StepCache
    from runner.engine.context import Context, Driver
    from runner.engine.publish import Copying
    from runner.model import Outcome
    from runner.plan import PlanStep
    from runner.store import RunRow

_T = TypeVar("_T")

_AT_ONCE_S = 0.005
"""A few small files are read and linked within this, so that most reused steps need no second look."""
_AGAIN_S = 0.02


class ReusingDriver:
    """Brings a step to its end by what an earlier run left, or by running it. See `Driver`.

    Args:
        found: what the step's inputs hold, being read; or an earlier run that is to be taken, whatever they hold.
        run: makes the driver that runs the step.
    """

    def __init__(
        self, context: Context, cache: StepCache, row: RunRow, plan_step: PlanStep, *,
        found: Future[Fields] | Taken, run: Callable[[], Driver],
    ) -> None:  # fmt: skip
        self.outcome: Outcome | None = None
        self.reused = False
        self._context, self._store, self._cache = context, context.store, cache
        self._row, self._plan_step, self._run = row, plan_step, run
        self._cancel_by: str | None = None
        self._driver: Driver | None = None
        self._looking: Future[Fields] | None = None
        self._fields: Fields | None = None
        self._taking: Future[Taken | None] | None = None
        self._taken: Taken | None = None
        self._publishing: Copying | None = None
        self._waited: object = None
        if isinstance(found, Taken):
            self._taking = cache.take(row, plan_step, [found], strict=False)
        else:
            self._looking = found

    @property
    def ran(self) -> Driver | None:
        """What ran the step after all, if it had to."""
        return self._driver

    def cancel(self, by: str) -> None:
        """See `Driver`."""
        self._cancel_by = self._cancel_by or by
        if self._driver is not None:
            self._driver.cancel(by)

    def advance(self) -> float:
        """See `Driver`."""
        if self._driver is not None:
            delay = self._driver.advance()
            self.outcome = self._driver.outcome
            return delay
        if self._cancel_by is not None and self._taken is None:
            return self._end(verdict.never_started(self._cancel_by, "it was canceled"))
        if self._looking is not None and self._taking is None:
            if not self._ready(self._looking):
                return _AGAIN_S
            # Inputs that cannot be read are the step's to complain of.
            self._fields = None if self._looking.exception() else self._looking.result()
            candidates = self._cache.find(self._fields) if self._fields is not None else []
            if not candidates:
                return self._start()
            self._taking = self._cache.take(self._row, self._plan_step, candidates, strict=True)
        return self._take()

    def _take(self) -> float:
        if self._taken is None:
            assert self._taking is not None  # noqa: S101 - the state says so
            if not self._ready(self._taking):
                return _AGAIN_S
            self._taken = None if self._taking.exception() else self._taking.result()
            if self._taken is None:
                return self._start()
        if self._plan_step.step.publish and self._publishing is None:
            self._publishing = self._context.publish(self._row, self._plan_step.step, 1)
        earlier = self._taken.earlier.outcome
        outcome = replace(
            verdict.reused(), message=f"reused from {self._taken.origin}", warnings=earlier.warnings if earlier else ()
        )
        if self._publishing is not None:
            if self._publishing.given_up(canceled=self._cancel_by is not None):
                return self._end(verdict.copy_canceled(outcome, self._cancel_by or "user"))
            if not self._ready(self._publishing.copied):
                return _AGAIN_S
            if (error := self._publishing.copied.result()) is not None:
                return self._end(verdict.output_error(outcome, error))
        self._cache.took(self._row, self._plan_step, self._taken, self._fields)
        self.reused = True
        return self._end(outcome, self._taken.origin)

    def _start(self) -> float:
        try:
            self._driver = self._run()
        except StoreError:
            raise
        except RunnerError as error:
            return self._end(verdict.start_failed(str(error)))
        return 0.0

    def _end(self, outcome: Outcome, reused_from: str | None = None) -> float:
        self._store.end(self._row, outcome, attempts=1, reused_from=reused_from)
        self.outcome = outcome
        return 0.0

    def _ready(self, future: Future[_T]) -> bool:
        """Whether it is done; waits a moment when it is asked about for the first time."""
        if self._waited is not future:
            self._waited = future
            wait([future], _AT_ONCE_S)
        return future.done()
