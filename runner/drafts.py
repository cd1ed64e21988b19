"""From a job to drafts of its steps: pipelines flattened, values bound, in an order in which each step comes after what it
needs. Pure: images, code and data are still by name, and nothing here asks whether they exist.

A job is taken to be checked (`runner.spec.job`, `runner.pipeline`); what is still found wrong is a SpecError all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from runner.errors import SpecError
from runner.job import Command, Data, Foreign, Graph, Job, Mode, Node, Output, Reference, Settings, Sweep
from runner.plan import SweepPlan, Upstream
from runner.spec.job import expressions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.job import Input, Scalar, Value, Where

DEFAULT_DATASTORE = "workspaceblobstore"
"""What Azure ML calls a workspace's default datastore."""


@dataclass(frozen=True, slots=True)
class Given:
    """A file or folder that a step reads. mode: the binding's, else the declaration's."""

    data: Data
    mode: Mode


@dataclass(frozen=True, slots=True)
class Draft:
    """A step whose image, code and data are still by name.

    argv: with `${{…}}` of its own inputs, outputs and search space left in. parameters: literal inputs as text.
    publish: output → destination as written, `${{name}}` left in. outputs: all of them, with what the step that uses the
    component sets. foreign: the step is of a kind that only Azure ML runs; the command is then empty.
    """

    name: str
    command: Command
    argv: tuple[str, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Given] = field(default_factory=dict)
    upstream: Mapping[str, Upstream] = field(default_factory=dict)
    publish: Mapping[str, str] = field(default_factory=dict)
    compute: str | None = None
    sweep: SweepPlan | None = None
    display_name: str | None = None
    outputs: Mapping[str, Output] = field(default_factory=dict)
    foreign: Foreign | None = None

    @property
    def needs(self) -> frozenset[str]:
        """The steps that must have completed before it."""
        return frozenset(each.step for each in self.upstream.values())


@dataclass(frozen=True, slots=True)
class Drafts:
    """All steps of a job. single: the job is one command, not a pipeline of one."""

    steps: tuple[Draft, ...]
    outputs: Mapping[str, Upstream]
    settings: Settings
    single: bool


_Bound = str | Given | Upstream
"""What an input has become: text, something that is there already, or the output of another step."""


def drafts(job: Job, *, foreign: bool = False) -> Drafts:
    """The steps of a job.

    Args:
        foreign: kinds that only Azure ML runs become drafts too, instead of an error.

    Raises:
        SpecError: a reference that names nothing, a required input without a value, a cycle.
    """
    match job.component:
        case Command() | Sweep():
            return _one(job, job.component)
        case Graph():
            graph = job.component
        case Foreign():
            if not foreign:
                raise job.component.where.error(f"a {job.component.kind} job is sent on to Azure ML as it is")
            return _foreign_job(job, job.component)
    flat = _Flattener(graph.settings, job.compute, foreign=foreign)
    flat.graph(graph, _scope(graph.inputs, job.inputs, {}, graph.where), "", job.outputs)
    ends = dict(_ends(graph, ""))
    return Drafts(tuple(_ordered(flat.steps)), ends, graph.settings, single=False)


def _one(job: Job, component: Command | Sweep) -> Drafts:
    flat = _Flattener(Settings(), job.compute)
    name = "sweep" if isinstance(component, Sweep) else "job"
    scope = _scope(_asked(component), job.inputs, {}, component.where)
    flat.step(name, Node(component, compute=job.compute, display_name=job.display_name), component, scope, job.outputs)
    outputs = {each: Upstream(name, each) for each in {**component.outputs, **job.outputs}}
    return Drafts(tuple(flat.steps), outputs, Settings(), single=isinstance(component, Command))


def _foreign_job(job: Job, component: Foreign) -> Drafts:
    draft = Draft(
        "job", Command(where=component.where), (), compute=job.compute, display_name=job.display_name, foreign=component
    )
    return Drafts((draft,), {}, Settings(), single=True)


