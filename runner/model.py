"""The nouns, as frozen dataclasses and closed enums. Standard library only, no I/O, no defaults that hide a decision.

`Reason` says how a step ended, and `status_of` derives the terminal status from it: there is no second place where the
two could disagree, and there is no "unknown".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, assert_never

if TYPE_CHECKING:
    from collections.abc import Mapping


class Status(StrEnum):
    """Where a run stands. Azure ML's names."""

    NOT_STARTED = "NotStarted"
    QUEUED = "Queued"
    PREPARING = "Preparing"
    STARTING = "Starting"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    CANCEL_REQUESTED = "CancelRequested"
    NOT_RESPONDING = "NotResponding"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"
    SKIPPED = "Skipped"

    @property
    def terminal(self) -> bool:
        """True when nothing can change it any more."""
        return self in _TERMINAL


_TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.SKIPPED})


class Reason(StrEnum):
    """Why a step ended as it did. The whole list; see docs/status.md for the row of each."""

    COMPLETED = "Completed"
    NON_ZERO_EXIT = "NonZeroExit"
    SIGNALED = "Signaled"
    OUT_OF_MEMORY = "OutOfMemory"
    TIMEOUT = "Timeout"
    CANCELED = "Canceled"
    SCRIPT_NOT_FOUND = "ScriptNotFound"
    UNSUPPORTED_SCRIPT = "UnsupportedScript"
    INTERPRETER_NOT_FOUND = "InterpreterNotFound"
    EXEC_FAILED = "ExecFailed"
    BOOTSTRAP_ERROR = "BootstrapError"
    OUTPUT_ERROR = "OutputError"
    START_FAILED = "StartFailed"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    KILLED = "Killed"
    STATUS_MISSING = "StatusMissing"
    LOST = "Lost"
    INTERRUPTED = "Interrupted"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a reason, not a secret
    PLATFORM_ERROR = "PlatformError"
    CANCELED_EXTERNALLY = "CanceledExternally"
    PREEMPTED = "Preempted"
    STEP_FAILED = "StepFailed"
    UPSTREAM_FAILED = "UpstreamFailed"
    UPSTREAM_CANCELED = "UpstreamCanceled"


def status_of(reason: Reason) -> Status:
    """The terminal status that a reason stands for. Total: a new reason does not type-check until it is placed here."""
    match reason:
        case Reason.COMPLETED:
            return Status.COMPLETED
        case Reason.CANCELED | Reason.CANCELED_EXTERNALLY:
            return Status.CANCELED
        case Reason.UPSTREAM_FAILED | Reason.UPSTREAM_CANCELED:
            return Status.SKIPPED
        case (
            Reason.NON_ZERO_EXIT
            | Reason.SIGNALED
            | Reason.OUT_OF_MEMORY
            | Reason.TIMEOUT
            | Reason.SCRIPT_NOT_FOUND
            | Reason.UNSUPPORTED_SCRIPT
            | Reason.INTERPRETER_NOT_FOUND
            | Reason.EXEC_FAILED
            | Reason.BOOTSTRAP_ERROR
            | Reason.OUTPUT_ERROR
            | Reason.START_FAILED
            | Reason.IMAGE_UNAVAILABLE
            | Reason.KILLED
            | Reason.STATUS_MISSING
            | Reason.LOST
            | Reason.INTERRUPTED
            | Reason.SECRET_MISSING
            | Reason.PLATFORM_ERROR
            | Reason.PREEMPTED
            | Reason.STEP_FAILED
        ):
            return Status.FAILED
        case _:
            assert_never(reason)


