"""The distributions of a search space, each as the inverse of its cumulative distribution function.

So one way to get numbers between 0 and 1 (random, Sobol) is a way to sample all of them. Meanings are Azure ML's; its
`q…` distributions give multiples of q, rounded half to even, which may lie up to q/2 outside of the bounds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.job import Distribution, Scalar

Parameters = Mapping[str, str]
"""One value for each name of the search space, as the text that the trial's command gets."""

FINITE = frozenset({"choice", "randint"})
LOGARITHMIC = frozenset({"loguniform", "qloguniform"})
NORMAL = frozenset({"normal", "qnormal", "lognormal", "qlognormal"})
KINDS = FINITE | LOGARITHMIC | NORMAL | {"uniform", "quniform"}

_EDGE = 2.0**-53
"""How close to 0 and 1 a number may come, where a normal distribution would be infinite."""


def at(distribution: Distribution, position: float, logbase: float = math.e) -> Scalar:
    """The value below which the share `position` (0 to 1) of the distribution lies.

    Args:
        logbase: base of the log-uniform ones: `logbase ** uniform(min, max)`.
    """
    kind = distribution.kind
    if kind == "choice":
        return chosen(distribution.values[_index(position, len(distribution.values))])
    if kind == "randint":
        return _index(position, int(distribution.high or 0))
    if kind in NORMAL:
        # Of the standard one, since the library's own scaling refuses a sigma of 0.
        deviation = NormalDist().inv_cdf(min(max(position, _EDGE), 1 - _EDGE))
        value = (distribution.mu or 0.0) + (distribution.sigma or 0.0) * deviation
        value = math.exp(value) if kind.endswith("lognormal") else value
    else:
        low, high = distribution.low or 0.0, distribution.high or 0.0
        value = min(low + (high - low) * position, high)
        value = logbase**value if kind in LOGARITHMIC else value
    return quantized(value, distribution.q) if kind.startswith("q") and distribution.q else value


def quantized(value: float, step: float) -> float | int:
    """The nearest multiple of `step`; a whole number where the step is one, so that `type=int` of a script reads it."""
    count = round(value / step)
    if float(step).is_integer():
        return count * int(step)
    # 3 * 0.1 is 0.30000000000000004; nobody asked for that.
    return float(f"{count * step:.12g}")


def chosen(value: Any) -> Scalar:
    """A value of a choice; a mapping or list as its JSON text."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False)


def count(distribution: Distribution) -> int | None:
    """How many values it has; None for what is continuous or unbounded."""
    if distribution.kind == "choice":
        return len(distribution.values)
    if distribution.kind == "randint":
        return int(distribution.high or 0)
    if distribution.kind == "quniform" and distribution.q:
        low, high = distribution.low or 0.0, distribution.high or 0.0
        return round(high / distribution.q) - round(low / distribution.q) + 1
    return None


def combinations(space: Mapping[str, Distribution]) -> int | None:
    """How many different trials a space has; None: without end."""
    counts = [count(each) for each in space.values()]
    return None if any(each is None for each in counts) else math.prod(each for each in counts if each is not None)


def text(value: Scalar) -> str:
    """A value as the trial's command gets it."""
    return repr(value) if isinstance(value, float) else str(value)


def _index(position: float, size: int) -> int:
    return min(int(position * size), size - 1)
