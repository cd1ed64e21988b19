"""Pipelines: the steps of a `jobs:` mapping into a `Graph`, checked as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.job import Command, Graph, Node, Settings, Sweep
from runner.spec.job.bindings import Binder, check_cycles
from runner.spec.job.commands import inputs_declared, outputs
from runner.spec.job.nodes import Draft, read_node
from runner.spec.job.shapes import meant
from runner.spec.job.source import stripped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.job import Input, Output
    from runner.spec.job.components import Reader
    from runner.spec.job.source import Source
    from runner.spec.yamldoc import KeyPath


def component_graph(reader: Reader, source: Source, path: KeyPath, data: dict[str, Any], file: Path | None) -> Graph:
    """A pipeline component."""
    made = read_graph(reader, source, path, data, inputs_declared(source, path, data))
    version = data.get("version")
    return replace(
        made,
        name=str(data["name"]) if data.get("name") and file else None,
        version=source.text((*path, "version"), version) if version is not None else None,
    )


def read_graph(
    reader: Reader, source: Source, path: KeyPath, data: dict[str, Any], inputs: Mapping[str, Input]
) -> Graph:
    """The steps of a pipeline with these inputs."""
    made = outputs(source, path, data)
    drafts: dict[str, Draft] = {}
    jobs = data.get("jobs") or {}
    if not jobs:
        source.wrong((*path, "jobs"), "has no steps", "expected one or more, by name")
    for name, one in jobs.items():
        draft = read_node(reader, source, (*path, "jobs", name), one, made)
        if draft is not None:
            drafts[name] = draft
    binder = Binder(source, inputs, drafts, jobs)
    for draft in drafts.values():
        binder.bind(draft)
    check_cycles(source, binder.edges)
    _produced(source, path, data, made, drafts, complete=len(drafts) == len(jobs))
    return Graph(
        inputs=inputs,
        outputs=_typed(data, made, drafts),
        nodes={name: _node(source, draft) for name, draft in drafts.items()},
        settings=settings(source, (*path, "settings"), data.get("settings")),
        where=source.where(path),
    )


def _node(source: Source, draft: Draft) -> Node:
    return Node(
        draft.component,
        draft.inputs,
        draft.outputs,
        draft.compute,
        draft.display_name,
        source.where(draft.path),
    )


def _produced(
    source: Source,
    path: KeyPath,
    data: Mapping[str, Any],
    made: Mapping[str, Output],
    drafts: Mapping[str, Draft],
    *,
    complete: bool,
) -> None:
    """Each output of the pipeline is that of one step, and each that a step names is declared."""
    makers: dict[str, str] = {}
    for draft in drafts.values():
        for name, one in draft.outputs.items():
            at = (*draft.path, "outputs", name)
            if one.parent is None:
                continue
            if one.parent not in made:
                source.wrong(at, f"the pipeline has no output {one.parent!r}", *meant(one.parent, made))
            elif one.parent in makers:
                source.wrong(at, f"the output {one.parent!r} of the pipeline is that of {makers[one.parent]} already")
            makers.setdefault(one.parent, f"{draft.name}.{name}")
    if not complete or any(draft.open for draft in drafts.values()):
        return
    for name in (data.get("outputs") or {}).keys() - makers.keys():
        hint = f"to make it, write `NAME: ${{{{parent.outputs.{name}}}}}` under the outputs of a step"
        source.ignored((*path, "outputs", name), f"no step makes this output of the pipeline ({hint})")


def _typed(data: Mapping[str, Any], made: Mapping[str, Output], drafts: Mapping[str, Draft]) -> dict[str, Output]:
    """Outputs whose type is not written have that of the step that makes them."""
    kinds = {
        one.parent: _declared(draft, name, one) for draft in drafts.values() for name, one in draft.outputs.items()
        if one.parent is not None
    }  # fmt: skip
    found = {}
    for name, one in made.items():
        written = (data.get("outputs") or {}).get(name)
        says = isinstance(written, dict) and written.get("type") is not None
        found[name] = one if says or name not in kinds else replace(one, type=kinds[name])
    return found


def _declared(draft: Draft, name: str, one: Output) -> Any:
    inner = draft.component
    known = inner.outputs.get(name) if isinstance(inner, Command | Graph | Sweep) else None
    return known.type if known and not draft.loose else one.type


def settings(source: Source, path: KeyPath, given: Any) -> Settings:
    """`settings:` of a pipeline, already checked for its form."""
    if not isinstance(given, dict):
        return Settings()
    for key in ("on_init", "on_finalize"):
        if given.get(key) is not None:
            source.cannot("settings.hooks", (*path, key))
    compute, datastore = given.get("default_compute"), given.get("default_datastore")
    return Settings(
        default_compute=stripped(compute) if compute else None,
        default_datastore=stripped(datastore) if datastore else None,
        continue_on_step_failure=source.flag(given.get("continue_on_step_failure")),
        force_rerun=source.flag(given.get("force_rerun")),
    )
