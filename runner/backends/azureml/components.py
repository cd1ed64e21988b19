"""Pipelines that are registered in a workspace, as components: listed, described, and as a job that runs one."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runner.backends.azureml.arm import inner, text
from runner.backends.azureml.computes import nowhere
from runner.digests import Digests
from runner.errors import CodeFolderError, NotFoundError, UsageError
from runner.job import Data, DataType, Foreign, Graph, Job, Node, Output
from runner.spec.job.source import has_scheme
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.backends.azureml.arm import Arm, Json
    from runner.backends.azureml.target import Target
    from runner.job import Value

VERSION = "2024-01-01-preview"
CONTENT = "runner.content"
"""The tag of a component by which one that is registered again is known."""
_FILES = frozenset({"code", "path"})
"""Members whose text is a place on this machine."""
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline component. inputs: name → `type`, `default`, `optional` as far as they are said. outputs: name → type.
    created: ISO 8601. versions: all of them, the newest first, where they were asked for."""

    name: str
    version: str
    description: str = ""
    created: str | None = None
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    versions: tuple[str, ...] = ()


def listed(arm: Arm, target: Target) -> list[Pipeline]:
    """The newest version of each pipeline component of the workspace, by name."""
    newest = [
        (text(each, "name"), text(inner(each, "properties"), "latestVersion")) for each in _containers(arm, target)
    ]
    wanted = [(name, version) for name, version in newest if version and not name.startswith("azureml_anonymous")]
    if not wanted:
        return []
    with ThreadPoolExecutor(min(_AT_ONCE, len(wanted))) as pool:
        found = list(pool.map(lambda each: _version(arm, target, *each), wanted))
    pipelines = [_read(each) for each in found if _spec(each).get("type") == "pipeline"]
    return sorted(pipelines, key=lambda each: each.name)


def find(arm: Arm, target: Target, reference: str) -> Pipeline:
    """The pipeline of `NAME`, `NAME@VERSION` or `NAME@latest`, with or without `pipeline:` before it, and its versions.

    Raises:
        NotFoundError: there is none; names the nearest.
    """
    name, _, version = reference.removeprefix("pipeline:").partition("@")
    place = f"{target.path}/components/{quote(name, safe='')}"
    try:
        container = arm.one(place, VERSION, f"the component {name}")
    except NotFoundError:
        raise _none(arm, target, name) from None
    if version in {"", "latest"}:
        version = text(inner(container, "properties"), "latestVersion")
    entries = arm.every(f"{place}/versions", VERSION, f"the versions of {name}", {"$orderBy": "createdtime desc"})
    versions = tuple(text(each, "name") for each in entries)
    if version not in versions:
        raise NotFoundError(f"{name} has no version {version!r}", f"there are: {', '.join(versions[:20]) or 'none'}")
    found = _version(arm, target, name, version)
    if _spec(found).get("type") != "pipeline":
        raise UsageError(
            f"the component {name} is no pipeline", f"name it in a job file: component: azureml:{name}@latest"
        )
    return _read(found, versions)


def version_for(arm: Arm, target: Target, name: str, content: str) -> tuple[str, bool]:
    """(the version that a component of that content gets, whether it is there): the newest if it has that content."""
    place = f"{target.path}/components/{quote(name, safe='')}"
    try:
        found = arm.one(place, VERSION, f"the component {name}")
    except NotFoundError:
        _containers(arm, target)  # the workspace itself may not be there
        return "1", False
    if newest := text(inner(found, "properties"), "latestVersion"):
        there = _version(arm, target, name, newest)
        if text(inner(there, "properties", "tags"), CONTENT) == content:
            return newest, True
    return text(inner(found, "properties"), "nextVersion") or "1", False


def content(document: Mapping[str, Any]) -> str:
    """What a component is, as SHA-256: the document, with what the files in it hold instead of their places.

    Raises:
        CodeFolderError: its files cannot be read.
    """
    digests = Digests(None)

    def held(found: Any, key: str = "") -> Any:
        if isinstance(found, dict):
            return {name: held(each, name) for name, each in found.items()}
        if isinstance(found, list):
            return [held(each) for each in found]
        place = Path("/", found) if key in _FILES and isinstance(found, str) and not has_scheme(found) else None
        return digests.of(place) if place is not None and place.exists() else found

    try:
        return sha256(json.dumps(held(document), sort_keys=True).encode()).hexdigest()
    except OSError as error:
        raise CodeFolderError(f"cannot read {error.filename}: {error.strerror}") from None


