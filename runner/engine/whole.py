"""A plan that a backend elsewhere runs by itself: handed over once, followed step by step, ended as a pipeline here is.

The service orders and starts the steps; this finds out which it has begun, and gives each its own `StepDriver`, so that
a step's log, record and outputs come here as they would from a container of this machine.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from runner import artifacts, verdict
from runner.backends.base import Observation, Phase, Tried
from runner.composer import compose_whole, open_step
from runner.engine.context import STOPPED_BY, TICK_S
from runner.engine.patience import Patience
from runner.engine.progress import Progress
from runner.engine.step import FORCE_AFTER_S, PHASES, Attached, StepDriver
from runner.engine.swept import SweptDriver
from runner.engine.trials import BY, template
from runner.errors import ImageError, RunnerError, StoreError, UnavailableError
from runner.model import Outcome, Reason, Status
from runner.store import remove_tree
from runner.sweeps.rows import path_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.backends.base import Handle, PlanBackend, Task
    from runner.engine.context import Context
    from runner.model import Step
    from runner.plan import Plan, PlanStep
    from runner.store import RunRow

_NUMBER = 1
"""Of the one attempt of a whole: what is tried again is a step, and the service starts those."""


class WholeDriver:
    """Brings a pipeline or sweep to its end on a backend that takes it whole. See `Driver`."""

    def __init__(self, context: Context, run: RunRow, plan: Plan) -> None:
        self.outcome: Outcome | None = None
        self._context, self._run, self._plan = context, run, plan
        self._store, self._backend = context.store, cast("PlanBackend", context.backend)
        self._folder = context.store.folder(run.name)
        self._steps = {each.name: each for each in plan.steps}
        self._progress = Progress(plan.steps)
        self._running: dict[str, StepDriver | SweptDriver] = {}
        self._cleaning: list[StepDriver | SweptDriver] = []
        self._sweeps = frozenset(each.name for each in plan.steps if each.sweep is not None)
        self._tried = Tried()
        self._known: dict[str, Handle] = {}
        self._seen: Mapping[Handle, Observation | None] = {}
        self._over = False
        self._task: Task | None = None
        self._handle: Handle | None = None
        self._decided: Outcome | None = None
        self._failed: tuple[str, Outcome] | None = None
        self._canceled_step: tuple[str, Outcome] | None = None
        self._canceled_by: str | None = None
        self._asked_at: float | None = None
        self._forced = False
        self._shown = run.status, run.note
        self._backoff = Patience(lambda why: self._show(Status.NOT_RESPONDING, why))
        self._began = time.monotonic() - max(0.0, time.time() - run.started if run.started else 0.0)
        self._recovered = run.attempts > 0
        self._resume()

    def _resume(self) -> None:
        """Take up where a killed supervisor stopped."""
        if self._recovered:
            first = self._store.attempts(self._run)[0]
            self._handle, self._decided = first.handle, first.outcome
        for row in self._store.begun(self._run):
            name = str(row.path)
            if row.outcome is not None:
                self._context.trash.put(self._store.folder(row.name).attempt(_NUMBER).box)
                if self._waits(name):
                    self._ended(name, row.outcome)
            elif row.attempts:
                handle = self._store.attempts(row)[0].handle
                if handle is not None:
                    self._attach(name, row, handle)

    def cancel(self, by: str) -> None:
        """See `Driver`."""
        if self._canceled_by is None and not self._over:
            self._canceled_by = by
            for driver in self._running.values():
                driver.cancel(by)

    def advance(self) -> float:
        """See `Driver`."""
        left = self._backoff.left
        return left if left > 0 else self._backoff.tried(self._advance)

    def _advance(self) -> float:
        self._heed()
        if self._decided is not None:
            return self._end(self._decided)
        if self._task is None or self._handle is None:
            return self._submit()
        self._look(self._handle)
        soonest = self._drive()
        if self._over and not self._running:
            self._finish(self._handle)
            return self._decide(self._verdict(self._handle))
        return soonest

    # -- submitting -----------------------------------------------------------------------------------------------

    def _submit(self) -> float:
        task = self._task or self._compose()
        if self._handle is None and (self._recovered or self._task is not None):
            # A killed supervisor may have submitted it without recording so, and so may a call that found no answer.
            self._handle = self._backend.find(task)
        self._task = task
        if self._handle is None:
            if self._asked_for():
                return self._decide(verdict.canceled(self._canceled_by or "user"))
            self._show(Status.PREPARING)
            artifacts.prepare(task.box, None, {})
            self._store.begin_attempt(self._run, _NUMBER)
            try:
                self._handle = self._backend.submit(task)
            except (UnavailableError, StoreError):
                raise
            except ImageError as error:
                return self._decide(verdict.image_unavailable(str(error), retryable=error.retryable))
            except RunnerError as error:
                return self._decide(verdict.start_failed(str(error), "the service"))
        self._store.set_handle(self._run, _NUMBER, self._handle)
        self._backend.watch(task, self._handle)
        return 0.0

    def _asked_for(self) -> bool:
        """Whether somebody wants the end by now."""
        self._context.cancels.refresh()
        self._heed()
        return self._canceled_by is not None

    def _heed(self) -> None:
        if (by := self._context.cancels.by.get("")) is not None:
            self.cancel(by)

    def _compose(self) -> Task:
        return compose_whole(
            self._plan, run=self._run.name, experiment=self._run.experiment, store_id=self._store.id,
            folder=self._folder, layout=lambda box, step: self._backend.layout(box, step.inputs, step.outputs, step.files),
            code=self._folder.code_of, single_sweep=self._run.kind == "sweep",
        )  # fmt: skip

    # -- observing ------------------------------------------------------------------------------------------------

    def _look(self, handle: Handle) -> None:
        """What the service says now of the whole and of all its steps, by one question each."""
        live = [name for name in self._running if name in self._known and name not in self._sweeps]
        self._seen = self._backend.poll([handle, *(self._known[name] for name in live)])
        whole = self._seen[handle]
        self._over = self._over or whole is None or whole.phase is Phase.ENDED
        if self._sweeps:
            self._tried = self._backend.tried(handle)
        self._begin(self._backend.steps(handle))
        if whole is not None and not self._over:
            self._press(handle, whole)

    def _begin(self, handles: Mapping[str, Handle]) -> None:
        """Give a driver to each step that the service has begun since the last look; it is seen with the next one."""
        fresh = {name: each for name, each in handles.items() if name not in self._running and self._waits(name)}
        early = {name: each for name, each in fresh.items() if self._over or not self._needs_met(name)}
        seen = self._backend.poll(list(early.values())) if early else {}
        for name, handle in fresh.items():
            if name not in early or not _never_began(seen[handle]):
                self._attach(name, self._row(name), handle)

    def _needs_met(self, name: str) -> bool:
        """Whether all that a step needs has completed, as far as is known here. Else the service may be ahead of us, or may
        have ended it without starting it."""
        return name not in self._steps or self._progress.met(name)

    def _waits(self, name: str) -> bool:
        """Whether a step, or a trial, has neither been taken up nor ended."""
        if name in self._steps:
            return self._progress.waits(name)
        return name not in self._known and (self._over or name in self._tried.parameters)

    def _row(self, name: str) -> RunRow:
        if name in self._steps:
            return self._store.child(self._run, name)
        plan_step = self._of(name)
        drawn = dict(self._tried.parameters.get(name, {}))
        step = plan_step.step if plan_step.sweep is None else template(plan_step.step, plan_step.sweep)
        return self._store.add_child(self._run, name, replace(step, parameters={**step.parameters, **drawn}))

    def _of(self, name: str) -> PlanStep:
        """The step of the plan that a part is, or is a trial of."""
        while name not in self._steps:
            name = name.rpartition(".")[0]
        return self._steps[name]

    def _attach(self, name: str, row: RunRow, handle: Handle) -> None:
        driver = self._driver(name, row, handle)
        if name in self._steps:
            self._progress.start(name)
        self._known[name] = handle
        self._running[name] = driver
        if (by := self._canceled_by or (STOPPED_BY if self._stops() else None)) is not None:
            driver.cancel(by)

    def _driver(self, name: str, row: RunRow, handle: Handle) -> StepDriver | SweptDriver:
        plan_step = self._of(name)
        if name in self._sweeps and plan_step.sweep is not None:
            return SweptDriver(
                self._context, row, plan_step.sweep, lambda: self._tried_of(name), lambda: self._rows_of(name),
                alone=self._run.kind == "sweep",
            )  # fmt: skip
        step: Step = open_step(plan_step)
        if name not in self._steps and plan_step.sweep is not None:
            step = replace(template(step, plan_step.sweep), parameters=row.step.parameters)
        attached = Attached(handle, lambda: self._seen.get(handle))
        return StepDriver(self._context, row, code=None, step=step, clean_later=True, attached=attached)

    def _stops(self) -> bool:
        """Whether the service ends the other steps, since one has failed."""
        return self._failed is not None and not self._plan.continue_on_step_failure

    def _press(self, handle: Handle, whole: Observation) -> None:
        """Show where the whole stands, and carry out a cancel: it ends the steps too."""
        now = time.monotonic()
        if self._canceled_by is None:
            running = self._shown[0] is Status.RUNNING or bool(self._running)
            self._show(Status.RUNNING if running else PHASES[whole.phase], whole.note)
            return
        self._show(Status.CANCEL_REQUESTED)
        if self._asked_at is None:
            self._backend.cancel(handle)
            self._asked_at = now
        elif not self._forced and now - self._asked_at >= self._patience():
            self._backend.cancel(handle, force=True)
            self._forced = True

    def _patience(self) -> float:
        return FORCE_AFTER_S + max((each.step.limits.grace_s for each in self._plan.steps), default=0.0)

    # -- sweeps ---------------------------------------------------------------------------------------------------

    def _tried_of(self, name: str) -> Tried:
        """What is known of a sweep; once the whole is over, that it has ended too."""
        seen = self._tried.sweeps.get(name)
        if self._over and (seen is None or seen.phase is not Phase.ENDED):
            return replace(self._tried, sweeps={name: Observation(Phase.ENDED, lost=True)})
        return self._tried

    def _rows_of(self, name: str) -> Sequence[RunRow] | None:
        """The trials of a sweep, in their order; None: some of them have not ended here."""
        rows: list[RunRow] = []
        while (trial := path_of(name, len(rows))) in self._known:
            if trial in self._running:
                return None
            rows.append(self._store.child(self._run, trial))
        return rows

    def _stopped(self, name: str, driver: StepDriver | SweptDriver) -> None:
        """A trial that the service ended, though nobody asked for it here, was stopped by its sweep."""
        if name in self._steps or self._canceled_by is not None:
            return
        plan, seen = self._of(name), self._seen.get(self._known[name])
        if plan.sweep is None or seen is None or seen.platform is None or seen.platform.status != "Canceled":
            return
        limit_s = template(plan.step, plan.sweep).limits.timeout_s
        if limit_s is None or seen.platform.elapsed_s is None or seen.platform.elapsed_s < limit_s:
            policy = plan.sweep.early_termination
            driver.cancel(BY, f"stopped by the sweep ({policy.kind})" if policy else "stopped by the sweep")

    # -- the steps ------------------------------------------------------------------------------------------------

    def _drive(self) -> float:
        """Let every driver do what it can. One that failed comes first: the others were ended for it."""
        soonest = TICK_S
        for name in sorted(self._running, key=self._order):
            driver = self._running[name]
            self._stopped(name, driver)
            soonest = min(soonest, driver.advance())
            if driver.outcome is not None:
                del self._running[name]
                self._cleaning.append(driver)
                self._ended(name, driver.outcome)
                soonest = 0.0
        self._clean()
        return soonest

    def _clean(self) -> None:
        for driver in self._cleaning:
            driver.advance()
        self._cleaning = [driver for driver in self._cleaning if not driver.done]

    def _order(self, name: str) -> int:
        seen = self._seen.get(self._known[name])
        if seen is None or seen.phase is not Phase.ENDED:
            return 2
        return 0 if seen.platform is not None and seen.platform.status == "Failed" else 1

    def _ended(self, name: str, outcome: Outcome) -> None:
        """What follows for the others from the end of a step, which is recorded."""
        if name not in self._steps:
            self._known.setdefault(name, "")
            return
        self._progress.end(name, outcome.reason)
        if outcome.status is Status.COMPLETED:
            self._progress.release(name)
            return
        if outcome.status is Status.FAILED and self._failed is None:
            self._failed = name, outcome
            if self._stops():
                for driver in self._running.values():
                    driver.cancel(STOPPED_BY)
        elif outcome.status is Status.CANCELED and self._canceled_step is None:
            self._canceled_step = name, outcome
        self._store.end_steps(self._run, self._progress.skip_after(name))

    # -- ending ---------------------------------------------------------------------------------------------------

    def _verdict(self, handle: Handle) -> Outcome:
        """How the whole ended: by its first step that failed, as here; else as the service says."""
        if self._canceled_by is not None and (self._progress.left or self._failed or self._canceled_step):
            return verdict.canceled(self._canceled_by)
        if self._failed is not None:
            return verdict.step_failed(*self._failed)
        seen = self._seen.get(handle) or Observation(Phase.ENDED, lost=True)
        status = seen.platform.status if seen.platform is not None else None
        told = seen.platform.message if seen.platform is not None else None
        if self._canceled_step is not None:
            if status == "Completed" or (status != "Canceled" and not told):
                return verdict.step_canceled(*self._canceled_step)
        # Of a sweep its step has judged by its trials, of which some may have failed or been stopped.
        elif (status == "Completed" or self._run.kind == "sweep") and not self._progress.left:
            return Outcome(Reason.COMPLETED, 0, started=seen.started, finished=seen.finished)
        return verdict.judge(seen, None, verdict.Intent())

    def _finish(self, handle: Handle) -> None:
        """Nothing of the whole itself is kept here, so what cannot be had of it is no loss; it may be forgotten there."""
        try:
            self._backend.finish(handle)
        except UnavailableError:
            raise
        except RunnerError:
            return

    def _decide(self, outcome: Outcome) -> float:
        """The end is known, and stands whatever happens to us while the whole is freed."""
        seen = self._seen.get(self._handle) if self._handle is not None else None
        # By our own clock it also lasts while we sleep, or nobody follows it.
        told = seen.platform.elapsed_s if seen is not None and seen.platform is not None else None
        elapsed = outcome.elapsed_s or told or time.monotonic() - self._began
        outcome = replace(outcome, elapsed_s=elapsed)
        self._store.end_attempt(self._run, _NUMBER, outcome)
        self._decided = outcome
        return 0.0

    def _end(self, outcome: Outcome) -> float:
        """End the steps that never began, free what the whole held, and record its end. May run again after a kill."""
        by = self._canceled_by or (STOPPED_BY if self._failed else self._run.backend)
        self._store.end_steps(self._run, self._progress.end_rest(verdict.never_started(by, self._why(outcome))))
        if self._handle is not None:
            self._backend.remove(self._handle)
            self._handle = None  # the backend knows it no more, and this comes again while steps are freed
        self._clean()
        if self._cleaning or not self._context.trash.empty():
            return TICK_S
        remove_tree(self._folder.attempt(_NUMBER).box)
        self._store.end(self._run, outcome, attempts=0)
        self.outcome = outcome
        return 0.0

    def _why(self, outcome: Outcome) -> str:
        if self._canceled_by is not None:
            return "the pipeline was canceled"
        return f"step {self._failed[0]} failed" if self._failed is not None else outcome.message or "it was not begun"

    def _show(self, status: Status, note: str = "") -> None:
        if (status, note) != self._shown:
            started = time.time() if status is Status.RUNNING else None
            self._store.set_status(self._run, status, note=note, started=started, soon=True)
            self._shown = status, note


def _never_began(seen: Observation | None) -> bool:
    """Whether the service ended a step without starting it, as it does with those after one that failed."""
    if seen is None or seen.phase is not Phase.ENDED or seen.started is not None:
        return False
    return seen.platform is not None and seen.platform.status == "Canceled"
