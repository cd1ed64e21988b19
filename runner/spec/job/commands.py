"""Command jobs, components and steps: mappings of known form into `Command`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.job import Command, DataType, Input
from runner.spec.job import expressions, values
from runner.spec.job.resources import limits, native, retry
from runner.spec.job.source import pick
from runner.spec.job.surroundings import code, environment

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from runner.job import Output, Value
    from runner.spec.job.source import Source
    from runner.spec.yamldoc import KeyPath

NATIVE = ("distribution", "identity", "services", "queue_settings", "properties", "comment")
_QUEUE = ("job_tier", "priority")


def inputs_declared(source: Source, path: KeyPath, data: dict[str, Any]) -> dict[str, Input]:
    """`inputs:` of a component."""
    given = data.get("inputs") or {}
    values.check_names(source, given, (*path, "inputs"))
    return {
        name: values.declared(source, (*path, "inputs", name), value)
        for name, value in given.items()
        if value is not None
    }


def inputs_given(source: Source, path: KeyPath, data: dict[str, Any]) -> tuple[dict[str, Input], dict[str, Value]]:
    """`inputs:` of a job or inline step: the values, and what they declare by their types.

    The type of a reference is not known yet; until the graph tells it is `string`.
    """
    kinds: dict[str, Input] = {}
    found: dict[str, Value] = {}
    for name, value in (data.get("inputs") or {}).items():
        at = (*path, "inputs", name)
        optional = isinstance(value, dict) and bool(source.flag(value.get("optional")))
        one, kind = values.given(source, at, value)
        if one is None and kind is None and value is None:
            source.wrong(at, "has no value", "give it one, or leave it out")
            continue
        kinds[name] = _with_rules(source, at, value, kind or DataType.STRING, optional=optional)
        if one is not None:
            found[name] = one
            if isinstance(one, str) and "${{" not in one:
                for fault in values.faults(one, kinds[name]):
                    source.wrong(at, fault)
    values.check_names(source, data.get("inputs") or {}, (*path, "inputs"))
    return kinds, found


def _with_rules(source: Source, at: KeyPath, value: Any, kind: DataType, *, optional: bool) -> Input:
    if not isinstance(value, dict):
        return Input(kind, where=source.where(at))
    rules = {key: rule for key, rule in value.items() if key in {"min", "max", "enum", "mode", "description"}}
    return replace(values.declared(source, at, {**rules, "type": kind.value}), optional=optional)


def outputs(source: Source, path: KeyPath, data: dict[str, Any]) -> dict[str, Output]:
    """`outputs:` of a job, component or inline step."""
    given = data.get("outputs") or {}
    values.check_names(source, given, (*path, "outputs"))
    return {name: values.output(source, (*path, "outputs", name), value) for name, value in given.items()}


def command(
    source: Source,
    path: KeyPath,
    data: dict[str, Any],
    inputs: Mapping[str, Input],
    made: Mapping[str, Output],
    *,
    space: Collection[str] = (),
    beside: Path | None = None,
    sweep: bool = False,
) -> Command:
    """A command of a mapping that has the form of one.

    Args:
        space: names of the search space, in a trial.
        beside: the component's file.
        sweep: whether `resources` and `limits` belong to the sweep around it rather than to the data.
    """
    _check_text(source, path, data)
    known = {
        "inputs": {**dict.fromkeys(space), **inputs},
        "outputs": made,
        **({"search_space": space} if space else {}),
    }
    _check_expressions(source, path, data, known, {name for name, one in inputs.items() if one.optional})
    if data.get("distribution") is not None:
        source.cannot("distribution", (*path, "distribution"))
    args = data.get("args")
    return Command(
        inputs=inputs,
        outputs=made,
        command=data.get("command"),
        script=data.get("script"),
        args=_args(source, (*path, "args"), args),
        code=code(source, path, data, beside=beside),
        environment=environment(source, (*path, "environment"), data.get("environment")),
        variables=source.texts((*path, "environment_variables"), data.get("environment_variables")),
        limits=limits(source, (*path, "resources"), data.get("resources"), None if sweep else data.get("limits"),
                      (*path, "limits")),
        retry=retry(source, (*path, "retry"), data.get("retry")),
        deterministic=source.flag(data.get("is_deterministic")) is not False,
        name=data.get("name") if beside else None,
        version=source.text((*path, "version"), data["version"]) if data.get("version") is not None else None,
        native=_native(data),
        where=source.where(path),
    )  # fmt: skip


def _native(data: dict[str, Any]) -> dict[str, Any]:
    found = pick(data, NATIVE)
    if queue := {**pick(data, _QUEUE), **(found.get("queue_settings") or {})}:
        found["queue_settings"] = queue
    if rest := native(data.get("resources")):
        found["resources"] = rest
    return found


def _over(before: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A component's members with those of the step that uses it: of `resources` each by itself, as the limits are."""
    both = {**before.get("resources", {}), **own.get("resources", {})}
    return {**before, **own, **({"resources": both} if both else {})}


