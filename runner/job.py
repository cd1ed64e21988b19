"""What the user submits, as frozen dataclasses: a component (a command, a pipeline of them, a sweep) and values for it.

The nouns and their members are those of Azure ML's job YAML (CLI v2), whatever way they came: a file
(`runner.spec.job`), Python (`runner.pipeline`) or a registered pipeline. Standard library only, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.model import Limits, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Scalar = str | int | float | bool


class DataType(StrEnum):
    """Types of inputs and outputs."""

    STRING = "string"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    URI_FILE = "uri_file"
    URI_FOLDER = "uri_folder"
    MLTABLE = "mltable"
    MLFLOW_MODEL = "mlflow_model"
    CUSTOM_MODEL = "custom_model"
    TRITON_MODEL = "triton_model"

    @property
    def literal(self) -> bool:
        """A value that is put into the command; all others are files or folders."""
        return self in {DataType.STRING, DataType.NUMBER, DataType.INTEGER, DataType.BOOLEAN}


class Mode(StrEnum):
    """How a step gets an input or leaves an output."""

    RO_MOUNT = "ro_mount"
    RW_MOUNT = "rw_mount"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    DIRECT = "direct"
    EVAL_MOUNT = "eval_mount"
    EVAL_DOWNLOAD = "eval_download"


@dataclass(frozen=True, slots=True, eq=False)
class Where:
    """Where something was written, so that an error can say so. All None: in Python code. A place never makes two things
    different: all are equal."""

    file: str | None = None
    line: int | None = None
    key: str | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Where)

    def __hash__(self) -> int:
        return 0

    def error(self, message: str, *hints: str) -> SpecError:
        """A SpecError about this place."""
        return SpecError(message, *hints, file=self.file, line=self.line, key=self.key)

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return "  ".join(part for part in (place, self.key) if part)


NOWHERE = Where()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a job asks for and that cannot be done on a local backend.

    feature: a key of the parity table (`runner.spec.job.parity`). reason: one clause. way_out: what the user can do.
    """

    feature: str
    reason: str
    way_out: str
    where: Where = NOWHERE


# -- values ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Data:
    """A file or folder given to an input.

    uri: an absolute path of this machine (relative ones were resolved against their file), `file:`, `https:`, `wasbs:`,
    `abfss:`, `s3:`, `gs:` …, `azureml:NAME:VERSION`, `azureml:NAME@LABEL`, `azureml://datastores/…`.
    datastore: where a backend elsewhere uploads what is of this machine; None: where it likes.
    """

    uri: str
    type: DataType | None = None
    mode: Mode | None = None
    where: Where = NOWHERE
    datastore: str | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """`${{parent.inputs.NAME}}` (job is None) or `${{parent.jobs.JOB.outputs.NAME}}`, alone in a value."""

    name: str
    job: str | None = None
    type: DataType | None = None
    mode: Mode | None = None
    where: Where = NOWHERE

    def __str__(self) -> str:
        return (
            f"${{{{parent.jobs.{self.job}.outputs.{self.name}}}}}"
            if self.job
            else f"${{{{parent.inputs.{self.name}}}}}"
        )


Value = Scalar | Data | Reference
"""A string may hold `${{parent.inputs.NAME}}` of literal inputs among other text."""


@dataclass(frozen=True, slots=True)
class Input:
    """An input that a component declares. A bare value in a command job is declared by its type."""

    type: DataType
    default: Scalar | Data | None = None
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Scalar, ...] = ()
    mode: Mode | None = None
    description: str = ""
    where: Where = NOWHERE


@dataclass(frozen=True, slots=True)
class Output:
    """An output that a component declares, or a setting of one (a node's or job's `outputs:`).

    path: where it goes, as written (`azureml://datastores/NAME/paths/…`, a folder of this machine, `https:` …), with
    `${{name}}`, `${{output_name}}`, `${{default_datastore}}`; None: runner keeps it with the run.
    parent: in a node, the pipeline's output that it is (`${{parent.outputs.NAME}}`).
    asset: `name`, `version` under which it is registered as data.
    """

    type: DataType = DataType.URI_FOLDER
    mode: Mode | None = None
    path: str | None = None
    parent: str | None = None
    asset: tuple[str, str | None] | None = None
    description: str = ""
    where: Where = NOWHERE


# -- what a step runs in --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Environment:
    """What names the image. One of: `libs`; `image` (with `conda`, conda packages on top of it); `context`, a folder to
    build; `reference`, a name that Azure ML knows. paths are absolute.

    conda: the file, or its content where it stood inline. local: a name that runner.yaml maps to this machine's own
    programs and libraries (`local: true`), for the backend process; then nothing else is given.
    """

    image: str | None = None
    conda: Path | Mapping[str, Any] | None = None
    context: Path | None = None
    dockerfile: str | None = None
    libs: Path | None = None
    reference: str | None = None
    local: bool = False
    where: Where = NOWHERE


