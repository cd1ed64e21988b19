"""One step of a pipeline: what it runs and what it is given. That its references lead somewhere `bindings` checks."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runner.job import Command, Foreign, Graph, Output, Sweep
from runner.spec.job import values
from runner.spec.job.commands import command, inputs_declared, inputs_given, outputs, overridden
from runner.spec.job.kinds import ANY_NODE, COMMAND_OF_COMPONENT, FOREIGN, KINDS, NODES, node_kind
from runner.spec.job.shapes import meant
from runner.spec.job.source import pick, stripped
from runner.spec.job.sweeps import sweep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.job import Component, DataType, Value
    from runner.spec.job.components import Reader
    from runner.spec.job.source import Source
    from runner.spec.yamldoc import KeyPath

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_OF_SWEEP = ("resources", "queue_settings", "properties", "comment")
"""Members of a sweep step that are its trial's too."""


@dataclass(slots=True)
class Draft:
    """A step whose references are not yet followed.

    loose: inputs that the step declares only by using them; their types come from what they refer to.
    """

    name: str
    path: KeyPath
    component: Component
    inputs: dict[str, Value]
    outputs: dict[str, Output]
    loose: bool
    compute: str | None = None
    display_name: str | None = None

    @property
    def open(self) -> bool:
        """Whether its inputs and outputs are not known here."""
        return isinstance(self.component, Foreign)

    @property
    def space(self) -> frozenset[str]:
        """Inputs that the search space gives."""
        return frozenset(self.component.search_space) if isinstance(self.component, Sweep) else frozenset()


def read_node(reader: Reader, source: Source, path: KeyPath, data: Any, pipeline: Mapping[str, Output]) -> Draft | None:
    """One entry of `jobs:`; None where it is wrong (noted).

    Args:
        pipeline: the outputs of the pipeline; one that a step's output becomes gives it its type.
    """
    name = str(path[-1])
    if not _NAME.fullmatch(name):
        source.wrong(path, f"{name!r} cannot be a step's name", "expected letters, digits, _ and -")
    kind = node_kind(data)
    if kind is not None and kind not in NODES:
        source.wrong((*path, "type"), f"{kind!r} is no kind of step", *meant(kind, KINDS))
        return None
    if kind is None and data.get("component") is None:
        source.wrong(path, "type is missing", "expected `type: command`, or `component:`", f"known: {', '.join(KINDS)}")
        return None
    draft = _read(reader, source, path, data, kind)
    if draft is None:
        return None
    draft.component = _told(draft.component, data)
    draft.outputs = _settings(source, path, data, draft, pipeline)
    if draft.loose and isinstance(draft.component, Command):
        draft.component = replace(draft.component, outputs=draft.outputs)
    draft.compute = stripped(str(data["compute"])) if data.get("compute") is not None else None
    draft.display_name = str(data["display_name"]) if data.get("display_name") is not None else None
    return draft


def _read(reader: Reader, source: Source, path: KeyPath, data: dict[str, Any], kind: str | None) -> Draft | None:
    name = str(path[-1])
    if kind in FOREIGN:
        return _foreign(source, path, data, str(kind))
    if kind == "sweep":
        return _sweep(reader, source, path, data)
    if data.get("component") is None:
        kinds, given = inputs_given(source, path, data)
        return Draft(name, path, command(source, path, data, kinds, outputs(source, path, data)), given, {}, loose=True)
    component = reader.component(source, (*path, "component"), data["component"], kind=kind)
    if component is None:
        return None
    if not _right_kind(source, path, component, kind):
        return None
    if kind is None:
        own = COMMAND_OF_COMPONENT if isinstance(component, Command) else None
        record = ANY_NODE if isinstance(component, Foreign) else own or NODES[_kind(component)]
        if not source.check(record, data, path):
            return None
    _, given = inputs_given(source, path, data)
    if isinstance(component, Command):
        component = overridden(source, path, data, component)
    elif isinstance(component, Foreign) and component.kind in FOREIGN:
        source.cannot(component.kind, path)
    return Draft(name, path, component, given, {}, loose=False)


def _told(component: Component, data: Mapping[str, Any]) -> Component:
    """With what the step says of itself to people, which a component file says of itself alone."""
    told = pick(dict(data), ("description", "tags"))
    if not told or not isinstance(component, Command | Sweep):
        return component
    if isinstance(component, Sweep):
        return replace(component, trial=replace(component.trial, native={**component.trial.native, **told}))
    return replace(component, native={**component.native, **told})


def _kind(component: Component) -> str:
    match component:
        case Command():
            return "command"
        case Graph():
            return "pipeline"
        case Sweep():
            return "sweep"
        case Foreign():
            return component.kind


def _right_kind(source: Source, path: KeyPath, component: Component, kind: str | None) -> bool:
    found = _kind(component)
    if kind is None or found in {kind, "component"}:
        return True
    source.wrong((*path, "type"), f"it says {kind}, but its component is a {found}", f"type: {found}")
    return False


def _foreign(source: Source, path: KeyPath, data: dict[str, Any], kind: str) -> Draft:
    source.cannot(kind, path)
    kinds, given = inputs_given(source, path, data) if "inputs" in data and kind != "automl" else ({}, {})
    made = outputs(source, path, data)
    component = Foreign(kind, kinds, made, raw=data, where=source.where(path))
    return Draft(str(path[-1]), path, component, given, {}, loose=True)


def _sweep(reader: Reader, source: Source, path: KeyPath, data: dict[str, Any]) -> Draft | None:
    name, trial, at = str(path[-1]), data["trial"], (*path, "trial")
    kinds, given = inputs_given(source, path, data)
    space = data.get("search_space") or {}
    loose = isinstance(trial, dict) and trial.get("inputs") is None
    inner: Component | None
    if isinstance(trial, dict):
        own = kinds if loose else inputs_declared(source, at, trial)
        made = outputs(source, at, trial) or outputs(source, path, data)
        inner = command(source, at, trial, own, made, space=space, sweep=True)
    else:
        inner = reader.component(source, at, trial, kind="command")
    if isinstance(inner, Foreign):
        return Draft(name, path, inner, given, {}, loose=True)
    if not isinstance(inner, Command):
        if inner is not None:
            source.wrong(at, f"a trial is a command, not a {_kind(inner)}")
        return None
    if not loose:
        for key in space:
            if key not in inner.inputs:
                source.wrong((*path, "search_space", key), f"the trial has no input {key!r}", *meant(key, inner.inputs))
    inner = overridden(source, path, pick(data, _OF_SWEEP), inner)
    return Draft(name, path, sweep(source, path, data, inner), given, {}, loose=loose)


def _settings(
    source: Source, path: KeyPath, data: dict[str, Any], draft: Draft, pipeline: Mapping[str, Output]
) -> dict[str, Output]:
    """What a step's `outputs:` says, each with the type that its component gives it."""
    found: dict[str, Output] = {}
    for name, given in (data.get("outputs") or {}).items():
        at = (*path, "outputs", name)
        declared = draft.component.outputs.get(name)
        if declared is None and not draft.loose and not draft.open:
            source.wrong(at, f"its component has no output {name!r}", *meant(name, draft.component.outputs))
            continue
        made = values.output(source, at, given, declared.type if declared else _DEFAULT)
        inherits = draft.loose and made.parent in pipeline and not (isinstance(given, dict) and given.get("type"))
        found[name] = replace(made, type=pipeline[made.parent].type) if inherits and made.parent else made
    return found


_DEFAULT: DataType = Output().type
