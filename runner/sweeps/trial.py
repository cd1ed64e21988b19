"""A trial, as far as decisions about it need it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.sweeps.space import Parameters


class State(StrEnum):
    """How a trial stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial. values: what it has logged as the objective's metric, in the order of logging.

    STOPPED is a trial that was canceled, by a policy or by anybody. Its place in the list of all trials is its number.
    """

    parameters: Parameters
    state: State
    values: tuple[float, ...] = ()


def finite(values: Iterable[float]) -> tuple[float, ...]:
    """Without what cannot be compared: a loss that is NaN is neither good nor bad, but not there."""
    return tuple(value for value in values if math.isfinite(value))


def best_value(values: tuple[float, ...], goal: str) -> float | None:
    """The best of the values logged, as Azure ML takes it for the trial's; None without any."""
    if not values:
        return None
    return max(values) if goal == "maximize" else min(values)


def best_trial(trials: Iterable[Trial], goal: str) -> int | None:
    """The number of the best completed trial, the earliest of equals; None where none has a value."""
    sign = -1.0 if goal == "maximize" else 1.0
    ranked = [
        (sign * value, number)
        for number, trial in enumerate(trials)
        if trial.state is State.COMPLETED and (value := best_value(trial.values, goal)) is not None
    ]
    return min(ranked)[1] if ranked else None
