"""The steps and trials of a plan that was handed over whole, as the run history has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.backends.azureml import trials
from runner.backends.azureml.names import child
from runner.backends.azureml.observe import observation
from runner.backends.base import Tried
from runner.errors import NotFoundError
from runner.sweeps.rows import path_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.backends.azureml.service import Json, Service
    from runner.backends.base import Handle, Observation, Whole

_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What is known of a whole's parts, as of one moment.

    steps: see `PlanBackend.steps`. states: how these stand. tried: of its sweeps. drawn: trials whose own job was asked for
    what was drawn for it.
    """

    steps: Mapping[str, Handle] = field(default_factory=dict)
    states: Mapping[Handle, Observation] = field(default_factory=dict)
    tried: Tried = field(default_factory=Tried)
    drawn: dict[str, Json] = field(default_factory=dict)


def parts_of(service: Service, whole: Whole, root: str, before: Parts | None) -> Parts:
    """Ask which parts there are. before: what was known, of which nothing has to be asked twice.

    Raises:
        RunnerError: the run history cannot be asked.
    """
    drawn = before.drawn if before is not None else {}
    runs = _runs(service, whole, root)
    handles = {name: root if run["runId"] == root else child(root, str(run["runId"])) for name, run in runs.items()}
    return Parts(
        steps=handles,
        states={handles[name]: observation(run) for name, run in runs.items() if handles[name] != root},
        tried=trials.tried(whole, runs, lambda run: _parameters(service, drawn, run)),
        drawn=drawn,
    )


def _runs(service: Service, whole: Whole, root: str) -> dict[str, Json]:
    """Step → its run. A step is told by its display name, a trial by its number."""
    if whole.single_sweep:
        name = whole.members[0].name
        own = service.runs([root], patience_s=_PATIENCE_S).get(root)
        return {name: own or {"runId": root}, **_trials(service, root, name)}
    members = {member.name: member for member in whole.members}
    found: dict[str, Json] = {}
    for run in _children(service, root):
        name = str(run.get("displayName") or run.get("name") or "")
        if name in members:
            found[name] = run
            if members[name].sweep is not None:
                found |= _trials(service, str(run["runId"]), name)
    return found


def _trials(service: Service, sweep: str, name: str) -> dict[str, Json]:
    return {path_of(name, number): run for number, run in enumerate(_children(service, sweep))}


def _children(service: Service, run: str) -> list[Json]:
    return [one for one in service.children(run, patience_s=_PATIENCE_S) if one.get("runId")]


def _parameters(service: Service, drawn: dict[str, Json], run: str) -> Json:
    """What the job of a trial says was drawn for it; asked for once."""
    if run not in drawn:
        try:
            drawn[run] = (service.job(run).get("properties") or {}).get("parameters") or {}
        except NotFoundError:
            drawn[run] = {}
    return drawn[run]
