"""What a sweep does next, as a function of its trials. Whoever asks carries the answer out and asks again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.sweeps.policies import stops
from runner.sweeps.rules import MAX_TRIALS
from runner.sweeps.sampling import propose
from runner.sweeps.trial import State, Trial, best_trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.plan import SweepPlan
    from runner.sweeps.space import Parameters


@dataclass(frozen=True, slots=True)
class Decision:
    """start: parameters of the next trials, in their order. stop: number of a running trial → why it is canceled.

    finished: no trial runs, and none will be started. best: number of the best completed trial so far.
    timed_out: the sweep's own time is over, so it ends with what it has.
    """

    start: tuple[Parameters, ...] = ()
    stop: Mapping[int, str] = field(default_factory=dict)
    finished: bool = False
    best: int | None = None
    timed_out: bool = False


def decide(
    plan: SweepPlan, trials: Sequence[Trial], *, seed: int, elapsed_s: float, room: int, ending: bool = False
) -> Decision:
    """Decide.

    Args:
        trials: all that were started, in the order of their numbers.
        seed: the same in each call of one sweep.
        elapsed_s: since the sweep's start.
        room: how many trials the machine could start now.
        ending: the sweep is canceled: nothing is started any more.
    """
    limits, goal = plan.limits, plan.objective.goal
    running = [number for number, trial in enumerate(trials) if trial.state is State.RUNNING]
    best = best_trial(trials, goal)
    timed_out = limits.timeout_s is not None and elapsed_s >= limits.timeout_s
    if timed_out and not ending:
        why = f"stopped by the sweep's timeout of {limits.timeout_s:g} s"
        return Decision((), dict.fromkeys(running, why), not running, best, timed_out=True)
    if ending:
        return Decision((), {}, not running, best, timed_out)
    stop = stops(plan.early_termination, goal, trials) if plan.early_termination is not None else {}
    free = min(room, (limits.max_concurrent_trials or MAX_TRIALS) - len(running))
    start, used_up = _next(plan, trials, free, seed)
    finished = not running and not start and (used_up or len(trials) >= _total(plan))
    return Decision(start, stop, finished, best)


def _next(plan: SweepPlan, trials: Sequence[Trial], free: int, seed: int) -> tuple[tuple[Parameters, ...], bool]:
    """The next trials; whether the search space holds no further ones."""
    known = list(trials)
    start: list[Parameters] = []
    while free > len(start) and len(known) < _total(plan):
        parameters = propose(plan, known, seed)
        if parameters is None:
            return tuple(start), True
        start.append(parameters)
        known.append(Trial(parameters, State.RUNNING))
    return tuple(start), False


def _total(plan: SweepPlan) -> int:
    return plan.limits.max_total_trials or MAX_TRIALS
