"""Pipelines in Python: steps are made in a `with Pipeline(…)` block, and what one leaves is given to the next.

    with Pipeline("churn") as p:
        prep = step("prep.py", inputs={"raw": Data("raw.csv")}, outputs=["clean"])
        fit = step("fit.R", args=["--rounds", 50], inputs={"clean": prep.outputs["clean"]}, outputs=["model"])
    run = p.submit()

It is the job of a pipeline's YAML in another notation: `to_job` gives the one, `to_yaml` the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from runner.errors import UsageError
from runner.job import (
    Command,
    Data,
    DataType,
    Environment,
    Graph,
    Input,
    Job,
    Node,
    Output,
    Reference,
    Scalar,
    Settings,
    Value,
)
from runner.spec import pysteps
from runner.spec.jobwriter import docker_args, settings_written, write
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.run import Run

_open: ContextVar[Pipeline | None] = ContextVar("_open", default=None)


@dataclass(frozen=True, slots=True, eq=False)
class StepOutput:
    """What a step will leave under a name, to be given to the inputs of others."""

    step: Step
    name: str
    type: DataType


class Outputs(Mapping[str, StepOutput]):
    """A step's outputs by name."""

    def __init__(self, step: Step, types: Mapping[str, DataType]) -> None:
        self._step = step
        self._made = {name: StepOutput(step, name, kind) for name, kind in types.items()}

    def __getitem__(self, name: str) -> StepOutput:
        if name not in self._made:
            near = nearest(name, self._made)
            hints = [f"did you mean {near}?"] if near else []
            have = ", ".join(self._made) or "none"
            raise UsageError(f"step {self._step.name} has no output {name!r}", *hints, f"it has: {have}")
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class Step:
    """A step of a pipeline, as `step` makes it. name: unique in the pipeline."""

    def __init__(self, pipeline: Pipeline, name: str, types: Mapping[str, DataType]) -> None:
        self.pipeline = pipeline
        self.name = name
        self.outputs = Outputs(self, types)

    def __repr__(self) -> str:
        return f"<step {self.name} of {self.pipeline.name}>"


@dataclass(eq=False)
class Pipeline:
    """Steps, each run as soon as its inputs are there.

    Args:
        name: what people call it. experiment, description, tags: of the run.
        compute: of steps that name none. continue_on_step_failure: whether steps go on that do not need the failed one.

    `outputs[NAME] = step.outputs[NAME]` makes what a step leaves an output of the pipeline.
    """

    name: str
    experiment: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    compute: str | None = None
    continue_on_step_failure: bool | None = None

    def __post_init__(self) -> None:
        self.outputs: dict[str, StepOutput] = {}
        self._nodes: dict[str, Node] = {}

    def __enter__(self) -> Self:
        if (other := _open.get()) is not None:
            raise UsageError(f"pipeline {other.name} is still open", "make one pipeline after the other")
        _open.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _open.set(None)

    def to_job(self) -> Job:
        """The job that it is.

        Raises:
            UsageError: it has no step, or an output that no step of it has.
        """
        if not self._nodes:
            raise UsageError(
                f"pipeline {self.name} has no step", 'in `with Pipeline("name") as p:` write: step("train.py")'
            )
        nodes = dict(self._nodes)
        for name, output in self.outputs.items():
            self._check_output(name, output)
            nodes[output.step.name] = _bound(nodes[output.step.name], output.name, name)
        declared = {name: Output(output.type) for name, output in self.outputs.items()}
        settings = Settings(default_compute=self.compute, continue_on_step_failure=self.continue_on_step_failure)
        return Job(
            Graph(outputs=declared, nodes=nodes, settings=settings),
            outputs=declared,
            display_name=self.name,
            experiment=self.experiment,
            description=self.description,
            tags=dict(self.tags),
            native={"settings": written} if (written := settings_written(settings)) else {},
        )

    def to_yaml(self, folder: str | Path = ".") -> str:
        """The job as YAML, which `runner submit` takes. folder: where the file will be; paths below it are relative.

        Raises:
            UsageError: it has no step.
        """
        return write(self.to_job(), Path(folder).resolve())

    def submit(
        self,
        *,
        backend: str | None = None,
        compute: str | None = None,
        name: str | None = None,
        home: Path | None = None,
        say: Callable[[str, str], None] | None = None,
    ) -> Run:
        """Submit it and return as soon as the run is accepted. The options are those of `runner.submit`.

        Raises:
            RunnerError: nothing was started.
        """
        from runner.api import submit_job

        return submit_job(self.to_job(), backend=backend, compute=compute, name=name, home=home, say=say)

    def _check_output(self, name: str, output: StepOutput) -> None:
        where = f"pipeline {self.name}"
        pysteps.check_name(name, "output", where)
        if type(output) is not StepOutput or output.step.pipeline is not self:
            raise UsageError(f"{where}: output {name}: expected STEP.outputs[NAME] of one of its steps")
        if same := [other for other in self.outputs if other != name and self.outputs[other] is output]:
            raise UsageError(f"{where}: outputs {name} and {same[0]} are the same: {output.name} of {output.step.name}")

    def _add(self, name: str, node: Node) -> Step:
        self._nodes[name] = node
        return Step(self, name, {each: output.type for each, output in node.component.outputs.items()})

    def _free_name(self, wanted: str | None, script: str | None) -> str:
        """The name wanted, made fit; else one from the script's, numbered where that is taken."""
        fitting = pysteps.fit_name(wanted or Path(script or "step").stem)
        if wanted is not None and fitting in self._nodes:
            raise UsageError(f"step {fitting}: there is one of that name already", "give each step a name of its own")
        name, number = fitting, 1
        while name in self._nodes:
            number += 1
            name = f"{fitting}_{number}"
        return name


