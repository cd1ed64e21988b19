"""The steps of a plan: each is started the moment its inputs exist and there is room, and none for nothing.

What has to be done for one step costs the same in a plan of ten steps and of ten thousand: counters of unmet needs, heaps
of ready steps, and only those that run are looked at. All that is known is in the store, so a new supervisor goes on.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from runner import verdict
from runner.backends import secretfile
from runner.composer import task_key
from runner.engine.cache import StepCache
from runner.engine.context import STOPPED_BY, TICK_S
from runner.engine.pool import Pools
from runner.engine.progress import Progress
from runner.engine.reused import ReusingDriver
from runner.engine.step import StepDriver
from runner.engine.sweep import sweep_driver
from runner.errors import RunnerError, StoreError
from runner.model import Outcome, Reason, Status
from runner.store import remove_tree

if TYPE_CHECKING:
    from runner.engine.context import Context, Driver
    from runner.model import Step
    from runner.plan import Plan, PlanStep
    from runner.store import RunRow

_SETTLE_S = 0.01
_PAUSE_S = 1.0
"""A store that cannot be written (a full disk) is tried again so often."""


_CLEAN_AFTER_S = 0.5
"""What an ended step held is freed so long after it: an engine has that end and the next start to see to."""

_TRASH_S = 0.005
"""How often we look whether all boxes are gone, once all steps have ended."""


class GraphDriver:
    """Brings a pipeline to its end. See `Driver`."""

    def __init__(self, context: Context, run: RunRow, plan: Plan) -> None:
        self.outcome: Outcome | None = None
        self._context, self._run, self._plan = context, run, plan
        self._store, self._folder = context.store, context.store.folder(run.name)
        self._steps = {each.name: each for each in plan.steps}
        self._progress = Progress(plan.steps)
        self._pools = Pools(plan.pools)
        self._cache = StepCache(context.store, run, plan, isolates=context.backend.capabilities.isolates)
        self._running: dict[str, tuple[Driver, RunRow]] = {}
        self._cleaning: deque[tuple[float, StepDriver]] = deque()
        """When at the earliest, and what."""
        self._attempts: dict[str, int] = {}
        self._ends: list[tuple[str, Outcome]] = []
        self._failed: tuple[str, Outcome] | None = None
        self._canceled_step: tuple[str, Outcome] | None = None
        self._canceled_by: str | None = None
        self._stopping: str | None = None
        self._began = time.monotonic() - max(0.0, time.time() - run.started if run.started else 0.0)
        self._not_before = 0.0
        self._shown = run.started is not None
        self._resume()

    def _resume(self) -> None:
        """Take up where a killed supervisor stopped."""
        live = []
        for row in self._store.begun(self._run):
            if row.path not in self._steps:  # a trial, which its sweep knows of
                continue
            if row.outcome is None:
                live.append(row)
                continue
            self._tidy(row)
            if self._progress.waits(row.path):  # else it ended with what it needs, in this very loop
                self._ended(row.path, row.outcome, row.attempts)
        for handle in self._store.uncleaned(self._run):
            with suppress(RunnerError):  # `prune` removes what cannot be reached now
                self._context.backend.remove(handle)
        for row in live:
            plan_step = self._steps[str(row.path)]
            self._take(plan_step, force=True)
            self._begin(plan_step, row, resumed=True)

    def _tidy(self, row: RunRow) -> None:
        """Free what an ended step held on this machine: that comes after its end is recorded, and a kill between them."""
        for number in range(1, row.attempts + 1):
            if (box := self._store.folder(row.name).attempt(number).box).exists():
                self._context.trash.put(box)
            if row.step.secrets:
                secretfile.remove(task_key(self._store.id, row.name, number))

    def advance(self) -> float:
        """See `Driver`."""
        if (left := self._not_before - time.monotonic()) > 0:
            return left
        try:
            return self._advance()
        except StoreError:
            self._not_before = time.monotonic() + _PAUSE_S
            return _PAUSE_S

    def cancel(self, by: str) -> None:
        """See `Driver`."""
        if self._canceled_by is None and self._progress.left:
            self._canceled_by = by
            self._stop(by)
            self._store.set_status(self._run, Status.CANCEL_REQUESTED, soon=True)

    def _advance(self) -> float:
        self._heed()
        soonest = TICK_S
        for name, (driver, row) in list(self._running.items()):
            soonest = min(soonest, driver.advance())
            if driver.outcome is not None:
                self._leave(name, driver, row)
                soonest = 0.0
        if self._stopping is None and self._start_next():
            soonest = 0.0
        elif self._cleaning:
            soonest = min(soonest, self._clean())
        if not self._running and (self._stopping is not None or not self._progress.ready):
            self._end_unstarted()
        if self._ends:
            self._store.end_steps(self._run, self._ends)
            self._ends.clear()
        settled = self._cache.settle()
        if not self._progress.left and not self._cleaning:
            if not settled and "" not in self._context.cancels.by:  # who cancels does not wait for 100 GB to be read
                return _SETTLE_S
            if not self._context.trash.empty():
                return _TRASH_S
            self._end()
        return soonest

    def _clean(self) -> float:
        """Free what an ended step holds, after the start of what waited for it; what cannot be reached now comes again."""
        due, driver = self._cleaning[0]
        if self._running and (left := due - time.monotonic()) > 0:
            return left
        self._cleaning.popleft()
        delay = driver.advance()
        if not driver.done:
            self._cleaning.append((time.monotonic() + max(0.0, delay), driver))
        return delay

    # -- starting -------------------------------------------------------------------------------------------------

    def _start_next(self) -> bool:
        """Start one step that is ready and has room; whether there may be another. Those that run are looked at between."""
        for compute in self._progress.computes():
            plan_step = self._progress.first(compute)
            if not self._take(plan_step):
                continue
            try:
                self._begin(plan_step, self._store.child(self._run, plan_step.name))
            except StoreError:
                self._free(plan_step)
                raise
            self._show_running()
            return True
        return False

    def _show_running(self) -> None:
        if not self._shown:
            self._store.set_status(self._run, Status.RUNNING, started=time.time(), soon=True)
            self._shown = True

    def _take(self, plan_step: PlanStep, *, force: bool = False) -> bool:
        """Room for a step; a sweep needs none, since its trials do."""
        if plan_step.sweep is not None:
            return True
        return self._pools.take(plan_step.compute, plan_step.step.limits, force=force)

    def _free(self, plan_step: PlanStep) -> None:
        if plan_step.sweep is None:
            self._pools.free(plan_step.compute, plan_step.step.limits)

    def _begin(self, plan_step: PlanStep, row: RunRow, *, resumed: bool = False) -> None:
        """A step that has room is among the running ones afterwards, or has ended. resumed: it was under way before."""
        step, missing = self._with_inputs(plan_step)
        if missing is not None:
            self._settle(plan_step, missing)
            return
        try:
            driver = self._driver(plan_step, step, row, resumed=resumed)
        except StoreError:
            raise
        except RunnerError as error:
            self._settle(plan_step, verdict.start_failed(str(error)))
            return
        self._progress.start(plan_step.name)
        self._running[plan_step.name] = driver, row
        if self._stopping is not None:
            driver.cancel(self._stopping)

    def _driver(self, plan_step: PlanStep, step: Step, row: RunRow, *, resumed: bool) -> Driver:
        """What runs the step; before that, it looks for an earlier run that can stand for it."""

        def run() -> Driver:
            code = self._folder.code_of(plan_step.code)
            left = self._store.folder(row.name).attempt(1).root
            if not resumed and left.exists():  # half of an earlier run's files: a kill, or a full disk
                remove_tree(left)
            if plan_step.sweep is not None:
                return sweep_driver(self._context, self._pools, row, replace(plan_step, step=step), code)
            return StepDriver(self._context, row, code=code, step=step, clean_later=True)

        if resumed:
            return run()
        found = self._cache.taken(plan_step) or self._cache.begin(plan_step, step)
        if found is None:
            return run()
        return ReusingDriver(self._context, self._cache, row, plan_step, found=found, run=run)

    def _with_inputs(self, plan_step: PlanStep) -> tuple[Step, Outcome | None]:
        """The step with the paths of what others left for it; and how it ends if that is not there."""
        inputs = dict(plan_step.step.inputs)
        for name, up in plan_step.upstream.items():
            kept = self._folder.step(up.step).attempt(self._attempts.get(up.step, 1)).output(up.output)
            path = kept / up.output if up.output in self._steps[up.step].step.files else kept
            if not path.exists():
                return plan_step.step, verdict.input_missing(name, up.step, up.output)
            inputs[name] = str(path)
        return replace(plan_step.step, inputs=inputs), None

    # -- ending ---------------------------------------------------------------------------------------------------

    def _leave(self, name: str, driver: Driver, row: RunRow) -> None:
        """A driver is done, and has recorded the end of its step."""
        assert driver.outcome is not None  # noqa: S101 - the caller looked
        plan_step = self._steps[name]
        del self._running[name]
        self._free(plan_step)
        number = 1
        if isinstance(ran := driver.ran if isinstance(driver, ReusingDriver) else driver, StepDriver):
            number = ran.number
            if not ran.done:
                self._cleaning.append((time.monotonic() + _CLEAN_AFTER_S, ran))
        self._ended(
            name, driver.outcome, number
        )  # first: what follows must not be lost if the store cannot be read now
        if not (isinstance(driver, ReusingDriver) and driver.reused):
            self._cache.ended(row, plan_step, self._with_inputs(plan_step)[0], driver.outcome, number)

    def _settle(self, plan_step: PlanStep, outcome: Outcome) -> None:
        """A step that got room ended before anything of it ran."""
        self._free(plan_step)
        self._ends.append((plan_step.name, outcome))
        self._ended(plan_step.name, outcome, 1)

    def _ended(self, name: str | None, outcome: Outcome, attempts: int) -> None:
        """What follows for the others from the end of a step, which is recorded or in `_ends`."""
        assert name is not None  # noqa: S101 - a step has a path
        self._progress.end(name, outcome.reason)
        if attempts > 1:
            self._attempts[name] = attempts
        if outcome.status is Status.COMPLETED:
            self._progress.release(name)
            return
        if outcome.status is Status.FAILED and self._failed is None:
            self._failed = name, outcome
            if not self._plan.continue_on_step_failure:
                self._stop(STOPPED_BY)
        elif outcome.reason is Reason.CANCELED and self._canceled_step is None:
            self._canceled_step = name, outcome
        self._ends += self._progress.skip_after(name)

    def _stop(self, by: str) -> None:
        """Nothing more is started, and what runs is canceled."""
        self._stopping = self._stopping or by
        for driver, _ in self._running.values():
            driver.cancel(by)

    def _heed(self) -> None:
        """Carry out what has been asked in the store, of the whole or of single steps."""
        for path, by in self._context.cancels.by.items():
            if not path:
                self.cancel(by)
            elif path in self._running:
                self._running[path][0].cancel(by)
            elif path in self._steps and self._progress.waits(path):
                outcome = verdict.never_started(by, "it was canceled")
                self._ends.append((path, outcome))
                self._ended(path, outcome, 1)

    def _end_unstarted(self) -> None:
        """Nothing runs, and nothing will: each step that was not started ends by what it needs, or as canceled."""
        by = self._canceled_by or STOPPED_BY
        why = (
            "the pipeline was canceled"
            if self._canceled_by
            else f"step {self._failed[0]} failed"
            if self._failed
            else ""
        )
        self._ends += self._progress.end_rest(verdict.never_started(by, why))

    def _end(self) -> None:
        outcome = self._verdict()
        elapsed = time.monotonic() - self._began
        self._store.end(self._run, replace(outcome, elapsed_s=elapsed), attempts=0)
        self.outcome = outcome

    def _verdict(self) -> Outcome:
        if self._canceled_by is not None:
            return verdict.canceled(self._canceled_by)
        if self._failed is not None:
            return verdict.step_failed(*self._failed)
        if self._canceled_step is not None:
            return verdict.step_canceled(*self._canceled_step)
        return Outcome(Reason.COMPLETED, 0)
