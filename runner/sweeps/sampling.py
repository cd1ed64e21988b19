"""Which parameters trial number n gets: a function of the search space, the seed and the trials before it.

There is no state, so a sweep that was killed goes on where it was, and no trial is drawn twice.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from runner.sweeps import sobol, space

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.job import Distribution
    from runner.plan import SweepPlan
    from runner.sweeps.space import Parameters
    from runner.sweeps.trial import Trial

_DRAWS = 10_000
"""Draws for one trial that may all meet earlier trials; then the space counts as used up."""
_FAR = 1009
"""How far on in the Sobol sequence the next try is: beyond the point of any trial, and odd, or it would lie near."""


def propose(plan: SweepPlan, trials: Sequence[Trial], seed: int) -> Parameters | None:
    """The parameters of trial number `len(trials)`; None: the space holds no further one.

    Raises:
        CapabilityError: Optuna is needed and not installed.
    """
    search, kind, number = plan.search_space, plan.sampling.kind, len(trials)
    if kind == "grid":
        return _grid(search, number)
    taken = {_key(trial.parameters) for trial in trials}
    total = space.combinations(search)
    if total is not None and len(taken) >= total:
        return None
    if kind == "bayesian":
        from runner.sweeps.bayesian import suggest

        found = suggest(plan, trials, seed)
        if _key(found) not in taken:
            return found
    # A trial with the parameters of an earlier one would tell nothing new: another is drawn.
    base = plan.sampling.logbase or math.e
    for draw in range(_DRAWS):
        if kind == "sobol":
            positions = sobol.point(number + draw * _FAR, len(search), seed)
        else:
            source = Random(f"{seed}.{number}.{draw}")
            positions = tuple(source.random() for _ in search)
        found = {
            name: space.text(space.at(distribution, position, base))
            for (name, distribution), position in zip(search.items(), positions, strict=True)
        }
        if _key(found) not in taken:
            return found
    return None


def _grid(search: Mapping[str, Distribution], number: int) -> Parameters | None:
    """Combination `number` of all choices; the last name changes fastest."""
    found: dict[str, str] = {}
    for name, distribution in reversed(list(search.items())):
        number, index = divmod(number, len(distribution.values))
        found[name] = space.text(space.chosen(distribution.values[index]))
    return None if number else {name: found[name] for name in search}


def _key(parameters: Parameters) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(parameters.items()))
