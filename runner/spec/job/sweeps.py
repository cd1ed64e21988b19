"""Sweeps: search space, objective, sampling, limits and early termination of a mapping that has the form of one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from runner.job import Distribution, EarlyTermination, Objective, Sampling, Sweep, SweepLimits
from runner.spec.job.kinds import DISTRIBUTIONS
from runner.spec.job.shapes import meant

if TYPE_CHECKING:
    from runner.job import Command
    from runner.spec.job.source import Source
    from runner.spec.yamldoc import KeyPath


def sweep(source: Source, path: KeyPath, data: dict[str, Any], trial: Command) -> Sweep:
    """A sweep around a trial."""
    space = {
        name: _distribution(source, (*path, "search_space", name), given)
        for name, given in (data.get("search_space") or {}).items()
    }
    if not space:
        source.wrong((*path, "search_space"), "is empty", "expected what is varied, by name")
    objective = data["objective"]
    sampling = _sampling(source, (*path, "sampling_algorithm"), data.get("sampling_algorithm"))
    if sampling.kind == "grid":
        for name, one in space.items():
            if one.kind != "choice":
                at = (*path, "search_space", name)
                source.wrong(at, f"grid sampling takes choice only, found {one.kind}", "sampling_algorithm: random")
    return Sweep(
        trial=trial,
        search_space=space,
        objective=Objective(str(objective["goal"]).lower(), objective["primary_metric"]),
        sampling=sampling,
        limits=_limits(source, (*path, "limits"), data.get("limits")),
        early_termination=_early(source, (*path, "early_termination"), data.get("early_termination")),
        where=source.where(path),
    )


def _distribution(source: Source, path: KeyPath, given: dict[str, Any]) -> Distribution:
    kind = str(given["type"]).lower()
    wanted = DISTRIBUTIONS[kind]
    for key, value in given.items():
        if key != "type" and key not in wanted and value is not None:
            source.wrong((*path, key), f"{kind} has no {key}", *meant(key, wanted))
    for key in wanted:
        if given.get(key) is None:
            source.wrong(path, f"{key} is missing", f"{kind} has: {', '.join(wanted)}")
    numbers = {
        key: source.number((*path, key), given.get(key))
        for key in ("min_value", "max_value", "mu", "sigma", "q", "upper")
    }
    low, high = numbers["min_value"], numbers["max_value"]
    if low is not None and high is not None and low > high:
        source.wrong((*path, "min_value"), f"min_value {low:g} is above max_value {high:g}")
    if numbers["q"] is not None and numbers["q"] <= 0:
        source.wrong((*path, "q"), "expected more than 0")
    if numbers["sigma"] is not None and numbers["sigma"] < 0:
        source.wrong((*path, "sigma"), "expected 0 or more")
    if kind == "randint" and numbers["upper"] is not None and (numbers["upper"] < 1 or numbers["upper"] % 1):
        source.wrong((*path, "upper"), "expected a whole number of 1 or more")
    return Distribution(
        kind,
        values=_choices(source, (*path, "values"), given.get("values")) if kind == "choice" else (),
        low=low,
        high=numbers["upper"] if kind == "randint" else high,
        mu=numbers["mu"],
        sigma=numbers["sigma"],
        q=numbers["q"],
        where=source.where(path),
    )


def _choices(source: Source, path: KeyPath, values: list[Any] | None) -> tuple[Any, ...]:
    if values is not None and not values:
        source.wrong(path, "is empty", "expected one value or more")
    for index, value in enumerate(values or ()):
        if isinstance(value, dict):
            source.cannot("sweep.nested", (*path, index))
    return tuple(values or ())


def _sampling(source: Source, path: KeyPath, given: Any) -> Sampling:
    if not isinstance(given, dict):
        return Sampling(str(given).lower()) if given is not None else Sampling()
    kind = str(given["type"]).lower()
    for key in ("seed", "rule", "logbase"):
        if kind != "random" and given.get(key) is not None:
            source.wrong((*path, key), f"{kind} sampling has no {key}", "leave it out, or type: random")
    sobol = str(given.get("rule") or "").lower() == "sobol"
    base = given.get("logbase")
    if str(base).lower() == "e":
        base = math.e
    logbase = source.number((*path, "logbase"), base)
    if logbase is not None and (logbase <= 0 or logbase == 1):
        source.wrong((*path, "logbase"), "expected a number above 0 other than 1, or e")
    return Sampling("sobol" if sobol else kind, source.integer((*path, "seed"), given.get("seed")), logbase)


def _limits(source: Source, path: KeyPath, given: Any) -> SweepLimits:
    if not isinstance(given, dict):
        return SweepLimits()
    numbers = {key: source.integer((*path, key), value, least=1) for key, value in given.items()}
    return SweepLimits(
        numbers.get("max_total_trials"),
        numbers.get("max_concurrent_trials"),
        numbers.get("timeout"),
        numbers.get("trial_timeout"),
    )


def _early(source: Source, path: KeyPath, given: Any) -> EarlyTermination | None:
    if not isinstance(given, dict):
        return None
    kind = str(given["type"]).lower()
    factor = source.number((*path, "slack_factor"), given.get("slack_factor"))
    amount = source.number((*path, "slack_amount"), given.get("slack_amount"))
    percentage = source.integer((*path, "truncation_percentage"), given.get("truncation_percentage"), least=1)
    if kind == "bandit" and (factor is None) == (amount is None):
        source.wrong(path, "expected either slack_factor or slack_amount")
    if kind == "truncation_selection" and percentage is None:
        source.wrong(path, "truncation_percentage is missing", "expected 1 to 99")
    if percentage is not None and percentage > 99:
        source.wrong((*path, "truncation_percentage"), f"expected 1 to 99, found {percentage}")
    interval = source.integer((*path, "evaluation_interval"), given.get("evaluation_interval"), least=0)
    return EarlyTermination(
        kind,
        interval or 1,
        source.integer((*path, "delay_evaluation"), given.get("delay_evaluation"), least=0) or 0,
        factor,
        amount,
        percentage,
        bool(source.flag(given.get("exclude_finished_jobs"))),
    )
