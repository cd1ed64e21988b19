"""What a sweep tries: its search space as on the wire, and the trials that a sampling algorithm takes from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Values = dict[str, Any]
"""Of one trial: name → value, as JSON."""

_MEMBERS: dict[str, tuple[str, ...]] = {
    "choice": ("values",), "randint": ("upper",),
    "uniform": ("min_value", "max_value"), "quniform": ("min_value", "max_value", "q"),
    "loguniform": ("min_value", "max_value"), "qloguniform": ("min_value", "max_value", "q"),
    "normal": ("mu", "sigma"), "qnormal": ("mu", "sigma", "q"),
    "lognormal": ("mu", "sigma"), "qlognormal": ("mu", "sigma", "q"),
}  # fmt: skip
_FINITE = ("choice", "randint")
_ALLOWED = {"grid": ("choice",), "bayesian": ("choice", "uniform", "quniform"), "random": tuple(_MEMBERS)}
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
_MANY = 1_000_000
"""Above that many combinations a finite space is drawn from as if it were not."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One hyperparameter: a distribution and its arguments, of `choice` the values."""

    kind: str
    arguments: tuple[Any, ...]

    @property
    def size(self) -> float:
        """How many values there are."""
        if self.kind == "choice":
            return len(self.arguments)
        return int(self.arguments[0]) if self.kind == "randint" else math.inf

    def at(self, index: int) -> Any:
        return self.arguments[index] if self.kind == "choice" else index

    def value(self, share: float, random: Random) -> Any:
        """share: between 0 and 1, where in the distribution; what has no simple inverse is drawn instead."""
        if self.kind in _FINITE:
            return self.at(min(int(share * self.size), int(self.size) - 1))
        low, high, *_ = (float(one) for one in self.arguments)
        value = random.gauss(low, high) if "normal" in self.kind else low + share * (high - low)
        if "log" in self.kind:
            value = math.exp(value)
        if self.kind.startswith("q"):
            step = float(self.arguments[2])
            value = round(value / step) * step
        return value


@dataclass(frozen=True, slots=True)
class Space:
    axes: Mapping[str, Axis]
    algorithm: Literal["grid", "random", "bayesian"]
    seed: int = 0
    spread: bool = False
    """Random by the rule `sobol`: points that fill the space evenly (here by Halton's sequence)."""

    @property
    def size(self) -> float:
        return math.prod(axis.size for axis in self.axes.values())

    def trial(self, number: int, before: Sequence[tuple[Values, float | None]]) -> Values | None:
        """The values of the trial with that number from 0; None: the space is used up. The same again for the same before.

        before: earlier trials with what their metric came to, higher is better, None: nothing.
        """
        if number >= self.size:
            return None
        random = Random(f"{self.seed} {number}")
        if self.algorithm == "grid":
            return self._combination(number)
        if self.algorithm == "random" and not self.spread and self.size <= _MANY:
            return self._combination(Random(self.seed).sample(range(int(self.size)), int(self.size))[number])
        drawn = {
            name: axis.value(
                _radical(number + 1, _PRIMES[place % len(_PRIMES)]) if self.spread else random.random(), random
            )
            for place, (name, axis) in enumerate(self.axes.items())
        }
        known = [(values, score) for values, score in before if score is not None]
        if self.algorithm == "bayesian" and len(known) > len(self.axes):
            best = max(known, key=lambda one: one[1])[0]
            return {name: best[name] if random.random() < 0.5 else value for name, value in drawn.items()}
        return drawn

    def _combination(self, number: int) -> Values:
        found = {}
        for name, axis in reversed(list(self.axes.items())):
            number, index = divmod(number, int(axis.size))
            found[name] = axis.at(index)
        return {name: found[name] for name in self.axes}


def space_of(search_space: Mapping[str, Any], algorithm: Any, seed: int) -> Space:
    """Of a sweep job (`["uniform", [0, 1]]`) or node (`{"type": "uniform", …}`). ValueError: what is wrong with it.

    algorithm: `grid`, or an object with samplingAlgorithmType or type, and perhaps seed and rule.
    """
    told = {"type": algorithm} if isinstance(algorithm, str) else dict(algorithm or {})
    name = str(told.get("samplingAlgorithmType") or told.get("type") or "random").casefold()
    if name not in _ALLOWED:
        raise ValueError(f"The sampling algorithm {name} is not emulated.")
    if not search_space:
        raise ValueError("The sweep has no search space.")
    axes = {key: _axis(key, one) for key, one in search_space.items()}
    for key, axis in axes.items():
        if axis.kind not in _ALLOWED[name]:
            raise ValueError(f"The sampling algorithm {name} does not take {axis.kind} ({key}).")
    given = told.get("seed")
    spread = str(told.get("rule") or "").casefold() == "sobol"
    return Space(axes, name, seed if given is None else int(given), spread)  # type: ignore[arg-type]


def _axis(name: str, told: Any) -> Axis:
    if isinstance(told, Mapping):
        kind = str(told.get("type"))
        arguments = [told[member] for member in _MEMBERS.get(kind, ()) if member in told]
    else:
        kind, arguments = str(told[0]), list(told[1])
    if kind not in _MEMBERS or len(arguments) != len(_MEMBERS[kind]):
        raise ValueError(f"The search space of {name} is not understood: {json.dumps(told)}.")
    return Axis(kind, tuple(arguments[0]) if kind == "choice" else tuple(arguments))


def text_of(value: Any) -> str:
    """As it stands in a command."""
    return value if isinstance(value, str) else json.dumps(value)


def _radical(number: int, base: int) -> float:
    share, part = 0.0, 1.0
    while number:
        part /= base
        number, digit = divmod(number, base)
        share += digit * part
    return share