class _Flattener:
    """Collects the steps of a pipeline and of those nested in it."""

    def __init__(self, settings: Settings, compute: str | None, *, foreign: bool = False) -> None:
        self.steps: list[Draft] = []
        self._foreign = foreign
        self._compute = settings.default_compute or compute
        self._datastore = settings.default_datastore or DEFAULT_DATASTORE

    def graph(self, graph: Graph, scope: Mapping[str, _Bound], prefix: str, outputs: Mapping[str, Output]) -> None:
        """outputs: settings of the graph's outputs from outside."""
        given = {name: _settled(graph.outputs.get(name), outputs.get(name)) for name in {**graph.outputs, **outputs}}
        for name, node in graph.nodes.items():
            component = node.component
            if isinstance(component, Foreign) and not self._foreign:
                raise node.where.error(f"a {component.kind} step is sent on to Azure ML as it is")
            bound = {each: self._bind(value, scope, graph, prefix, node) for each, value in node.inputs.items()}
            settings = {each: _setting(output, given) for each, output in node.outputs.items()}
            if isinstance(component, Foreign):
                passed = {key: value for key, value in bound.items() if value is not None}
                self._add(f"{prefix}{name}", node, Command(where=node.where), passed, settings, foreign=component)
                continue
            inner = _scope(_asked(component), {}, {k: v for k, v in bound.items() if v is not None}, node.where)
            if isinstance(component, Graph):
                self.graph(component, inner, f"{prefix}{name}.", settings)
            else:
                self.step(f"{prefix}{name}", node, _with_variables(component, scope, node.where), inner, settings)

    def _bind(self, value: Value, scope: Mapping[str, _Bound], graph: Graph, prefix: str, node: Node) -> _Bound | None:
        if isinstance(value, Reference):
            if value.job is None:
                if value.name not in scope and value.name not in graph.inputs:
                    raise value.where.error(f"{value} names no input of the pipeline")
                return _with_mode(scope.get(value.name), value.mode)
            return _with_mode(_source(graph, prefix, value), value.mode)
        if isinstance(value, str):
            return _with_parents(value, scope, node.where)
        return _bound(value)

    def step(
        self,
        name: str,
        node: Node,
        component: Command | Sweep,
        scope: Mapping[str, _Bound],
        outputs: Mapping[str, Output],
    ) -> None:
        """Add one step whose inputs are in `scope`."""
        command = component.trial if isinstance(component, Sweep) else component
        self._add(name, node, command, scope, outputs, sweep=component if isinstance(component, Sweep) else None)

    def _add(
        self,
        name: str,
        node: Node,
        command: Command,
        scope: Mapping[str, _Bound],
        outputs: Mapping[str, Output],
        *,
        sweep: Sweep | None = None,
        foreign: Foreign | None = None,
    ) -> None:
        searched = sweep.search_space if sweep else {}
        declared = {**command.outputs, **outputs}
        publish = {
            each: self._place(each, found)
            for each in declared
            if (found := (outputs[each].path if each in outputs else None) or _path(command.outputs, each))
        }
        self.steps.append(
            Draft(
                name,
                command,
                _argv(command, {*scope, *searched}) if foreign is None else (),
                parameters={key: each for key, each in scope.items() if isinstance(each, str)},
                data={key: each for key, each in scope.items() if isinstance(each, Given)},
                upstream={key: each for key, each in scope.items() if isinstance(each, Upstream)},
                publish=publish,
                compute=node.compute or self._compute,
                sweep=_sweep(sweep) if sweep is not None else None,
                display_name=node.display_name,
                outputs={each: _settled(command.outputs.get(each), outputs.get(each)) for each in declared},
                foreign=foreign,
            )
        )

    def _place(self, output: str, path: str) -> str:
        run = "${{name}}"  # known when it runs
        known = {
            "output_name": output,
            "output": output,
            "default_datastore": self._datastore,
            "name": run,
            "run_id": run,
        }
        return expressions.replaced(path, known.get)


def _sweep(sweep: Sweep) -> SweepPlan:
    return SweepPlan(sweep.search_space, sweep.objective, sweep.sampling, sweep.limits, sweep.early_termination)


def _argv(command: Command, given: set[str]) -> tuple[str, ...]:
    """What is run: the script with its arguments, or bash with the command as it was written."""
    if command.script is not None:
        return (command.script, *command.args)
    text = expressions.optional(command.command or "", given)
    return ("bash", "-c", text)


def _path(outputs: Mapping[str, Output], name: str) -> str | None:
    return outputs[name].path if name in outputs else None


def _settled(declared: Output | None, setting: Output | None) -> Output:
    """An output as the component declares it, with what the step that uses it sets."""
    if declared is None or setting is None:
        return setting or declared or Output()
    path, mode, asset = setting.path or declared.path, setting.mode or declared.mode, setting.asset or declared.asset
    return replace(declared, path=path, mode=mode, asset=asset)


def _setting(output: Output, given: Mapping[str, Output]) -> Output:
    """A node's output setting, with the path of the pipeline's output that it is."""
    outer = given.get(output.parent) if output.parent is not None else None
    if output.path is None and outer is not None:
        mode, asset = output.mode or outer.mode, output.asset or outer.asset
        return Output(output.type, mode, outer.path, output.parent, asset)
    return output


# -- values ---------------------------------------------------------------------------------------------------------


def _asked(component: Command | Sweep | Graph) -> Mapping[str, Input]:
    """The inputs that are given from outside: of a sweep, those that its search space does not give."""
    searched = component.search_space if isinstance(component, Sweep) else {}
    return {name: one for name, one in component.inputs.items() if name not in searched}


