"""From a task to the job document that Azure ML takes: its v2 YAML, as plain data. Pure.

A single task is a command job; a plan that is handed over whole is one pipeline, or one sweep. Paths of this machine in it
are absolute; `snapshot.make` has to have made those of the code.
"""

from __future__ import annotations

import math
import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

from runner.backends.azureml import command
from runner.backends.azureml.members import renamed
from runner.backends.azureml.names import job_name
from runner.backends.azureml.search import drawn_types, search
from runner.backends.azureml.snapshot import places

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.backends.base import Member, Task, Whole
    from runner.plan import SweepPlan, Upstream

LATER_S = 30.0
"""Azure's own limit comes so much later than the bootstrapper's, which writes down what it does."""

_DATA = {"type": "uri_folder"}
_DETERMINISTIC = "is_deterministic"
"""Among the members of a step whose results may not be taken again; only a component has a place for it."""
_NOT_IN_NODES = ("name", "experiment_name", "description")
_TOLD = ("display_name", "description", "tags")
"""What people see with a job."""


def document(task: Task) -> dict[str, Any]:
    """The job of a task.

    Raises:
        SpecError: its command is larger than Linux takes.
    """
    task = renamed(task)
    folders = places(task)
    if task.whole is None:
        body = _foreign(task) if _is_foreign(task) else _command(task, folders)
    elif task.whole.single_sweep:
        body = _sweep_job(task.whole.members[0], folders)
    else:
        body = _pipeline(task.whole, folders)
    return _filled({**_named(task), **body, "name": job_name(task.key), "tags": _tags(task, body.get("tags"))})


def node_names(whole: Whole) -> dict[str, str]:
    """Step → its key among Azure's `jobs`, which may hold less than a step's name. Different steps, different keys."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for member in whole.members:
        plain = re.sub(r"[^a-z0-9_]", "_", member.name.lower())
        plain = plain if plain[:1].isalpha() else f"n_{plain}"
        name, number = plain, 1
        while name in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name)
        names[member.name] = name
    return names


# -- jobs -----------------------------------------------------------------------------------------------------------


def _named(task: Task) -> dict[str, Any]:
    run = task.labels.get("runner.run")
    experiment = task.env.get("RUNNER_EXPERIMENT")
    named = {"display_name": run} if run else {}
    # Azure takes letters, digits, - and _ only; without a name it would take that of the current folder.
    return named | {"experiment_name": re.sub(r"[^A-Za-z0-9_-]", "_", experiment) if experiment else "Default"}


def _tags(task: Task, own: Mapping[str, Any] | None) -> dict[str, str]:
    return {**(own or {}), **task.labels, "runner.key": task.key, "runner.version": metadata.version("runner")}


def _command(task: Task, folders: Mapping[Path | None, Path]) -> dict[str, Any]:
    given = command.given(task)
    return {
        "type": "command",
        **_run(task, folders, given),
        "inputs": _inputs(task, {}, {}),
        "outputs": _outputs(task),
        "limits": _limits(task),
        "compute": _compute(task),
        **{name: value for name, value in _members(task).items() if name != _DETERMINISTIC},
    }


def _run(task: Task, folders: Mapping[Path | None, Path], given: command.Given) -> dict[str, Any]:
    """What is run, and in what."""
    return {
        "command": given.command,
        "code": str(folders[task.code]),
        "environment": _environment(task),
        "environment_variables": dict(given.variables),
    }


def _environment(task: Task) -> str | dict[str, Any] | None:
    found = task.remote.environment if task.remote is not None else None
    if found is None and task.image is not None:
        return {"image": task.image}
    return found if found is None or isinstance(found, str) else dict(found)


def _compute(task: Task) -> str | None:
    """Azure's job takes `azureml:NAME`; without one it is serverless."""
    name = task.remote.compute if task.remote is not None else None
    return f"azureml:{name.removeprefix('azureml:')}" if name else None


