"""The protocol that every backend speaks, and the data that crosses it. No base class: shared code is a function.

A backend reports facts (`Observation`); what they mean is decided in one place, `runner.verdict.judge`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from runner.model import Limits, Reason, Remote, Step
    from runner.plan import SweepPlan, Upstream

Handle = str

LEFT = "outputs were left on the service"
"""How a warning of `finish` begins that says so: `PlanBackend.download` brings them."""

UPLOADING = "uploading"
"""The file of a box in which a backend elsewhere says how much of what it uploads is there: `DONE TOTAL`, in bytes."""


class Phase(StrEnum):
    """How far a task has come, as the backend sees it."""

    QUEUED = "queued"
    PREPARING = "preparing"
    STARTING = "starting"
    RUNNING = "running"
    FINALIZING = "finalizing"
    """The script has ended, and what it left is being saved. Of a backend elsewhere, as the next."""
    NOT_RESPONDING = "not responding"
    """The service itself has lost sight of it. It is not an end."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. Data, so that a plan can be checked before anything starts and tests need no names."""

    images: bool
    cpus: bool
    memory: bool
    gpus: bool
    shm: bool
    ulimits: bool
    secrets: bool
    isolates: bool
    """Processes of the script cannot outlive the task, whatever they do."""
    remote: bool = False
    """It runs elsewhere: names of environments, data and computes are its own, kinds of jobs that only it knows are passed
    on, a plan is handed over whole (`PlanBackend`), inputs are uploaded by it, and nothing of a task's box is seen here
    before `finish`."""


