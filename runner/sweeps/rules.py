"""Which sweeps are valid: all that is known to go wrong before the first trial starts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from runner.errors import SpecError
from runner.job import NOWHERE, Where
from runner.sweeps import policies, sobol, space
from runner.sweeps.bayesian import check_installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.job import Distribution, EarlyTermination
    from runner.plan import SweepPlan

SAMPLINGS = {
    "grid": frozenset({"choice"}),
    "random": space.KINDS,
    "sobol": space.KINDS,
    "bayesian": frozenset({"choice", "uniform", "quniform", "randint"}),
}
"""Sampling algorithm → the distributions that it can take, as Azure ML has it."""

MAX_TRIALS = 1000
"""Azure ML's default and largest number of trials."""


def check(plan: SweepPlan, where: Where = NOWHERE) -> None:
    """Refuse a sweep that cannot work; all its problems at once.

    Args:
        where: of the sweep; what stands in the search space has a place of its own.

    Raises:
        SpecError: with one line for each problem, at the place of the first.
        CapabilityError: bayesian sampling without Optuna.
    """
    found = [
        SpecError(each.message, *each.hints, file=where.file, line=where.line) if each.file is None else each
        for each in problems(plan)
    ]
    if len(found) == 1:
        raise found[0]
    if found:
        raise SpecError(
            f"the sweep has {len(found)} problems",
            *(str(each).replace("\n", "") for each in found),
            file=found[0].file, line=found[0].line,
        )  # fmt: skip
    if plan.sampling.kind == "bayesian":
        check_installed()


def problems(plan: SweepPlan) -> Iterator[SpecError]:
    """Every problem as an error of its own."""
    if not plan.search_space:
        yield SpecError("the search space is empty", "name at least one parameter", key="search_space")
    can = SAMPLINGS.get(plan.sampling.kind)
    if can is None:
        yield SpecError(
            f"sampling_algorithm {plan.sampling.kind!r} is not known", _words(SAMPLINGS), key="sampling_algorithm"
        )
    for name, distribution in plan.search_space.items():
        key = f"search_space.{name}"
        if why := _unfit(distribution):
            yield SpecError(why, file=distribution.where.file, line=distribution.where.line, key=key)
        elif can is not None and distribution.kind not in can:
            yield SpecError(
                f"{plan.sampling.kind} sampling cannot take {distribution.kind}", _words(can),
                "or sampling_algorithm: random",
                file=distribution.where.file, line=distribution.where.line, key=key,
            )  # fmt: skip
    if plan.sampling.kind == "sobol" and len(plan.search_space) > sobol.DIMENSIONS:
        yield SpecError(f"sobol takes at most {sobol.DIMENSIONS} parameters", "rule: random", key="search_space")
    base = plan.sampling.logbase
    if base is not None and (base <= 0 or base == 1):
        yield SpecError(f"logbase has to be above 0 and not 1, not {base:g}", key="sampling_algorithm.logbase")
    if plan.objective.goal not in {"minimize", "maximize"}:
        yield SpecError(
            f"goal {plan.objective.goal!r} is not known", "expected minimize or maximize", key="objective.goal"
        )
    yield from _limits(plan)
    if plan.early_termination is not None:
        yield from _policy(plan.early_termination, plan.sampling.kind)


def _unfit(given: Distribution) -> str:
    """What is wrong with one distribution, or nothing."""
    kind = given.kind
    if kind not in space.KINDS:
        return f"the distribution {kind!r} is not known; {_words(space.KINDS)}"
    if kind == "choice":
        return _unfit_choice(given)
    if kind == "randint":
        return "" if given.high is not None and given.high >= 1 else "randint needs an upper of at least 1"
    if kind.startswith("q") and not (given.q is not None and given.q > 0):
        return f"{kind} needs a q above 0"
    if kind in space.NORMAL:
        fit = given.mu is not None and given.sigma is not None and given.sigma >= 0
        return "" if fit else f"{kind} needs mu, and a sigma of at least 0"
    return _unfit_bounds(given)


def _unfit_choice(given: Distribution) -> str:
    if not given.values:
        return "choice needs at least one value"
    nested = any(isinstance(value, dict) and _nested(value) for value in given.values)
    return "a distribution within a choice is not supported; list the values" if nested else ""


def _unfit_bounds(given: Distribution) -> str:
    if given.low is None or given.high is None:
        return f"{given.kind} needs min_value and max_value"
    if given.low > given.high:
        return f"min_value {given.low:g} is above max_value {given.high:g}"
    # Who writes 1000 here means the value, not its logarithm.
    if given.kind in space.LOGARITHMIC and given.high > math.log(1e300):
        return f"max_value {given.high:g} of {given.kind} is an exponent: that is too large"
    return ""


def _nested(value: Mapping[str, object]) -> bool:
    return any(isinstance(inner, dict) and inner.get("type") in space.KINDS for inner in value.values())


def _limits(plan: SweepPlan) -> Iterator[SpecError]:
    limits = plan.limits
    total, at_once = limits.max_total_trials, limits.max_concurrent_trials
    if total is not None and not 1 <= total <= MAX_TRIALS:
        yield SpecError(f"max_total_trials has to be 1 to {MAX_TRIALS}, not {total}", key="limits.max_total_trials")
    if at_once is not None and not 1 <= at_once <= MAX_TRIALS:
        yield SpecError(
            f"max_concurrent_trials has to be 1 to {MAX_TRIALS}, not {at_once}", key="limits.max_concurrent_trials"
        )
    for name, seconds in (("timeout", limits.timeout_s), ("trial_timeout", limits.trial_timeout_s)):
        if seconds is not None and seconds <= 0:
            yield SpecError(f"{name} has to be above 0 seconds, not {seconds:g}", key=f"limits.{name}")


def _policy(policy: EarlyTermination, sampling: str) -> Iterator[SpecError]:
    key = "early_termination"
    if policy.kind not in policies.KINDS:
        yield SpecError(f"early_termination {policy.kind!r} is not known", _words(policies.KINDS), key=f"{key}.type")
        return
    if sampling == "bayesian":
        yield SpecError(
            "bayesian sampling has no early termination: it learns from trials that ran to their end",
            "leave early_termination out, or use sampling_algorithm: random",
            key=key,
        )
    if policy.kind == "bandit":
        given = [slack for slack in (policy.slack_factor, policy.slack_amount) if slack is not None]
        if len(given) != 1 or given[0] < 0:
            yield SpecError("bandit needs one of slack_factor and slack_amount, of at least 0", key=key)
    percentage = policy.truncation_percentage
    if policy.kind == "truncation_selection" and not (percentage is not None and 1 <= percentage <= 99):
        yield SpecError("truncation_selection needs a truncation_percentage of 1 to 99", key=key)
    if policy.evaluation_interval < 0 or policy.delay_evaluation < 0:
        yield SpecError("evaluation_interval and delay_evaluation cannot be below 0", key=key)


def _words(known: Mapping[str, object] | frozenset[str]) -> str:
    return "expected " + ", ".join(sorted(known))