@dataclass(frozen=True, slots=True)
class Code:
    """The folder (or the one file) that is the step's working directory; or `git+https`/`git+ssh` with a ref and subfolder.

    includes: further files and folders (`additional_includes`), each laid into the top of it.
    """

    path: Path | None = None
    git: str | None = None
    includes: tuple[Path, ...] = ()
    where: Where = NOWHERE


@dataclass(frozen=True, slots=True)
class Command:
    """A command component: what `type: command` means, a file's or a node's own settings already merged into it.

    command: for bash, as written, `$[[…]]` and `${{…}}` in it. Or script and args, which arrive byte for byte.
    native: members that only Azure ML has a use for (distribution, identity, services, queue_settings, …), untouched.
    """

    inputs: Mapping[str, Input] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    command: str | None = None
    script: str | None = None
    args: tuple[str, ...] = ()
    code: Code | None = None
    environment: Environment | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    deterministic: bool = True
    name: str | None = None
    version: str | None = None
    native: Mapping[str, Any] = field(default_factory=dict, repr=False)  # docker_args may hold what is not to be shown
    where: Where = NOWHERE


@dataclass(frozen=True, slots=True)
class Settings:
    """`settings:` of a pipeline. None: not said. Of a nested pipeline component only `continue_on_step_failure` counts."""

    default_compute: str | None = None
    default_datastore: str | None = None
    continue_on_step_failure: bool | None = None
    force_rerun: bool | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One entry of a pipeline's `jobs:`. inputs: bindings; what is not bound has its default or is optional."""

    component: Component
    inputs: Mapping[str, Value] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    compute: str | None = None
    display_name: str | None = None
    where: Where = NOWHERE


@dataclass(frozen=True, slots=True)
class Graph:
    """A pipeline component: `type: pipeline`."""

    inputs: Mapping[str, Input] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    name: str | None = None
    version: str | None = None
    where: Where = NOWHERE


@dataclass(frozen=True, slots=True)
class Distribution:
    """One entry of a `search_space:`. kind: choice, uniform, quniform, loguniform, qloguniform, normal, qnormal, lognormal,
    qlognormal, randint.

    values: of choice. low, high: of the uniform ones; high: also of randint (`upper`). mu, sigma: of the normal ones.
    q: the step of those that begin with q.
    """

    kind: str
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    mu: float | None = None
    sigma: float | None = None
    q: float | None = None
    where: Where = NOWHERE


@dataclass(frozen=True, slots=True)
class Sampling:
    """`sampling_algorithm`. kind: grid, random, sobol, bayesian. seed: of random and sobol. logbase: of the log scales."""

    kind: str = "random"
    seed: int | None = None
    logbase: float | None = None


@dataclass(frozen=True, slots=True)
class EarlyTermination:
    """`early_termination`. kind: bandit (slack_…), median_stopping, truncation_selection (truncation_percentage)."""

    kind: str
    evaluation_interval: int = 1
    delay_evaluation: int = 0
    slack_factor: float | None = None
    slack_amount: float | None = None
    truncation_percentage: int | None = None
    exclude_finished_jobs: bool = False


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """`limits` of a sweep. Seconds. None: Azure's default (1000 trials, as many at once as fit, no timeout)."""

    max_total_trials: int | None = None
    max_concurrent_trials: int | None = None
    timeout_s: float | None = None
    trial_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """`objective`. goal: minimize or maximize. metric: the name that the trial logs."""

    goal: str
    metric: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """`type: sweep`: many runs of a trial with parameters from a search space. Its inputs and outputs are the trial's."""

    trial: Command
    search_space: Mapping[str, Distribution]
    objective: Objective
    sampling: Sampling = field(default_factory=Sampling)
    limits: SweepLimits = field(default_factory=SweepLimits)
    early_termination: EarlyTermination | None = None
    where: Where = NOWHERE

    @property
    def inputs(self) -> Mapping[str, Input]:
        """The trial's."""
        return self.trial.inputs

    @property
    def outputs(self) -> Mapping[str, Output]:
        """The trial's; those of the best trial are the sweep's."""
        return self.trial.outputs


@dataclass(frozen=True, slots=True)
class Foreign:
    """A node of a kind that only Azure ML runs (automl, spark, parallel, …): refused locally, sent on as it is.

    raw: the node as plain data."""

    kind: str
    inputs: Mapping[str, Input] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    where: Where = NOWHERE


Component = Command | Graph | Sweep | Foreign


@dataclass(frozen=True, slots=True)
class Job:
    """What is submitted. problems: what no local backend can do, all of it, in the order of the file. warnings: what is
    taken and has no effect, as `file:line: key: …`. unsent: the places of members that nothing is sent of, wherever it runs.

    file: where it came from, absolute; relative paths in it were resolved against its folder. compute: the job's own.
    """

    component: Component
    inputs: Mapping[str, Value] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    compute: str | None = None
    name: str | None = None
    display_name: str | None = None
    experiment: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    native: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = field(default=None, compare=False)
    unsent: tuple[str, ...] = field(default=(), compare=False)
