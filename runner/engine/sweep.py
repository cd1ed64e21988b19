"""The trials of a sweep, one child run each. What to try and when to stop is decided by `runner.sweeps`; this does it.

Nothing but rows and logged metrics is needed to go on after a kill: the decisions follow from them.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner import tracking, verdict
from runner.engine.context import TICK_S
from runner.engine.step import StepDriver
from runner.engine.trials import BY, Trials, folder_of, template
from runner.errors import StoreError
from runner.model import Outcome, Status
from runner.sweeps.decide import decide
from runner.sweeps.rows import path_of, trial_of
from runner.sweeps.trial import State, Trial, finite

if TYPE_CHECKING:
    from pathlib import Path

    from runner.engine.context import Context, Driver
    from runner.engine.pool import Pools
    from runner.engine.publish import Copying
    from runner.plan import PlanStep
    from runner.store import RunRow
    from runner.sweeps.decide import Decision
    from runner.sweeps.space import Parameters

_LOOK_S = 0.5
"""How often the metrics of running trials are read, for early termination."""


@dataclass(slots=True)
class _Run:
    """One trial: its row, and what drives it for as long as it has not ended."""

    row: RunRow
    trial: Trial
    driver: StepDriver | None


def sweep_driver(context: Context, pools: Pools, run: RunRow, plan_step: PlanStep, code: Path | None) -> Driver:
    """The driver of a step that is a sweep.

    Args:
        run: the step's own row. plan_step: its step is the template of each trial, the inputs in place.
        code: what each trial works on a copy of. pools: what trials take their room from; the sweep has taken none.
    """
    return SweepDriver(context, pools, run, plan_step, code)


class SweepDriver:
    """Brings a sweep to its end. See `Driver`."""

    def __init__(self, context: Context, pools: Pools, run: RunRow, plan_step: PlanStep, code: Path | None) -> None:
        plan = plan_step.sweep
        assert plan is not None  # noqa: S101 - the caller looked
        self.outcome: Outcome | None = None
        self._context, self._store, self._pools, self._run = context, context.store, pools, run
        self._plan, self._code, self._compute = plan, code, plan_step.compute
        self._template = template(plan_step.step, plan)
        self._publish = plan_step.step.publish
        given = plan.sampling.seed
        self._seed = int(hashlib.sha256(run.name.encode()).hexdigest()[:8], 16) if given is None else given
        self._began = time.monotonic() - max(0.0, time.time() - run.started if run.started else 0.0)
        self._canceled_by: str | None = None
        self._used_up = False
        self._looked = 0.0
        self._publishing: tuple[Outcome, Copying] | None = None
        self._runs: list[_Run] = []
        self._resume()

    def _resume(self) -> None:
        """Take up the trials that a killed supervisor had started."""
        path = str(self._run.path)
        rows = {row.path: row for row in self._store.children(self._context.root) if row.kind == "trial"}
        while (row := rows.get(path_of(path, len(self._runs)))) is not None:
            ended = row.outcome is not None
            trial = trial_of(self._plan, row, folder_of(self._store, row))
            self._runs.append(_Run(row, trial, None if ended else self._driver(row)))
            if not ended:
                self._pools.take(self._compute, self._template.limits, force=True)

    def _driver(self, row: RunRow) -> StepDriver:
        driver = StepDriver(self._context, row, code=self._code)
        if row.cancel_by == BY:
            driver.cancel(BY, "stopped by the sweep")
        return driver

    def cancel(self, by: str) -> None:
        """See `Driver`."""
        self._canceled_by = self._canceled_by or by
        for each in self._runs:
            if each.driver is not None:
                each.driver.cancel(by)

    def advance(self) -> float:
        """See `Driver`."""
        if self._publishing is not None:
            return self._published(*self._publishing)
        if self._run.status is Status.NOT_STARTED and self._run.started is None:
            now = time.time()
            self._store.set_status(self._run, Status.RUNNING, started=now, soon=True)
            self._run = replace(self._run, status=Status.RUNNING, started=now)
        self._look()
        decision = self._decide()
        for number, why in decision.stop.items():
            self._stop(self._runs[number], why)
        for parameters in decision.start:
            self._start(parameters)
        soonest = 0.0 if decision.start else TICK_S
        for each in self._runs:
            if each.driver is not None:
                soonest = min(soonest, each.driver.advance())
                if each.driver.outcome is not None:
                    self._ended(each, each.driver)
                    soonest = 0.0
        if decision.finished:
            self._finish(decision)
        return soonest

    def _decide(self) -> Decision:
        """What to do now. One trial is started at a time: each changes what there is room for."""
        trials = [each.trial for each in self._runs]
        running = sum(each.driver is not None for each in self._runs)
        most = self._plan.limits.max_concurrent_trials
        wanted = self._canceled_by is None and not self._used_up and (most is None or running < most)
        room = wanted and self._pools.take(self._compute, self._template.limits)
        decision = decide(
            self._plan, trials, seed=self._seed, elapsed_s=time.monotonic() - self._began, room=int(room),
            ending=self._canceled_by is not None,
        )  # fmt: skip
        if room and not decision.start:
            self._pools.free(self._compute, self._template.limits)
            self._used_up = True
        if self._used_up and not running and not decision.start:
            return replace(decision, finished=True)
        return decision

    def _start(self, parameters: Parameters) -> None:
        """Record and start the next trial; its room has been taken."""
        step = replace(self._template, parameters={**self._template.parameters, **parameters})
        try:
            row = self._store.add_child(self._context.root, path_of(str(self._run.path), len(self._runs)), step)
        except StoreError:  # it is started at the next look, which takes the room anew
            self._pools.free(self._compute, self._template.limits)
            raise
        self._runs.append(_Run(row, Trial(parameters, State.RUNNING), self._driver(row)))

    def _stop(self, each: _Run, why: str) -> None:
        if each.driver is not None and each.row.cancel_by is None:
            self._store.request_cancel(each.row, BY)
            each.row = replace(each.row, cancel_by=BY)
            each.driver.cancel(BY, why)

    def _look(self) -> None:
        """Read what running trials have logged by now, where it can end one."""
        if self._plan.early_termination is None or time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        for each in self._runs:
            if each.driver is not None:
                box = self._store.folder(each.row.name).attempt(each.driver.number).box
                points = tracking.history(box / "tracking", self._plan.objective.metric)
                if values := finite(point.value for point in points):
                    each.trial = replace(each.trial, values=values)

    def _ended(self, each: _Run, driver: StepDriver) -> None:
        self._pools.free(self._compute, self._template.limits)
        each.row = replace(each.row, outcome=driver.outcome, attempts=driver.number)
        each.trial = trial_of(self._plan, each.row, folder_of(self._store, each.row))
        each.driver = None

    # -- ending ---------------------------------------------------------------------------------------------------

    def _finish(self, decision: Decision) -> None:
        """Lay the best trial's outputs into the sweep's place, and record the end. May run again after a kill."""
        rows, trials = [each.row for each in self._runs], [each.trial for each in self._runs]
        all_of_them = Trials(self._store, self._run, self._plan, rows, trials)
        outcome = all_of_them.outcome(decision.best, timed_out=decision.timed_out)
        if self._canceled_by is not None:
            outcome = verdict.canceled(self._canceled_by)
        all_of_them.lay(decision.best)
        target = self._store.folder(self._run.name).attempt(1)
        if self._publish and outcome.status is Status.COMPLETED:
            sources = {
                name: target.output(name) / (name if name in self._template.files else "") for name in self._publish
            }
            targets = {name: uri.replace("${{name}}", self._run.name) for name, uri in self._publish.items()}
            grace_s = self._template.limits.grace_s
            self._publishing = outcome, self._context.publisher.start(sources, targets, grace_s)
            return
        self._record(outcome)

    def _published(self, outcome: Outcome, copying: Copying) -> float:
        if copying.given_up(canceled=self._canceled_by is not None):
            self._record(verdict.copy_canceled(outcome, self._canceled_by or "user"))
            return 0.0
        if not copying.copied.done():
            return TICK_S
        if (error := copying.copied.result()) is not None:
            outcome = verdict.output_error(outcome, error)
        self._record(outcome)
        return 0.0

    def _record(self, outcome: Outcome) -> None:
        outcome = replace(outcome, elapsed_s=time.monotonic() - self._began)
        self._store.end(self._run, outcome, attempts=1)
        self.outcome = outcome