def _members(task: Task) -> dict[str, Any]:
    members = dict(task.remote.members) if task.remote is not None else {}
    if task.limits.shm_bytes is not None:
        members["resources"] = {**members.get("resources", {}), "shm_size": f"{task.limits.shm_bytes}b"}
    return members


def _limits(task: Task) -> dict[str, Any] | None:
    limits = task.limits
    if limits.timeout_s is None:
        return None
    return {"timeout": math.ceil(limits.timeout_s + limits.grace_s + LATER_S)}


def _inputs(task: Task, upstream: Mapping[str, Upstream], nodes: Mapping[str, str]) -> dict[str, Any]:
    """`inputs:` of a job or node; a literal is an entry of `value` alone."""
    given = task.remote.inputs if task.remote is not None else {}
    found = {name: _filled(entry) for name, entry in given.items() if name not in upstream}
    bound = {name: _bound(each, given.get(name, {}), nodes) for name, each in upstream.items()}
    return {name: entry.get("value", entry) for name, entry in found.items()} | bound


def _bound(each: Upstream, entry: Mapping[str, Any], nodes: Mapping[str, str]) -> str | dict[str, Any]:
    binding = f"${{{{parent.jobs.{nodes[each.step]}.outputs.{each.output}}}}}"
    mode = entry.get("mode")
    return {"path": binding, "mode": mode} if mode else binding


def _outputs(task: Task) -> dict[str, Any]:
    given = task.remote.outputs if task.remote is not None else {}
    return {name: _DATA | _filled(given.get(name, {})) for name in (*task.outputs, *(set(given) - set(task.outputs)))}


def _is_foreign(task: Task) -> bool:
    return task.remote is not None and task.remote.foreign is not None


def _foreign(task: Task) -> dict[str, Any]:
    assert task.remote is not None  # noqa: S101 - the caller looked
    body = dict(task.remote.foreign or {})
    inputs = {**body.get("inputs", {}), **_inputs(task, {}, {})}
    told = {name: task.remote.members[name] for name in _TOLD if name in task.remote.members}
    body.pop("display_name", None)  # as the job has it, unless the run was given a name
    return {**body, **told, "inputs": inputs, "outputs": {**body.get("outputs", {}), **_outputs(task)}}


def _is_pipeline(task: Task) -> bool:
    """Whether it is a pipeline that is registered in the workspace."""
    return task.remote is not None and (task.remote.foreign or {}).get("type") == "pipeline"


# -- pipelines ------------------------------------------------------------------------------------------------------


def _pipeline(whole: Whole, folders: Mapping[Path | None, Path]) -> dict[str, Any]:
    nodes = node_names(whole)
    taken = {(each.step, each.output): name for name, each in whole.outputs.items()}
    tasks = {member.name: member.task for member in whole.members}
    settings: dict[str, Any] = {
        **whole.native.get("settings", {}),
        "continue_on_step_failure": whole.continue_on_step_failure,
        "force_rerun": whole.force_rerun,
    }
    inner = [_compute(task) for task in tasks.values() if _is_pipeline(task)]
    if not all(_compute(task) for task in tasks.values()):
        settings["default_compute"] = "serverless"  # here it has to be said; for a job alone it is what nothing means
    elif inner:
        settings["default_compute"] = inner[0]  # of the steps in a registered pipeline, which cannot be given one
    return {
        **whole.native,
        "type": "pipeline",
        "settings": settings,
        "outputs": {name: _outputs(tasks[each.step]).get(each.output, _DATA) for name, each in whole.outputs.items()},
        "jobs": {nodes[member.name]: _node(member, whole, folders, nodes, taken) for member in whole.members},
    }