def _scope(
    declared: Mapping[str, Input], values: Mapping[str, Value], bound: Mapping[str, _Bound], where: Where
) -> dict[str, _Bound]:
    """Every input of a component: what it is given, else its default; an optional one without either is absent.

    Raises:
        SpecError: a required one without a value; one that is not declared.
    """
    scope: dict[str, _Bound] = {}
    for name, wanted in declared.items():
        given: _Bound | None = bound.get(name)
        if given is None and name in values:
            given = _bound(values[name])
        if given is None and wanted.default is not None:
            given = _bound(wanted.default)
        if given is not None:
            scope[name] = _as_declared(given, wanted)
        elif not wanted.optional:
            raise where.error(f"the input {name} has no value", f"--set inputs.{name}=VALUE")
    for name, value in values.items():
        if name not in declared:
            scope[name] = _bound(value)
    scope |= {name: value for name, value in bound.items() if name not in declared}
    return scope


def _as_declared(given: _Bound, wanted: Input) -> _Bound:
    if isinstance(given, str) and not wanted.type.literal:
        return Given(Data(given, wanted.type, None, wanted.where), wanted.mode or Mode.RO_MOUNT)
    if isinstance(given, Given) and given.data.mode is None and wanted.mode is not None:
        return Given(given.data, wanted.mode)
    return given


def _bound(value: Value) -> _Bound:
    if isinstance(value, Data):
        return Given(value, value.mode or Mode.RO_MOUNT)
    if isinstance(value, Reference):
        raise value.where.error(f"{value} has no pipeline around it")
    return text(value)


def _with_mode(given: _Bound | None, mode: Mode | None) -> _Bound | None:
    if mode is None or given is None or isinstance(given, str):
        return given
    return Given(given.data, mode) if isinstance(given, Given) else replace(given, mode=str(mode))


def text(value: Scalar) -> str:
    """A literal as a command gets it: booleans as Azure's SDK sends them."""
    return str(value)


def _with_variables(component: Command | Sweep, scope: Mapping[str, _Bound], where: Where) -> Command | Sweep:
    """The same with the pipeline's inputs in its environment variables, where Azure ML takes them too."""
    command = component.trial if isinstance(component, Sweep) else component
    if not any("${{" in text for text in command.variables.values()):
        return component
    own = {name: _with_parents(text, scope, where) for name, text in command.variables.items()}
    made = replace(command, variables=own)
    return replace(component, trial=made) if isinstance(component, Sweep) else made


def _with_parents(text: str, scope: Mapping[str, _Bound], where: Where) -> str:
    """The text with the literal inputs of the pipeline that it names."""

    def value(expression: str) -> str | None:
        name = expressions.parent_input(expression)
        return None if name is None else _text_in(scope, name, where)

    return expressions.replaced(text, value)


def _text_in(scope: Mapping[str, _Bound], name: str, where: Where) -> str:
    given = scope.get(name)
    if not isinstance(given, str):
        what = "is a file or folder, and cannot stand within a text" if given is not None else "has no value"
        raise where.error(f"${{{{parent.inputs.{name}}}}} {what}")
    return given


def _source(graph: Graph, prefix: str, reference: Reference) -> Upstream:
    """The step and output that a reference to a sibling means, through nested pipelines."""
    assert reference.job is not None  # noqa: S101 - the caller looked
    node = graph.nodes.get(reference.job)
    if node is None:
        raise reference.where.error(f"{reference} names no step of the pipeline")
    if not isinstance(node.component, Graph):
        return Upstream(f"{prefix}{reference.job}", reference.name)
    found = dict(_ends(node.component, f"{prefix}{reference.job}."))
    if reference.name not in found:
        raise reference.where.error(f"{reference} names no output of the step {reference.job}")
    return found[reference.name]


def _ends(graph: Graph, prefix: str) -> Iterator[tuple[str, Upstream]]:
    """(output of the pipeline, whose output it is)."""
    for name, node in graph.nodes.items():
        for each, output in node.outputs.items():
            if output.parent is None:
                continue
            yield output.parent, _source(graph, prefix, Reference(each, name, where=output.where))


# -- order ----------------------------------------------------------------------------------------------------------


def _ordered(steps: Sequence[Draft]) -> Iterator[Draft]:
    """Each step after all that it needs, otherwise as written. Linear in steps and edges, but for a heap of those ready.

    Raises:
        SpecError: a cycle, or a step that is not there.
    """
    place = {step.name: number for number, step in enumerate(steps)}
    waiting = [0] * len(steps)
    users: list[list[int]] = [[] for _ in steps]
    for number, step in enumerate(steps):
        for need in step.needs:
            if need not in place:
                raise step.command.where.error(f"the step {step.name} needs the step {need}, which is not there")
            users[place[need]].append(number)
            waiting[number] += 1
    ready = [number for number, count in enumerate(waiting) if count == 0]
    heapify(ready)
    done = 0
    while ready:
        number = heappop(ready)
        done += 1
        yield steps[number]
        for user in users[number]:
            waiting[user] -= 1
            if waiting[user] == 0:
                heappush(ready, user)
    if done < len(steps):
        stuck = ", ".join(step.name for step, count in zip(steps, waiting, strict=True) if count)
        raise SpecError(f"these steps wait for each other in a circle: {stuck}")
