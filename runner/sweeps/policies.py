"""Early termination: which running trials are not worth going on, by the rules that Azure ML documents.

A trial is at interval n when it has logged the metric n times. A policy looks at it at each multiple of
`evaluation_interval` from `delay_evaluation` on, and compares it with what the others had at the same interval.
"""

from __future__ import annotations

import math
from statistics import fmean, median
from typing import TYPE_CHECKING

from runner.sweeps.trial import State, best_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.job import EarlyTermination
    from runner.sweeps.trial import Trial


def stops(policy: EarlyTermination, goal: str, trials: Sequence[Trial]) -> Mapping[int, str]:
    """Numbers of the running trials that the policy ends now, with the sentence that says why."""
    found: dict[int, str] = {}
    for number, trial in enumerate(trials):
        interval = _interval(policy, len(trial.values))
        if trial.state is not State.RUNNING or interval is None:
            continue
        if why := _RULES[policy.kind](policy, goal, trials, number, interval):
            found[number] = f"stopped by the {policy.kind} policy at interval {interval}: {why}"
    return found


def _interval(policy: EarlyTermination, logged: int) -> int | None:
    """The last interval at which a trial that logged so often is looked at."""
    every = max(policy.evaluation_interval, 1)
    interval = logged - logged % every
    return interval if interval >= max(policy.delay_evaluation, 1) else None


def _bandit(policy: EarlyTermination, goal: str, trials: Sequence[Trial], number: int, interval: int) -> str:
    """Not within the slack of the best trial."""
    mine = _best(trials[number], goal, interval)
    leader = best_value(tuple(value for trial in trials if (value := _best(trial, goal, interval)) is not None), goal)
    if mine is None or leader is None:
        return ""
    if policy.slack_amount is not None:
        slack, said = policy.slack_amount, f"slack_amount {policy.slack_amount:g}"
        bound = leader - slack if goal == "maximize" else leader + slack
    else:
        factor = 1 + (policy.slack_factor or 0.0)
        said = f"slack_factor {policy.slack_factor or 0.0:g}"
        # 0.8 at a factor of 0.2 allows 0.8 / 1.2. Below zero it is the other way round, or the best would not pass.
        bound = leader / factor if (goal == "maximize") == (leader > 0) else leader * factor
    return (
        f"{mine:g} is beyond {bound:g}, which {said} allows from the best, {leader:g}"
        if _worse(mine, bound, goal)
        else ""
    )


def _median(policy: EarlyTermination, goal: str, trials: Sequence[Trial], number: int, interval: int) -> str:
    """Its best is worse than the median of all running averages."""
    del policy
    mine = _best(trials[number], goal, interval)
    averages = [fmean(trial.values[:interval]) for trial in trials if trial.values]
    if mine is None or not averages:
        return ""
    middle = median(averages)
    return f"its best, {mine:g}, is worse than the median of averages, {middle:g}" if _worse(mine, middle, goal) else ""


def _truncation(policy: EarlyTermination, goal: str, trials: Sequence[Trial], number: int, interval: int) -> str:
    """Among the lowest percentage of the trials that came so far."""
    percentage = policy.truncation_percentage or 0
    counted = {
        other: trial.values[interval - 1]
        for other, trial in enumerate(trials)
        if len(trial.values) >= interval
        and trial.state is not State.FAILED
        # Those that were stopped always count, or each look would cut the same share of the rest again.
        and not (policy.exclude_finished_jobs and trial.state is State.COMPLETED)
    }
    mine = counted[number]
    # Of equals the later are the lower, so that never more than the share is cut.
    below = sum(_worse(value, mine, goal) or (value == mine and other > number) for other, value in counted.items())
    # Of few trials the share is less than one: then none is ended.
    if below < math.floor(len(counted) * percentage / 100):
        return f"{mine:g} is in the lowest {percentage}% of {len(counted)} trials"
    return ""


_RULES = {"bandit": _bandit, "median_stopping": _median, "truncation_selection": _truncation}
KINDS = frozenset(_RULES)


def _best(trial: Trial, goal: str, interval: int) -> float | None:
    return best_value(trial.values[:interval], goal)


def _worse(one: float, other: float, goal: str) -> bool:
    return one < other if goal == "maximize" else one > other
