"""Whether what a step is given fits what it declares, and leads to something that is there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runner.job import Command, Data, DataType, Foreign, Reference, Sweep
from runner.spec.job import expressions, values
from runner.spec.job.commands import typed
from runner.spec.job.shapes import meant
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.job import Component, Input, Value, Where
    from runner.spec.job.nodes import Draft
    from runner.spec.job.source import Source
    from runner.spec.yamldoc import KeyPath


def check_given(
    source: Source,
    path: KeyPath,
    given: Mapping[str, Value],
    declared: Mapping[str, Input],
    *,
    space: Iterable[str] = (),
    hint: str = "",
) -> dict[str, Value]:
    """Values for inputs that a component declares: none too many, none missing, each of its type.

    Args:
        hint: what to do about a missing one, `{}` standing for its name.

    Returns:
        The same, with paths as `Data` where a path was meant.
    """
    found: dict[str, Value] = {}
    for name, value in given.items():
        at = (*path, "inputs", name)
        if name not in declared:
            _unknown(source, at, name, [each for each in declared if each not in given])
            continue
        found[name] = _fitting(source, at, value, declared[name])
    for name, one in declared.items():
        if name not in given and not one.optional and one.default is None and name not in space:
            line = hint.format(name) if hint else f"its component declares it: {one.where}"
            source.wrong(path, f"the input {name!r} is missing", line)
    return found


def check_needed(source: Source, path: KeyPath, component: Component, given: Iterable[str]) -> None:
    """Refuse a command that names, outside of `$[[ … ]]`, an optional input that is not given; and arguments that name one,
    which know no `$[[ … ]]`."""
    inner = component.trial if isinstance(component, Sweep) else component
    if not isinstance(inner, Command):
        return
    names = {name for name, one in inner.inputs.items() if one.optional and one.default is None} - {*given}
    if not names:
        return
    for name in sorted(expressions.needed(inner.command or "") & names):
        source.wrong(
            path, f"the optional input {name!r} is not given, and the command names it outside of $[[…]]",
            f"give it, or write $[[… ${{{{inputs.{name}}}}} …]] in the command",
        )  # fmt: skip
    for name in sorted(expressions.named("\n".join(inner.args)) & names):
        source.wrong(
            path, f"the optional input {name!r} is not given, and the arguments name it",
            "give it, or give it a default; $[[…]] is for `command:` only",
        )  # fmt: skip


def _unknown(source: Source, at: KeyPath, name: str, open_names: list[str]) -> None:
    """Azure ML takes inputs that the component does not declare, and drops them. A slip is told from that by its like."""
    if (near := nearest(name, open_names)) is not None:
        source.wrong(at, f"its component has no input {name!r}", f"did you mean {near}?")
    else:
        source.ignored(at, f"its component has no input {name!r}")


def _fitting(source: Source, at: KeyPath, value: Value, wanted: Input) -> Value:
    match value:
        case Reference():
            return value
        case Data():
            if wanted.type.literal:
                source.wrong(at, f"a {value.type or DataType.URI_FOLDER} is given to an input of type {wanted.type}")
            return value if value.type is not None else replace(value, type=wanted.type)
        case str() if "${{" in value:
            return value
        case str() if not wanted.type.literal:
            return values.data(source, at, value, {"type": wanted.type.value})
        case _:
            for fault in values.faults(str(value), wanted):
                source.wrong(at, fault)
            return value


class Binder:
    """Follows the references of the steps of one pipeline."""

    def __init__(
        self, source: Source, inputs: Mapping[str, Input], drafts: Mapping[str, Draft], known: Iterable[str]
    ) -> None:
        self._source = source
        self._inputs = inputs
        self._drafts = drafts
        self._known = frozenset(known)
        """All names of steps, those too that were wrong in themselves."""
        self.edges: dict[str, list[tuple[str, Where]]] = {}

    def bind(self, draft: Draft) -> None:
        """Check the references of one step, give its loose inputs their types, and note what it waits for."""
        self.edges[draft.name] = []
        kinds: dict[str, DataType] = {}
        if not draft.open and not draft.loose:
            draft.inputs = check_given(
                self._source, draft.path, draft.inputs, draft.component.inputs, space=draft.space
            )
        for name, value in draft.inputs.items():
            at = (*draft.path, "inputs", name)
            if isinstance(value, Reference):
                kind = self._follow(draft, at, value, draft.component.inputs.get(name))
                if (kind or value.type) is not None:
                    kinds[name] = value.type or kind or DataType.STRING
            elif isinstance(value, str) and "${{" in value:
                self._text(draft, at, value, draft.component.inputs.get(name))
        if draft.loose:
            _give_types(draft, kinds)
        check_needed(self._source, draft.path, draft.component, {*draft.inputs, *draft.space})

    def _follow(self, draft: Draft, at: KeyPath, value: Reference, wanted: Input | None) -> DataType | None:
        """The type of what is referred to; None where it is not known."""
        if value.job is not None:
            return self._output(draft, at, value, wanted)
        if value.name not in self._inputs:
            self._source.wrong(at, f"the pipeline has no input {value.name!r}", *meant(value.name, self._inputs))
            return None
        given = self._inputs[value.name]
        if draft.loose or wanted is None:
            return given.type
        if given.type.literal != wanted.type.literal:
            self._mismatch(at, f"the input {value.name!r} of the pipeline", given.type, wanted)
        elif given.optional and given.default is None and not wanted.optional and wanted.default is None:
            self._source.wrong(
                at, f"{value} is optional, but the step needs it",
                "give it a default, or make the input of the component optional",
            )  # fmt: skip
        elif isinstance(given.default, str):
            for fault in values.faults(given.default, wanted):
                self._source.wrong(at, f"{value}: {fault}", f"given at {given.where}")
        return given.type

    def _output(self, draft: Draft, at: KeyPath, value: Reference, wanted: Input | None) -> DataType | None:
        job = value.job or ""
        if job not in self._known:
            self._source.wrong(at, f"there is no step {job!r}", *meant(job, self._known))
            return None
        self.edges[draft.name].append((job, self._source.where(at)))
        upstream = self._drafts.get(job)
        if upstream is None or upstream.open:
            return None
        made = upstream.outputs.get(value.name) or upstream.component.outputs.get(value.name)
        if made is None:
            names = {**upstream.component.outputs, **upstream.outputs}
            hints = meant(value.name, names) or (f"{job} has no outputs",)
            self._source.wrong(at, f"the step {job!r} has no output {value.name!r}", *hints)
            return None
        if wanted is not None and not draft.loose and not made.type.literal and wanted.type.literal:
            self._mismatch(at, f"the output {value.name!r} of {job}", made.type, wanted)
        return made.type

    def _mismatch(self, at: KeyPath, what: str, kind: DataType, wanted: Input) -> None:
        self._source.wrong(
            at, f"{what} is a {kind}, but the step takes a {wanted.type}", f"its component declares it: {wanted.where}"
        )

    def _text(self, draft: Draft, at: KeyPath, text: str, wanted: Input | None) -> None:
        """A text with expressions in it: literal inputs of the pipeline are put in."""
        for unclosed in expressions.unclosed(text):
            self._source.wrong(at, unclosed.message, *unclosed.hints)
        if wanted is not None and not wanted.type.literal and not draft.loose and expressions.alone(text) is None:
            self._source.wrong(at, f"a {wanted.type} is expected, found {text!r}", "bind it as ${{parent.…}} alone")
        for body in expressions.find(text):
            if wrong := expressions.check_binding(body):
                self._source.wrong(at, wrong.message, *wrong.hints)
            elif name := expressions.parent_input(body):
                given = self._inputs.get(name)
                if given is None:
                    self._source.wrong(at, f"the pipeline has no input {name!r}", *meant(name, self._inputs))
                elif not given.type.literal and not draft.open:
                    self._source.wrong(at, f"the {given.type} {name!r} stands among other text", "bind it alone")
            elif (job := expressions.parent_job(body)) and not draft.open:
                self._source.wrong(at, f"the output of {job[0]} stands among other text", "bind it alone")


def _give_types(draft: Draft, kinds: Mapping[str, DataType]) -> None:
    match draft.component:
        case Command() as inner:
            draft.component = typed(inner, kinds)
        case Sweep() as inner:
            draft.component = replace(inner, trial=typed(inner.trial, kinds))
        case Foreign() as inner:
            changed = {name: replace(one, type=kinds.get(name, one.type)) for name, one in inner.inputs.items()}
            draft.component = replace(inner, inputs=changed)
        case _:
            pass


def check_cycles(source: Source, edges: Mapping[str, list[tuple[str, Where]]]) -> None:
    """Note a circle of steps, if there is one, with the line of each reference. A loop, since chains may be long."""
    done: set[str] = set()
    for start in edges:
        if start in done:
            continue
        trail: dict[str, Where] = {}
        stack = [(start, iter(edges[start]))]
        trail[start] = source.where(())
        while stack:
            name, upstream = stack[-1]
            following = next(upstream, None)
            if following is None:
                stack.pop()
                trail.pop(name)
                done.add(name)
                continue
            after, where = following
            trail[name] = where
            if after in trail:
                _tell_cycle(source, list(trail), after, trail)
                return
            if after not in done and after in edges:
                stack.append((after, iter(edges[after])))
                trail[after] = where


def _tell_cycle(source: Source, trail: list[str], after: str, places: Mapping[str, Where]) -> None:
    names = trail[trail.index(after) :]
    shown = " -> ".join([*names, after])
    hints = [f"{name} needs {need}: {places[name]}" for name, need in zip(names, [*names[1:], after], strict=True)]
    source.findings.wrong(places[names[0]], f"steps need each other in a circle: {shown}", *hints)