def _args(source: Source, path: KeyPath, args: Any) -> tuple[str, ...]:
    if args is None:
        return ()
    items = args if isinstance(args, list) else [args]
    return tuple(
        source.text((*path, index) if isinstance(args, list) else path, item) for index, item in enumerate(items)
    )


def _check_text(source: Source, path: KeyPath, data: dict[str, Any]) -> None:
    """That there is one thing to run."""
    line, script = data.get("command"), data.get("script")
    if line is None and script is None:
        source.wrong(path, "command is missing", "expected `command:`, or `script:` with `args:`")
    elif line is not None and script is not None:
        source.wrong((*path, "script"), "command and script are both given", "leave out one of them")
    elif line is not None and data.get("args") is not None:
        source.wrong((*path, "args"), "args go with a script", "write them into the command")
    if line is not None and not line.strip():
        source.wrong((*path, "command"), "is empty", "expected the line that bash runs")


def _check_expressions(
    source: Source, path: KeyPath, data: dict[str, Any], known: Mapping[str, Collection[str]], optionals: set[str]
) -> None:
    """That its expressions name what there is."""
    texts = [
        ("command", data.get("command") or ""),
        ("args", "\n".join(_args(source, (*path, "args"), data.get("args")))),
    ]
    for key, text in texts:
        for wrong in expressions.check_command(text, known, optionals):
            source.wrong((*path, key), wrong.message, *wrong.hints)


def overridden(source: Source, path: KeyPath, data: dict[str, Any], inner: Command) -> Command:
    """A component's command with what the step that uses it sets."""
    made = inner
    if data.get("environment") is not None:
        made = replace(made, environment=environment(source, (*path, "environment"), data["environment"]))
    if data.get("environment_variables") is not None:
        own = source.texts((*path, "environment_variables"), data["environment_variables"])
        made = replace(made, variables={**made.variables, **own})
    if data.get("code") is not None:
        made = replace(made, code=code(source, path, data))
    if data.get("distribution") is not None:
        source.cannot("distribution", (*path, "distribution"))
    if data.get("retry") is not None:
        made = replace(made, retry=retry(source, (*path, "retry"), data["retry"]))
    if data.get("is_deterministic") is not None:
        made = replace(made, deterministic=source.flag(data["is_deterministic"]) is not False)
    own_limits = limits(source, (*path, "resources"), data.get("resources"), data.get("limits"), (*path, "limits"))
    for key in ("command", "script", "args", "additional_includes"):
        if data.get(key) is not None:
            source.wrong(
                (*path, key), f"{key} is the component's", "leave it out, or write the step without `component:`"
            )
    return replace(made, limits=_merged(inner, own_limits), native=_over(made.native, _native(data)))


def _merged(inner: Command, own: Any) -> Any:
    """The step's limits over the component's."""
    changed = {
        name: value
        for name in ("cpus", "memory_bytes", "shm_bytes", "timeout_s")
        if (value := getattr(own, name)) is not None
    }
    ulimits = {**inner.limits.ulimits, **own.ulimits}
    return replace(inner.limits, **changed, ulimits=ulimits, host_ipc=inner.limits.host_ipc or own.host_ipc)


def typed(inner: Command, kinds: Mapping[str, DataType]) -> Command:
    """The same with the types of those inputs that were references."""
    changed = {name: replace(one, type=kinds[name]) if name in kinds else one for name, one in inner.inputs.items()}
    return replace(inner, inputs=changed)