def _node(
    member: Member,
    whole: Whole,
    folders: Mapping[Path | None, Path],
    nodes: Mapping[str, str],
    taken: Mapping[tuple[str, str], str],
) -> dict[str, Any]:
    task, members = member.task, _members(member.task)
    types = _types(member, whole)
    if _is_foreign(task):
        body = _foreign(task)
    elif member.sweep is not None:
        body = _sweep_node(member, member.sweep, folders, types)
        members.pop(_DETERMINISTIC, None)
    else:
        deterministic = members.pop(_DETERMINISTIC, True)
        reusable = deterministic and not whole.force_rerun
        given = command.given(task, upstream=member.upstream, component=True, shared=reusable)
        component = _component(task, given.command, folders, types)
        body = {
            "type": "command",
            "component": component,
            "environment_variables": dict(given.variables),
            "limits": _limits(task),
        }
    compute = None if _is_pipeline(task) else _compute(task)
    node = {**body, "compute": compute, **members, "display_name": member.name}
    node["inputs"] = {**body.get("inputs", {}), **_inputs(task, member.upstream, nodes)}
    node["outputs"] = {
        name: f"${{{{parent.outputs.{taken[member.name, name]}}}}}" if (member.name, name) in taken else entry
        for name, entry in {**body.get("outputs", {}), **_outputs(task)}.items()
    }
    return _filled({key: value for key, value in node.items() if key not in _NOT_IN_NODES})


def _types(member: Member, whole: Whole) -> dict[str, str]:
    """Input → its type: as it was declared, else that of the output which it is."""
    given = member.task.remote.inputs if member.task.remote is not None else {}
    types = {name: "string" if "value" in entry else entry.get("type") for name, entry in given.items()}
    for name, each in member.upstream.items():
        source = next((other.task for other in whole.members if other.name == each.step), member.task)
        types[name] = types.get(name) or _outputs(source).get(each.output, _DATA)["type"]
    return {name: kind or "uri_folder" for name, kind in types.items()}


def _component(task: Task, text: str, folders: Mapping[Path | None, Path], types: Mapping[str, str]) -> dict[str, Any]:
    """What does not change from one run to the next, so that Azure can see that it is the same."""
    return _filled({
        "type": "command",
        "command": text,
        "code": str(folders[task.code]),
        "environment": _environment(task),
        "inputs": {name: {"type": kind} for name, kind in types.items()},
        "outputs": {name: {"type": entry["type"]} for name, entry in _outputs(task).items()},
        **{name: value for name, value in _members(task).items() if name in {_DETERMINISTIC, "description"}},
    })  # fmt: skip


# -- sweeps ---------------------------------------------------------------------------------------------------------


def _sweep_job(member: Member, folders: Mapping[Path | None, Path]) -> dict[str, Any]:
    sweep, task = member.sweep, member.task
    assert sweep is not None  # noqa: S101 - the plan is one sweep
    given = command.given(task, searched=sweep.search_space, shared=True)
    members = _members(task)
    members.pop(_DETERMINISTIC, None)
    own: dict[str, Any] = {name: members.pop(name) for name in ("distribution", "resources") if name in members}
    return {
        "type": "sweep",
        "trial": _filled({**_run(task, folders, given), **own}),
        "inputs": _inputs(task, {}, {}),
        "outputs": _outputs(task),
        "compute": _compute(task),
        **search(sweep, _trial_timeout(sweep, task)),
        **members,
    }


def _sweep_node(
    member: Member, sweep: SweepPlan, folders: Mapping[Path | None, Path], types: Mapping[str, str]
) -> dict[str, Any]:
    """A component has no variables, so here they all stand in the command."""
    task = member.task
    given = command.given(
        task, upstream=member.upstream, searched=sweep.search_space, component=True, native=False, shared=True
    )
    trial = _component(task, given.command, folders, {**types, **drawn_types(sweep)})
    return {"type": "sweep", "trial": trial, **search(sweep, _trial_timeout(sweep, task))}


def _trial_timeout(sweep: SweepPlan, task: Task) -> float | None:
    """Azure's own limit of a trial, in seconds: later than the bootstrapper's."""
    own = sweep.limits.trial_timeout_s if sweep.limits.trial_timeout_s is not None else task.limits.timeout_s
    return None if own is None else own + task.limits.grace_s + LATER_S


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing."""
    return {key: value for key, value in data.items() if value is not None and value not in ({}, [])}
