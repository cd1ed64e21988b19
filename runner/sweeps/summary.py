"""What a sweep has tried so far and which trial is the best, read from the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner import tracking
from runner.backends.base import Box
from runner.errors import NotFoundError
from runner.sweeps.rows import path_of, trial_of
from runner.sweeps.trial import State, best_trial, best_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.plan import SweepPlan
    from runner.store import RunRow, Store
    from runner.sweeps.trial import Trial


@dataclass(frozen=True, slots=True)
class Summary:
    """A sweep and its trials, in the order of their numbers. best: the number of the best completed one so far."""

    plan: SweepPlan
    rows: Sequence[RunRow]
    trials: Sequence[Trial]
    best: int | None

    def value(self, number: int) -> float | None:
        """What the trial reached: its best value of the metric."""
        return best_value(self.trials[number].values, self.plan.objective.goal)

    def ranked(self) -> list[int]:
        """Numbers of all trials, the best completed ones first, those without a value last."""
        sign = -1.0 if self.plan.objective.goal == "maximize" else 1.0

        def rank(number: int) -> tuple[bool, bool, float, int]:
            value = self.value(number)
            ended = self.trials[number].state is State.COMPLETED
            return value is None, not ended, sign * (value or 0.0), number

        return sorted(range(len(self.rows)), key=rank)

    def to_json(self) -> dict[str, Any]:
        """The member `sweep` of a run's JSON; see docs/sweeps.md."""
        return {
            "metric": self.plan.objective.metric,
            "goal": self.plan.objective.goal,
            "best": None if self.best is None else self.rows[self.best].name,
            "trials": [
                {
                    "name": row.name,
                    "parameters": dict(trial.parameters),
                    "value": self.value(number),
                    "status": row.status.value,
                    "elapsed_s": row.outcome.elapsed_s if row.outcome else None,
                }
                for number, (row, trial) in enumerate(zip(self.rows, self.trials, strict=True))
            ],
        }


def sweep_row(store: Store, row: RunRow) -> RunRow | None:
    """The row of the step that is a sweep: a step's own, or the only one of a run that is one. None: it is no sweep."""
    if row.kind == "sweep":
        return store.child(row, store.plan(row).steps[0].name)
    if row.kind != "step":
        return None
    try:
        store.get(path_of(row.name, 0))
    except NotFoundError:
        return None
    return row


def logged(store: Store, row: RunRow) -> tracking.Store:
    """What a run's last attempt logged, while it runs too; of a sweep, its best trial."""
    row = sweep_row(store, row) or row
    folder = store.folder(row.name).attempt(max(1, row.attempts))
    return tracking.read(folder.tracking if row.outcome is not None else Box(folder.box).tracking)


def summary(store: Store, row: RunRow) -> Summary | None:
    """All about a sweep; None: the run is none.

    Args:
        row: of the whole run, or of one step of it.
    """
    step = sweep_row(store, row)
    if step is None or step.path is None or step.parent is None:
        return None
    root = store.get(step.parent)
    plan = next(each.sweep for each in store.plan(root).steps if each.name == step.path)
    if plan is None:
        return None
    known = {each.path: each for each in store.children(root) if each.kind == "trial"}
    rows: list[RunRow] = []
    while (found := known.get(path_of(step.path, len(rows)))) is not None:
        rows.append(found)
    trials = [trial_of(plan, each, store.folder(each.name).attempt(max(1, each.attempts))) for each in rows]
    return Summary(plan, rows, trials, best_trial(trials, plan.objective.goal))