class Origin(StrEnum):
    """Who caused or reported the end."""

    SCRIPT = "script"
    BOOTSTRAPPER = "bootstrapper"
    EXECUTOR = "executor"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class Cancel:
    """How a cancel reached the script: who asked, the first signal sent, whether SIGKILL was needed."""

    by: str
    signal: str
    escalated: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `exit_code` (0-255) and `signal` (a name such as SIGKILL) are never both set.

    `process_exit` is PX of docs/status.md: what `submit --wait` exits with.
    Times: `elapsed_s` is monotonic seconds; `started`/`finished` are informational ISO 8601 UTC.
    Memory in bytes, CPU in seconds.
    """

    reason: Reason
    process_exit: int
    message: str = ""
    exit_code: int | None = None
    signal: str | None = None
    core_dumped: bool = False
    oom_kills: int = 0
    cancel: Cancel | None = None
    origin: Origin = Origin.SCRIPT
    retryable: bool = False
    warnings: tuple[str, ...] = ()
    started: str | None = None
    finished: str | None = None
    elapsed_s: float | None = None
    max_rss_bytes: int | None = None
    user_s: float | None = None
    sys_s: float | None = None

    @property
    def status(self) -> Status:
        """The terminal status, derived from the reason."""
        return status_of(self.reason)

    def with_warning(self, warning: str) -> Self:
        """The same outcome with one more warning."""
        return replace(self, warnings=(*self.warnings, warning))

    def to_json(self) -> dict[str, Any]:
        """Plain data, complete; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; unknown members (of a newer runner) are ignored."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        values["reason"] = Reason(values["reason"])
        values["origin"] = Origin(values.get("origin", Origin.SCRIPT))
        values["warnings"] = tuple(values.get("warnings", ()))
        if values.get("cancel") is not None:
            values["cancel"] = Cancel(**values["cancel"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step may use. None = not limited. `timeout_s` ends the script, `grace_s` passes between TERM and KILL.

    ulimits: name → (soft, hard), as `--ulimit` of docker has them. host_ipc: shared memory of the machine (`--ipc=host`).
    """

    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: int | None = None
    shm_bytes: int | None = None
    timeout_s: float | None = None
    grace_s: float = 10.0
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    host_ipc: bool = False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `count` further attempts, for causes that trying again can cure, or those named in `on`.

    memory_factor: each further attempt may use so many times the memory of the one before.
    """

    count: int = 0
    on: tuple[Reason, ...] = ()
    memory_factor: float | None = None

    def wants(self, outcome: Outcome, attempt: int) -> bool:
        """Whether another attempt follows attempt number `attempt` (from 1). A cancel is never retried."""
        if attempt > self.count or outcome.status is not Status.FAILED:
            return False
        return outcome.retryable or outcome.reason in self.on


@dataclass(frozen=True, slots=True)
class Remote:
    """What only a backend elsewhere (`capabilities.remote`) needs to know of a step. Plain data, as Azure ML's YAML has it.

    environment: the member `environment:`, whole: `azureml:NAME@LABEL`, or `{image: REF}`, `{image, conda_file}`,
    `{build: {path, dockerfile_path}}` with absolute paths. compute: its name; None: serverless.
    inputs: name → `type`, `path` (a URI, a name there, or an absolute path of this machine, which is uploaded), `mode`; of
    those that other steps write, `type` and `mode` as far as they were declared; of a literal `value`, its text.
    outputs: name → `type`, `path`, `mode`, `name`, `version`, as far as they were given.
    members: `distribution`, `identity`, `services`, `resources`, `queue_settings` … untouched; of a single step also the
    job's `description` and `tags`.
    secrets: variable → `keyvault:[VAULT/]NAME`, read in the job by its identity; the values are never here.
    foreign: a node of a kind that only Azure ML runs (`parallel`, `spark`, `automl` …), whole, but of its `inputs` only the
    literal ones, and no `outputs`; then nothing of the step itself counts.
    """

    environment: str | Mapping[str, Any] | None = None
    compute: str | None = None
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    foreign: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One command in one image. `argv` may hold `${{inputs.x}}`, `${{outputs.y}}` and `${{search_space.z}}`, which are
    replaced at its start.

    inputs: name → absolute path on this machine. outputs: name → folder inside the working directory that the script
    writes to, or None for a folder that runner gives it (`RUNNER_OUTPUT_<NAME>`). secrets: names only.
    parameters: literal inputs, as the text that stands for them. files: those outputs that are one file: the script is
    given the path `<folder>/<name>`. writable: those inputs that the script may write to. publish: output → where it is
    copied to once the step has completed (a path or URI; `${{name}}` is the run's name). remote: of a backend elsewhere;
    `inputs` are then names of `remote.inputs`, and `publish` is empty, since Azure ML writes to where outputs are asked for.
    """

    name: str
    argv: tuple[str, ...]
    image: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str | None] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    parameters: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    publish: Mapping[str, str] = field(default_factory=dict)
    remote: Remote | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, complete; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        values = dict(data)
        remote = values.get("remote")
        values["remote"] = Remote(**remote) if remote else None
        for name in ("argv", "secrets", "files", "writable"):
            values[name] = tuple(values.get(name, ()))
        limits = dict(values["limits"])
        limits["ulimits"] = {name: tuple(pair) for name, pair in limits.get("ulimits", {}).items()}
        values["limits"] = Limits(**limits)
        retry = values["retry"]
        on = tuple(Reason(reason) for reason in retry["on"])
        values["retry"] = RetryPolicy(retry["count"], on, retry.get("memory_factor"))
        return cls(**values)
