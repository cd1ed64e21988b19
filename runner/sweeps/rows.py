"""Trials as the store has them: rows named after their sweep, with parameters and what they logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import tracking
from runner.model import Status
from runner.sweeps.trial import State, Trial, finite

if TYPE_CHECKING:
    from runner.plan import SweepPlan
    from runner.store import AttemptFolder, RunRow

NO_VALUE = (
    "{count} trials completed, but none logged a finite value of the metric {metric}, by which the best is chosen;"
    " they logged: {logged}"
)


def path_of(sweep: str, number: int) -> str:
    """The path of a trial in its root run."""
    return f"{sweep}.trial_{number}"


def trial_of(plan: SweepPlan, row: RunRow, folder: AttemptFolder) -> Trial:
    """A trial as decisions need it. folder: of its last attempt."""
    parameters = {name: row.step.parameters.get(name, "") for name in plan.search_space}
    if row.outcome is None:
        return Trial(parameters, State.RUNNING)
    match row.outcome.status:
        case Status.COMPLETED:
            state = State.COMPLETED
        case Status.CANCELED:
            state = State.STOPPED
        case _:
            state = State.FAILED
    points = tracking.history(folder.tracking, plan.objective.metric)
    return Trial(parameters, state, finite(point.value for point in points))