def _bound(node: Node, output: str, name: str) -> Node:
    """The node with one of its outputs as the pipeline's output `name`. Of a step written in place, both are one."""
    component = cast("Command", node.component)  # `step` makes no other
    outputs = {**component.outputs, output: replace(component.outputs[output], parent=name)}
    return replace(node, component=replace(component, outputs=outputs), outputs=outputs)


def step(
    script: str | Path | None = None,
    *,
    args: Sequence[Scalar] = (),
    command: str | None = None,
    code: str | Path | None = None,
    name: str | None = None,
    inputs: Mapping[str, Scalar | Data | StepOutput] | None = None,
    outputs: Sequence[str] | Mapping[str, str] = (),
    env: Mapping[str, Scalar] | None = None,
    libs: str | Path | None = None,
    image: str | None = None,
    environment: str | Environment | None = None,
    cpus: float | None = None,
    memory: str | None = None,
    shm_size: str | None = None,
    timeout: str | float | None = None,
    retries: int = 0,
    retry_on: Sequence[str] = (),
    compute: str | None = None,
    deterministic: bool = True,
) -> Step:
    """Add a step to the pipeline that is open.

    Args:
        script: run with `args`, which arrive byte for byte; `${{inputs.NAME}}` in them becomes the value or path.
        command: instead of a script, a line for bash.
        code: the folder that is taken along; default: the script's. With it, the script's path counts from there.
            Or `git+https://HOST/PATH@REF#FOLDER`.
        name: made of small letters, digits and _; default: the script's, numbered.
        inputs: values, `Data(PATH or address)`, and outputs of other steps. They also are variables, `RUNNER_INPUT_<NAME>`.
        outputs: names of folders that the step leaves; or name → type (`uri_file`, `uri_folder`, `mltable`, …).
        libs, image, environment: what it runs in, one of them: a libs file, an image, a name that runner.yaml maps.
        memory, shm_size: as `2g`. timeout: as `10m`, or seconds; rounded up to whole ones.
        retries: further attempts; retry_on: further reasons for one, such as OutOfMemory.
        deterministic: whether its results may be reused where nothing has changed.

    Raises:
        UsageError: no pipeline is open, or anything that is wrong, with the step's name.
    """
    pipeline = _open.get()
    if pipeline is None:
        raise UsageError("step: no pipeline is open", 'call it in a block: with Pipeline("name") as p:')
    own = pipeline._free_name(name, None if script is None else str(script))  # noqa: SLF001 - one thing in two halves
    made = pysteps.Wish(f"step {own}")
    given = {each: _given(pipeline, own, each, value) for each, value in (inputs or {}).items()}
    what = made.command(script, args, command, code)
    limits = made.limits(cpus=cpus, memory=memory, shm_size=shm_size, timeout=timeout)
    docker = docker_args(limits)
    component = Command(
        inputs={each: Input(kind) for each, (_, kind) in given.items()},
        outputs=made.outputs(outputs),
        environment=made.environment(libs, image, environment),
        variables=made.variables(env or {}),
        limits=limits,
        retry=made.retry(retries, retry_on),
        deterministic=deterministic,
        native={"resources": {"docker_args": docker}} if docker else {},  # as it is read from a file
        **what,
    )
    made.check_expressions(component)
    bindings = {each: value for each, (value, _) in given.items()}
    node = Node(component, inputs=bindings, outputs=component.outputs, compute=compute)
    return pipeline._add(own, node)  # noqa: SLF001


def _given(pipeline: Pipeline, step_name: str, name: str, value: Any) -> tuple[Value, DataType]:
    """An input's value as the job has it, and its type."""
    where = f"step {step_name}: input {name}"
    pysteps.check_name(name, "input", f"step {step_name}")
    match value:
        case StepOutput():
            if value.step.pipeline is not pipeline:
                raise UsageError(
                    f"{where}: {value.step.name} is a step of pipeline {value.step.pipeline.name}, not of this one"
                )
            return Reference(value.name, value.step.name), value.type
        case Data():
            found = pysteps.data(value, where)
            return found, found.type or DataType.URI_FOLDER
        case Path():
            raise UsageError(f"{where}: is a path", f"write Data({str(value)!r})")
        case Step() | Outputs():
            raise UsageError(f"{where}: is not an output", 'write STEP.outputs["NAME"]')
        case _:
            return pysteps.literal(value, where)
