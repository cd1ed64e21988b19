"""The trials of a sweep once all have ended: which outcome that makes, and what of them becomes the sweep's own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner import tracking, verdict
from runner.engine.taking import link_tree
from runner.model import Outcome, Reason
from runner.store import remove_tree, write_aside
from runner.sweeps.rows import NO_VALUE
from runner.sweeps.trial import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.model import Step
    from runner.plan import SweepPlan
    from runner.store import AttemptFolder, RunRow, Store
    from runner.sweeps.trial import Trial

BY = "sweep"
"""Who cancels a trial that a policy or the sweep's timeout ends."""
PICTURE = "trials.svg"
"""The file among the sweep's outputs that shows its trials."""


@dataclass(frozen=True, slots=True)
class Trials:
    """run: the sweep's own row. rows, trials: in the order of their numbers."""

    store: Store
    run: RunRow
    plan: SweepPlan
    rows: Sequence[RunRow]
    trials: Sequence[Trial]

    def lay(self, best: int | None) -> None:
        """Put the best trial's outputs, and a picture of all, into the sweep's place. May be done again after a kill."""
        target = self.store.folder(self.run.name).attempt(1)
        with self.store.errors():
            remove_tree(target.root)
            target.root.mkdir(parents=True)
            target.artifacts.mkdir()
            if best is not None:
                source = self._folder(best)
                link_tree(source.artifacts, target.artifacts)
                link_tree(source.tracking, target.tracking)
            if self.trials:
                from runner.sweeps.plot import svg

                write_aside(target.artifacts / PICTURE, svg(self.plan, list(self.trials)).encode(), 0o644)

    def outcome(self, best: int | None, *, timed_out: bool) -> Outcome:
        """How a sweep ended that nobody canceled.

        Args:
            best: the number of the best completed trial. timed_out: the sweep's own time was over.
        """
        limit_s = self.plan.limits.timeout_s or 0.0
        ends = Counter(each.state for each in self.trials)
        if best is not None:
            late = (f"the sweep's timeout of {limit_s:g} s ended it early",) if timed_out else ()
            failed = (f"{ends[State.FAILED]} of {len(self.trials)} trials failed",) if ends[State.FAILED] else ()
            return Outcome(Reason.COMPLETED, 0, warnings=(*late, *failed))
        if ends[State.COMPLETED]:
            return verdict.sweep_failed(self._nothing_logged(ends[State.COMPLETED]))
        if timed_out:
            return verdict.sweep_timed_out(limit_s)
        for trial, row in zip(self.trials, self.rows, strict=True):
            if trial.state is State.FAILED and row.outcome is not None:
                return verdict.step_failed(str(row.path), row.outcome)
        return verdict.sweep_failed("no trial ran to its end")

    def _nothing_logged(self, completed: int) -> str:
        metric = self.plan.objective.metric
        logged: set[str] = set()
        for number in range(len(self.rows)):
            store = tracking.read(self._folder(number).tracking)
            logged |= {name for run in (store.main, *store.others) for name in run.metrics}
        said = ", ".join(sorted(logged)[:8]) or "nothing"
        return NO_VALUE.format(count=completed, metric=metric, logged=said)

    def _folder(self, number: int) -> AttemptFolder:
        return folder_of(self.store, self.rows[number])


def folder_of(store: Store, row: RunRow) -> AttemptFolder:
    """Of a trial's last attempt."""
    return store.folder(row.name).attempt(max(row.attempts, 1))


def template(step: Step, plan: SweepPlan) -> Step:
    """What each trial runs, its parameters left open. Only the best one's outputs go where they were asked to."""
    own, limit = step.limits.timeout_s, plan.limits.trial_timeout_s
    limits = replace(step.limits, timeout_s=min((each for each in (own, limit) if each is not None), default=None))
    return replace(step, limits=limits, publish={})