def job(pipeline: Pipeline, sets: Sequence[tuple[str, str]]) -> Job:
    """A job that runs it, with these inputs (`inputs.NAME`, the value as typed).

    Raises:
        UsageError: it has no such input, or one that it needs is not given.
    """
    inputs: dict[str, Value] = {}
    for path, given in sets:
        kind, _, name = path.partition(".")
        if kind != "inputs" or name not in pipeline.inputs:
            have = ", ".join(f"inputs.{each}" for each in pipeline.inputs) or "nothing"
            raise UsageError(f"--set {path}: {pipeline.name} has no such input", f"can be set: {have}")
        declared = DataType(pipeline.inputs[name].get("type", DataType.STRING))
        inputs[name] = given if declared.literal else Data(_place(given), declared)
    missing = [
        name
        for name, each in pipeline.inputs.items()
        if name not in inputs and each.get("default") is None and not each.get("optional")
    ]
    if missing:
        raise UsageError(
            f"{pipeline.name} needs the input{'s' if len(missing) > 1 else ''} {', '.join(missing)}",
            *(f"--set inputs.{name}=…" for name in missing),
        )
    reference = f"azureml:{pipeline.name}:{pipeline.version}"
    outputs = {name: Output(DataType(kind)) for name, kind in pipeline.outputs.items()}
    foreign = Foreign("component", outputs=outputs, raw={"type": "pipeline", "component": reference})
    node = Node(foreign, inputs, {name: replace(each, parent=name) for name, each in outputs.items()})
    graph = Graph(nodes={_key(pipeline.name): node}, outputs=outputs)
    return Job(graph, display_name=pipeline.name, experiment=pipeline.name, description=pipeline.description)


def _place(given: str) -> str:
    """A URI as it is; a path of this machine whole, since it counts from the current folder."""
    return given if has_scheme(given) else os.path.abspath(os.path.expanduser(given))  # noqa: PTH100, PTH111 - as typed


def _key(name: str) -> str:
    """A name among a pipeline's `jobs`, which may hold less than a component's."""
    plain = "".join(char if char.isalnum() else "_" for char in name.lower())
    return plain if plain[:1].isalpha() else f"n_{plain}"


def _containers(arm: Arm, target: Target) -> list[Json]:
    """One entry for each component, with its versions in it.

    Raises:
        BackendError: there is no such workspace.
    """
    try:
        return arm.every(f"{target.path}/components", VERSION, "the list of components")
    except NotFoundError as error:
        raise nowhere(target, error) from None


def _version(arm: Arm, target: Target, name: str, version: str) -> Json:
    path = f"{target.path}/components/{quote(name, safe='')}/versions/{quote(version, safe='')}"
    return {**arm.one(path, VERSION, f"the component {name}:{version}"), "component": name}


def _spec(found: Json) -> Json:
    return inner(found, "properties", "componentSpec")


def _read(found: Json, versions: tuple[str, ...] = ()) -> Pipeline:
    spec, properties = _spec(found), inner(found, "properties")
    inputs = {name: each for name, each in inner(spec, "inputs").items() if isinstance(each, dict)}
    outputs = {name: text(each, "type") for name, each in inner(spec, "outputs").items() if isinstance(each, dict)}
    described = text(spec, "description") or text(properties, "description")
    created = text(inner(found, "systemData"), "createdAt") or None
    return Pipeline(text(found, "component"), text(found, "name"), described, created, inputs, outputs, versions)


def _none(arm: Arm, target: Target, name: str) -> NotFoundError:
    known = [text(each, "name") for each in _containers(arm, target)]
    near = nearest(name, known)
    hints = [f"did you mean {near}?"] if near else []
    return NotFoundError(
        f"no pipeline {name!r} is registered in the workspace {target.workspace}", *hints,
        "see them: runner pipeline list --backend azureml",
    )  # fmt: skip
