"""What the run history says of sweeps: which trials there are, what was drawn for each, and which is the best."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runner.backends.azureml.observe import observation
from runner.backends.base import Tried
from runner.sweeps.rows import path_of
from runner.sweeps.space import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runner.backends.azureml.service import Json
    from runner.backends.base import Observation, Whole

_BEST = "best_child_run_id"
"""Property of a sweep's run; azure-ai-ml goes by it too."""
_DRAWN = "hyperparameters"
"""Tag of a trial's run: a JSON object."""


def tried(whole: Whole, runs: Mapping[str, Json], parameters: Callable[[str], Json]) -> Tried:
    """The sweeps of a whole.

    Args:
        runs: step or trial → its run, each sweep asked for before its trials.
        parameters: what the job of a trial (by its run's id) says was drawn for it; asked where the run does not tell.
    """
    sweeps: dict[str, Observation] = {}
    drawn: dict[str, dict[str, str]] = {}
    best: dict[str, str] = {}
    for member in whole.members:
        if member.sweep is None or member.name not in runs:
            continue
        own = runs[member.name]
        sweeps[member.name] = observation(own)
        word = (own.get("properties") or {}).get(_BEST)
        number = 0
        while (trial := path_of(member.name, number)) in runs:
            run = runs[trial]
            values = _told(run) or parameters(str(run["runId"]))
            if values:
                drawn[trial] = _texts(values, member.sweep.search_space)
            if word and run["runId"] == word:
                best[member.name] = trial
            number += 1
    return Tried(sweeps, drawn, best)


def _told(run: Json) -> dict[str, Any]:
    raw = (run.get("tags") or {}).get(_DRAWN)
    try:
        found = json.loads(raw) if isinstance(raw, str) else raw
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _texts(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """What was drawn, by the names of the search space; a service may write an argument's dashes before them."""
    bare = {str(name).lstrip("-"): value for name, value in values.items()}
    return {name: text(bare[name]) for name in names if name in bare}
