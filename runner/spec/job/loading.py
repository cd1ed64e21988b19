"""A job file, checked and followed through all that it names, as one `Job`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.job import Component, Data, Foreign, Graph, Job
from runner.spec.job.bindings import check_given, check_needed
from runner.spec.job.commands import command, inputs_given, outputs
from runner.spec.job.components import Reader
from runner.spec.job.graphs import component_graph, read_graph, settings
from runner.spec.job.kinds import COMPONENTS, FOREIGN, JOBS, KINDS, is_component, kind_of, schema_kind
from runner.spec.job.overrides import override
from runner.spec.job.shapes import meant
from runner.spec.job.source import Source, pick, stripped
from runner.spec.job.sweeps import sweep
from runner.spec.values import run_name
from runner.spec.yamldoc import Document, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from runner.job import Input, Output, Value

_HINT = "--set inputs.{}=VALUE"
_NATIVE = (
    "$schema", "properties", "identity", "services", "settings", "queue_settings",
)  # fmt: skip


def load_job(
    path: Path, sets: Sequence[tuple[str, str]], name: str | None, components: Callable[[str], Path | None]
) -> Job:
    """See `runner.spec.job.load`."""
    document = read(path, large=True)
    kind, component = _kind(document)
    changed = override(document, sets, component=component)
    reader = Reader(components, component_graph)
    file = path.absolute()
    reader.opened(file)
    reader.findings.file = document.file
    source = Source(changed.document, file.parent, reader.findings, frozenset(changed.sets))
    data = changed.document.data
    if not source.check(COMPONENTS[kind] if component else JOBS[kind], data, ()):
        reader.findings.finish()
    if component:
        made = _component(reader, source, data, file, changed.given)
    else:
        made = _JOBS.get(kind, _foreign)(reader, source, data)
    made = _described(source, replace(made, file=file), data, name, component=component)
    problems = sorted(reader.findings.finish(), key=lambda one: (one.where.file != document.file, one.where.line or 0))
    found = reader.findings
    return replace(made, problems=tuple(problems), warnings=tuple(found.warnings), unsent=tuple(found.unsent))


def _kind(document: Document) -> tuple[str, bool]:
    """What a file describes, and whether it is a component.

    Raises:
        SpecError: no job, or of no known kind.
    """
    data = document.data
    by_schema, known = schema_kind(data)
    kind = kind_of(data)
    if by_schema is not None and known is None:
        raise document.error(("$schema",), f"it describes a {by_schema}, not a job", "expected a job or a component")
    if kind is None:
        raise document.error((), "type is missing", f"expected `type:` with one of {', '.join(KINDS)}")
    component = is_component(data)
    if kind not in (COMPONENTS if component else JOBS):
        raise document.error(
            ("type",), f"{kind!r} is no kind of {'component' if component else 'job'}", *meant(kind, KINDS)
        )
    return kind, component


def _component(reader: Reader, source: Source, data: dict[str, Any], file: Path, given: Mapping[str, Any]) -> Job:
    """A component that is submitted by itself: its inputs come from defaults and `--set`."""
    made = reader.declared(source, (), data, file)
    if made is None:
        reader.findings.finish()
        raise SpecError("it describes no component", file=source.document.file)
    if isinstance(made, Foreign):
        source.cannot(made.kind, ())
        return Job(made)
    texts: dict[str, Value] = {name: source.text(("inputs", name), value) for name, value in given.items()}
    found = check_given(source, (), texts, made.inputs, hint=_HINT)
    check_needed(source, (), made, found)
    return Job(made, inputs=found)


def _command(reader: Reader, source: Source, data: dict[str, Any]) -> Job:  # noqa: ARG001 - one signature for all kinds
    kinds, given = inputs_given(source, (), data)
    _no_parents(source, kinds, given)
    made = outputs(source, (), data)
    job = Job(command(source, (), data, kinds, made), given, made)
    check_needed(source, (), job.component, given)
    return job


def _sweep(reader: Reader, source: Source, data: dict[str, Any]) -> Job:  # noqa: ARG001 - one signature for all kinds
    kinds, given = inputs_given(source, (), data)
    _no_parents(source, kinds, given)
    trial = data["trial"]
    made = outputs(source, (), data)
    inner = command(source, ("trial",), trial, kinds, made, space=data["search_space"], sweep=True)
    if data.get("resources") is not None:
        from runner.spec.job.commands import overridden

        inner = overridden(source, (), {"resources": data["resources"]}, inner)
    return Job(sweep(source, (), data, inner), given, made)


def _pipeline(reader: Reader, source: Source, data: dict[str, Any]) -> Job:
    kinds, given = inputs_given(source, (), data)
    _no_parents(source, {} if data.get("component") else kinds, given)
    if data.get("component") is None:
        # A value is what steps are checked against, so it stands as the default while they are.
        known = {
            name: replace(one, default=value) if isinstance(value := given.get(name), str) else one
            for name, one in kinds.items()
        }
        graph = read_graph(reader, source, (), data, known)
        return Job(replace(graph, inputs=kinds), given, graph.outputs)
    if data.get("jobs") is not None:
        source.wrong(("jobs",), "jobs and component are both given", "leave out one of them")
    inner: Component | None = reader.component(source, ("component",), data["component"], kind="pipeline")
    if isinstance(inner, Foreign):
        return Job(inner, given, outputs(source, (), data))
    if not isinstance(inner, Graph):
        source.wrong(("component",), "is no pipeline component")
        reader.findings.finish()
        raise SpecError("is no pipeline component", file=source.document.file, key="component")
    found = check_given(source, (), given, inner.inputs, hint=_HINT)
    own = settings(source, ("settings",), data.get("settings"))
    return Job(replace(inner, settings=own), found, _job_outputs(source, data, inner))


def _job_outputs(source: Source, data: dict[str, Any], inner: Graph) -> dict[str, Output]:
    made = outputs(source, (), data)
    for name in made.keys() - inner.outputs.keys():
        source.wrong(("outputs", name), f"its component has no output {name!r}", *meant(name, inner.outputs))
    return {name: replace(one, type=inner.outputs[name].type) for name, one in made.items() if name in inner.outputs}


def _foreign(reader: Reader, source: Source, data: dict[str, Any]) -> Job:  # noqa: ARG001 - one signature for all kinds
    kind = kind_of(data) or FOREIGN[0]
    source.cannot(kind, ("type",) if "type" in data else ())
    return Job(Foreign(kind, raw=data, where=source.where(())))


_JOBS = {"command": _command, "sweep": _sweep, "pipeline": _pipeline}


def _no_parents(source: Source, kinds: Mapping[str, Input], given: Mapping[str, Value]) -> None:
    """A job that is submitted has no pipeline around it, and a value for each input that is not optional."""
    for name, one in kinds.items():
        if name not in given and not one.optional:
            source.wrong(("inputs", name), "has no value", _HINT.format(name))
    for name, value in given.items():
        if not isinstance(value, str | Data | int | float):
            source.wrong(("inputs", name), f"{value} has no pipeline around it", "give a value")


def _described(source: Source, made: Job, data: dict[str, Any], name: str | None, *, component: bool) -> Job:
    """The job with what is said about it as a whole."""
    own = None if component or data.get("name") is None else str(data["name"])
    compute = data.get("compute")
    return replace(
        made,
        compute=stripped(str(compute)) if compute is not None else None,
        name=run_name(name, "--name") if name is not None else own,
        display_name=_text(source, data, "display_name"),
        experiment=_text(source, data, "experiment_name"),
        description=_text(source, data, "description") or "",
        tags=source.texts(("tags",), data.get("tags")),
        native=pick(data, _NATIVE),
    )


def _text(source: Source, data: dict[str, Any], key: str) -> str | None:
    return source.text((key,), data[key]) if data.get(key) is not None else None