@dataclass(frozen=True, slots=True)
class Box:
    """The folder of one attempt on this machine; the script sees it as its world.

    `work` (the code, writable, the working directory), `outputs/<name>` (named outputs), `home`, `record`
    (status.json in a folder of its own), `tracking` (what it logs). `secrets` is on tmpfs, outside the store.
    """

    root: Path

    @property
    def work(self) -> Path:
        """The fresh writable copy of the code: the script's working directory."""
        return self.root / "work"

    @property
    def outputs(self) -> Path:
        """One folder per named output."""
        return self.root / "outputs"

    @property
    def home(self) -> Path:
        """HOME of the script."""
        return self.root / "home"

    @property
    def tracking(self) -> Path:
        """Metrics, parameters and artifacts that the script logs; see `runner.tracking`."""
        return self.root / "tracking"

    @property
    def record(self) -> Path:
        """The bootstrapper's record."""
        return self.root / "record" / "status.json"


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt of one step, everything decided.

    Args:
        key: unique over all stores; the same key twice is the same task.
        argv: the user's command, inputs and outputs already replaced by the paths of `layout`.
        image: image id or digest; None on a backend without images.
        env: plain variables of the script. No secret is ever among them.
        inputs: name → absolute path on this machine, shown to the script read-only. writable: those that it may write to.
        outputs: name → folder inside the working directory that is collected, or None for `<outputs>/<name>`.
        secrets: name → value, in memory only; None when they were lost with the process that held them.
        box: the attempt's folder. log: the file that receives the script's stdout and stderr, byte for byte.
        labels: what the backend tags the task with. tracking: the box's folder of that name, as the script sees it.
        remote, code, whole: of a backend elsewhere only. code: the folder of the user's code, not to be written to (None:
        none). whole: the steps of a plan that is handed over at once; then argv, inputs and the like say nothing.
    """

    key: str
    argv: tuple[str, ...]
    image: str | None
    env: Mapping[str, str]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str | None]
    secrets: Mapping[str, str] | None
    limits: Limits
    box: Box
    log: Path
    labels: Mapping[str, str] = field(default_factory=dict)
    writable: frozenset[str] = frozenset()
    tracking: str = ""
    remote: Remote | None = None
    code: Path | None = None
    whole: Whole | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One step of a plan that is handed over whole.

    name: of the step in the plan. task: what it runs; its labels name the step's own run. upstream: those inputs that other
    steps write. sweep: the task is the template of each trial, `${{search_space.NAME}}` left open.
    """

    name: str
    task: Task
    upstream: Mapping[str, Upstream] = field(default_factory=dict)
    sweep: SweepPlan | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """A plan as a backend gets it. outputs: the plan's outputs → whose output each is. single_sweep: it is one sweep job,
    not a pipeline. native: see `Plan.native`."""

    members: tuple[Member, ...]
    outputs: Mapping[str, Upstream] = field(default_factory=dict)
    continue_on_step_failure: bool = False
    force_rerun: bool = False
    single_sweep: bool = False
    native: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlatformEnd:
    """How the service itself says that a task ended (rows A0-A9 of docs/status.md).

    status: Completed, Failed or Canceled. code, message: of its error, in its own words. told: what these mean, where they
    say more than that it failed: Preempted, ImageUnavailable, OutOfMemory, Timeout, StartFailed. retryable: such an image
    may be had later. elapsed_s: how long it ran, by the service's clock. reused: the id of the earlier run there that
    stands for it.
    """

    status: str
    code: str | None = None
    message: str | None = None
    told: Reason | None = None
    retryable: bool = False
    elapsed_s: float | None = None
    reused: str | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What a backend says of a task now.

    exit_code: of the bootstrapper (or of the command, without one), 0-255, when known.
    killed_by: the signal that ended the bootstrapper itself, as a number, when known.
    oom_killed: the engine saw an OOM kill in the task's cgroup.
    lost: the engine or machine started after the task did, or forgot it; its end was not seen.
    error: the engine's own words when it could not start the task.
    bootstrapped: false where the command ran without the bootstrapper, by plan (row E0).
    platform: of a backend elsewhere, once it has ended. note: what the service says of a task that waits, for the user.
    """

    phase: Phase
    exit_code: int | None = None
    killed_by: int | None = None
    oom_killed: bool = False
    lost: bool = False
    error: str | None = None
    bootstrapped: bool = True
    started: str | None = None
    finished: str | None = None
    platform: PlatformEnd | None = None
    note: str = ""


class Backend(Protocol):
    """Where tasks run. Every method may raise UnavailableError; the caller keeps trying with back-off."""

    name: str
    capabilities: Capabilities

    def layout(
        self, box: Box, inputs: Mapping[str, str], outputs: Mapping[str, str | None], files: Collection[str] = ()
    ) -> Layout:
        """The paths as the script will see them. files: the outputs that are one file, not a folder. Pure."""

    def render(self, task: Task) -> Mapping[str, object]:
        """Exactly what `submit` would send, secrets left out. `--dry-run` and tests use it."""

    def submit(self, task: Task) -> Handle:
        """Start the task and return at once. The same `task.key` twice gives the same handle and one task.

        Raises:
            ImageError: the image is missing or cannot be had.
            BackendError: the backend refused; nothing runs.
        """

    def find(self, task: Task) -> Handle | None:
        """The handle of a task that was submitted before, by its key; None when there is none."""

    def watch(self, task: Task, handle: Handle) -> None:
        """Take up a task submitted by a process that is gone: from now on `wait` and the log know of it."""

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation | None]:
        """What is known of each now. None = the backend does not know the handle; never a status."""

    def wait(self, timeout: float) -> None:
        """Return as soon as any watched task may have changed, or after `timeout` seconds. Copies logs meanwhile."""

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """Ask the task to end (SIGTERM; with `force` SIGKILL) and return. Unknown or finished is a no-op."""

    def finish(self, handle: Handle) -> Sequence[str]:
        """The task has ended: bring its log to the end and its outputs and record into the box.

        Returns:
            Warnings of what was not brought, and why.
        """

    def remove(self, handle: Handle) -> None:
        """Forget the task and free what it held. Only called once record and log are safe."""

    def close(self) -> None:
        """Free connections. Running tasks go on."""


class PlanBackend(Backend, Protocol):
    """A backend (`capabilities.remote`) that takes a task with `whole`, and orders and starts its steps itself.

    `cancel` of the whole ends its steps. A step's handle is good for `watch`, `poll`, `finish` and `remove`; `find` of a
    step's task gives it too.
    """

    def check(self, steps: Sequence[Step]) -> None:
        """Refuse, before anything is built or uploaded, steps whose compute, environment or data the service does not have.

        Raises:
            CapabilityError: with everything that is in the way. UnavailableError, BackendError: it cannot be asked.
        """

    def registry(self) -> str | None:
        """The host of the registry that belongs to the workspace, for images that no setting sends elsewhere."""

    def download(self, handle: Handle, names: Collection[str], target: Path) -> tuple[list[str], list[str]]:
        """Bring what was left there: named outputs, and `outputs` and `logs` where these are meant, each as a folder of
        `target`. Returns the names of those that were there, and warnings."""

    def handle_of(self, key: str, path: str | None) -> Handle:
        """What a task, or a step (its path in the plan) of one, is called here, long after it ended and was removed."""

    def steps(self, handle: Handle) -> Mapping[str, Handle]:
        """The steps of the whole that the service has begun or decided about: name in the plan → handle. Of a sweep also its
        trials, as `runner.sweeps.rows.path_of` names them, in the order of their creation."""

    def tried(self, handle: Handle) -> Tried:
        """What the service says of the sweeps of the whole; never newer than what `steps` says afterwards."""


@dataclass(frozen=True, slots=True)
class Tried:
    """The sweeps of a whole, as of one moment.

    sweeps: sweep → how it stands; ended: all its trials are known. parameters: trial (named as in `PlanBackend.steps`) →
    what was drawn for it, as text. best: sweep → its best trial, as far as the service has said which.
    """

    sweeps: Mapping[str, Observation] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    best: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths as the script sees them: its working directory, each input, each output, its HOME, and where it logs to."""

    work: str
    home: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    tracking: str = ""


class Facts(Protocol):
    """Where facts of images are remembered; the run store."""

    @property
    def cache(self) -> Path:
        """A folder for things that can be made again."""

    def fact(self, key: str) -> Any:
        """A remembered fact or None."""

    def remember(self, key: str, value: object) -> None:
        """Remember a fact."""


def with_files(outputs: Mapping[str, str], files: Collection[str]) -> dict[str, str]:
    """The folders of outputs, and for those that are one file its path in there: `<folder>/<name>`."""
    return {name: f"{path}/{name}" if name in files else path for name, path in outputs.items()}
