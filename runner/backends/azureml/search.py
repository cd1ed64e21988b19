"""What makes a job a sweep, as Azure ML's YAML has it. Pure."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.job import Sweep
    from runner.plan import SweepPlan


def search(sweep: SweepPlan | Sweep, trial_timeout_s: float | None) -> dict[str, Any]:
    """`search_space`, `objective`, `sampling_algorithm`, `limits`, `early_termination`.

    trial_timeout_s: as Azure gets it.
    """
    stop = sweep.early_termination
    return {
        "search_space": {name: _distribution(asdict(each)) for name, each in sweep.search_space.items()},
        "objective": {"goal": sweep.objective.goal, "primary_metric": sweep.objective.metric},
        "sampling_algorithm": _sampling(sweep),
        "limits": _limits(sweep, trial_timeout_s),
        "early_termination": None if stop is None else _stopping(asdict(stop)),
    }


def drawn_types(sweep: SweepPlan | Sweep) -> dict[str, str]:
    """Name in the search space → the type of the input that a component gets it by: a number, unless it is among texts."""
    return {
        name: "string" if any(isinstance(value, (str, bool)) for value in each.values) else "number"
        for name, each in sweep.search_space.items()
    }


def _distribution(each: dict[str, Any]) -> dict[str, Any]:
    kind = each["kind"]
    if kind == "choice":
        return {"type": kind, "values": list(each["values"])}
    if kind == "randint":
        return {"type": kind, "upper": int(each["high"])}
    names = {"low": "min_value", "high": "max_value", "mu": "mu", "sigma": "sigma", "q": "q"}
    return {"type": kind} | {theirs: each[ours] for ours, theirs in names.items() if each[ours] is not None}


def _sampling(sweep: SweepPlan | Sweep) -> str | dict[str, Any]:
    sampling = sweep.sampling
    if sampling.kind == "sobol":
        return _filled({"type": "random", "rule": "sobol", "seed": sampling.seed, "logbase": sampling.logbase})
    if sampling.seed is None and sampling.logbase is None:
        return sampling.kind
    return _filled({"type": sampling.kind, "seed": sampling.seed, "logbase": sampling.logbase})


def _limits(sweep: SweepPlan | Sweep, trial_timeout_s: float | None) -> dict[str, Any]:
    limits = sweep.limits
    return _filled({
        "max_total_trials": limits.max_total_trials, "max_concurrent_trials": limits.max_concurrent_trials,
        "timeout": _seconds(limits.timeout_s), "trial_timeout": _seconds(trial_timeout_s),
    })  # fmt: skip


def _seconds(given: float | None) -> int | None:
    return None if given is None else math.ceil(given)


_STOPS = {
    "bandit": ("slack_factor", "slack_amount"),
    "median_stopping": (),
    "truncation_selection": ("truncation_percentage",),  # azure-ai-ml takes no other, whatever the YAML reference says
}


def _stopping(stop: dict[str, Any]) -> dict[str, Any]:
    common = {name: stop[name] for name in ("evaluation_interval", "delay_evaluation")}
    own = {name: stop[name] for name in _STOPS[stop["kind"]] if stop[name] is not None}
    return {"type": stop["kind"], **common, **own}


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}
