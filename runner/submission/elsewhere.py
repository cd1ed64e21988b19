"""What a step means on a backend elsewhere (`capabilities.remote`): names stay that service's own, what only it can do is
passed on, and what it cannot do is told, all of it at once, before anything is built or sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from runner import composer
from runner.data.place import without_login
from runner.errors import RunnerError
from runner.job import DataType, Graph, Mode, Sweep
from runner.model import Limits, Remote, Step
from runner.spec.job.parity import PASSED
from runner.spec.job.source import has_scheme
from runner.submission import guards, refusing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.backends.base import Backend, Capabilities
    from runner.drafts import Draft, Given
    from runner.job import Foreign, Job, Output, Problem, Where

_OWN = (
    "resources", "distribution", "identity", "services", "queue_settings", "properties", "job_tier", "priority", "comment",
    "display_name", "description", "tags",
)  # fmt: skip
_AROUND = ("display_name", "description", "tags", "properties", "identity", "services")
"""Members of a pipeline that are not about its steps."""
_OURS = frozenset({"default_compute", "continue_on_step_failure", "force_rerun", "on_init", "on_finalize"})
"""Settings of a pipeline that the plan has, or that are refused."""
_PATHS = ("code", "path", "conda_file")


def problems(job: Job) -> Iterator[Problem]:
    """What of a job cannot be passed on either."""
    for each in job.problems:
        if each.feature not in PASSED:
            yield each


def notes(job: Job) -> Iterator[str]:
    """What of a job azure-ai-ml has no place for, though the service's YAML has: it goes nowhere, and that is said."""
    yield from (f"{place}: is not passed on to Azure ML" for place in job.unsent)
    components = [job.component]
    while components:
        match components.pop():
            case Graph(nodes=nodes):
                components += [node.component for node in nodes.values()]
            case Sweep(early_termination=stop) if stop is not None and stop.exclude_finished_jobs:
                yield "exclude_finished_jobs is not passed on: there truncation_selection looks at trials that ended, too"


def told(display_name: str | None, description: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """What people see with a job there, as members of it. display_name: None: the run's name."""
    found = {"display_name": display_name, "description": description, "tags": dict(tags)}
    return {name: value for name, value in found.items() if value}


def around(job: Job, display_name: str | None, description: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """The members of a pipeline itself that are passed on: `Plan.native`."""
    found = {**job.native, **told(display_name, description, tags)}
    settings = {name: value for name, value in (job.native.get("settings") or {}).items() if name not in _OURS}
    if store := settings.get("default_datastore"):
        settings["default_datastore"] = store if has_scheme(store) else f"azureml:{store}"
    kept = {name: found[name] for name in _AROUND if found.get(name)}
    return {**kept, "settings": settings} if settings else kept


@dataclass(frozen=True, slots=True)
class Passed:
    """What of a step is passed on. `remote` has everything but the environment, which may have to be built first."""

    remote: Remote
    limits: Limits


class Passing:
    """One step; what is wrong with it is collected in `faults`.

    Args:
        compute: where it runs, if that was said; None: serverless. native: members of the job around a single step.
        vaulted: see `Remote.secrets`.
    """

    def __init__(
        self,
        draft: Draft,
        compute: str | None,
        *,
        native: Mapping[str, Any] | None = None,
        vaulted: Mapping[str, str] | None = None,
    ) -> None:
        self.faults: list[refusing.Fault] = []
        self._draft, self._compute = draft, compute
        self._native, self._vaulted = native or {}, vaulted or {}
        self._where = draft.command.where

    def passed(self, can: Capabilities, *, single: bool) -> Passed:
        """Everything of it that needs no engine, registry or network.

        Args:
            single: the step is the whole job, and tried again by us.
        """
        draft = self._draft
        members = self._members()
        limits = _limits(draft.command.limits, members)
        self._capabilities(limits, can, single=single)
        inputs = {name: made for name, given in draft.data.items() if (made := self._input(given, name)) is not None}
        inputs |= {name: self._upstream(name) for name in draft.upstream}
        if draft.foreign is None:
            # For people, and for AZUREML_PARAMETER_NAME; the command has them already. There is no empty one there.
            inputs |= {name: {"value": text} for name, text in draft.parameters.items() if text and "${{" not in text}
        outputs = {name: self._output(name, output) for name, output in draft.outputs.items()}
        foreign = self._foreign(draft.foreign) if draft.foreign is not None else None
        remote = Remote(None, self._compute, inputs, outputs, members, dict(self._vaulted), foreign)
        return Passed(remote, limits)

    def _members(self) -> dict[str, Any]:
        found = {**self._native, **self._draft.command.native}
        own = {name: found[name] for name in _OWN if found.get(name) is not None}
        return own if self._draft.command.deterministic else {**own, "is_deterministic": False}

    def _capabilities(self, limits: Limits, can: Capabilities, *, single: bool) -> None:
        for what, why, way in composer.problems(Step(self._draft.name, self._draft.argv, limits=limits), can):
            self._fault(self._where, f"{what}: {why}", way)
        if self._draft.command.retry.count and not single:
            self._fault(
                self._where,
                f"retry of the step {self._draft.name}: the service itself starts the steps of a pipeline, once",
                "leave retry out, or submit the step as a job of its own",
            )
        if self._draft.command.retry.memory_factor is not None and not can.memory:
            self._fault(
                self._where,
                "retry.memory: it cannot hold a memory limit here, and docker_args are passed on as they are written",
                "leave memory out of retry and choose a compute of that size, or --backend docker",
            )

    def _fault(self, where: Where, text: str, *ways: str) -> None:
        self.faults.append(refusing.of_error(where.error(text, *ways)))

    # -- data ------------------------------------------------------------------------------------------------------

    def _input(self, given: Given, name: str) -> dict[str, Any] | None:
        data = given.data
        declared = self._draft.command.inputs.get(name)
        mode = data.mode or (declared.mode if declared else None)
        try:
            path = located(data.uri, data.where, written=given.mode is Mode.RW_MOUNT)
        except RunnerError as error:
            self.faults.append(refusing.of_error(error))
            return None
        kind = data.type or (declared.type if declared and not declared.type.literal else None)
        store = data.datastore if path.startswith("/") else None
        made = {"type": str(kind or kind_of(path)), "path": path, "mode": mode and str(mode), "datastore": store}
        return {key: value for key, value in made.items() if value is not None}

    def _upstream(self, name: str) -> dict[str, Any]:
        """How an input comes that another step writes."""
        declared = self._draft.command.inputs.get(name)
        mode = self._draft.upstream[name].mode
        if declared is None or declared.type.literal:
            return {"mode": mode} if mode else {}
        mode = mode or (declared.mode and str(declared.mode))
        return {"type": str(declared.type)} | ({"mode": mode} if mode else {})

    def _output(self, name: str, output: Output) -> dict[str, Any]:
        path = self._draft.publish.get(name)
        if path is not None and not has_scheme(path):
            where = self._where if not str(output.where) else output.where
            self._fault(
                where, f"the output {name} cannot be written to {path}, a place of this machine",
                "leave path out and get it with `runner download`, or name a datastore: azureml://datastores/NAME/paths/…",
            )  # fmt: skip
        elif path is not None and without_login(path) != path:
            self._fault(
                self._where, f"the address of the output {name} holds a login, which would be kept", "shorten it"
            )
        asset, version = output.asset or (None, None)
        mode = str(output.mode) if output.mode is not None else None
        made = {"type": str(output.type), "mode": mode, "path": path, "name": asset, "version": version}
        return {key: value for key, value in made.items() if value is not None}

    # -- what only the service runs --------------------------------------------------------------------------------

    def _foreign(self, component: Foreign) -> dict[str, Any]:
        folder = Path(self._where.file).absolute().parent if self._where.file else Path.cwd()
        raw = {key: value for key, value in component.raw.items() if key not in {"inputs", "outputs", "compute"}}
        if component.kind != "component":
            raw.setdefault("type", component.kind)
        raw = self._absolute(raw, folder)
        return {**raw, "inputs": dict(self._draft.parameters)} if self._draft.parameters else raw

    def _absolute(self, value: Any, folder: Path, key: str = "") -> Any:
        """Relative paths in a node count from its file, which the service does not have."""
        if isinstance(value, dict):
            return {name: self._absolute(one, folder, str(name)) for name, one in value.items()}
        if isinstance(value, list):
            return [self._absolute(one, folder, key) for one in value]
        if not isinstance(value, str) or not (value.startswith(("./", "../")) or key in _PATHS):
            return value
        if has_scheme(value) or "${{" in value:
            return value
        path = (folder / value).resolve()
        if reason := guards.refused_as_input(path):
            self._fault(self._where, f"{path} is {reason}; a job may not be given it", "name a folder in it")
        return str(path)


def check(backend: Backend, steps: Sequence[Step]) -> None:
    """That the service has what the steps name, as far as it can be asked; before anything is built or sent.

    Raises:
        CapabilityError: with everything that is in the way. UnavailableError, BackendError: it cannot be asked.
    """
    ask: Callable[[Sequence[Step]], None] | None = getattr(backend, "check", None)
    if ask is not None:
        ask(steps)


def located(uri: str, where: Where, *, written: bool = False) -> str:
    """An input's address as the service gets it: a name or URI as it is; an absolute path of this machine, to be uploaded.

    Args:
        written: the script writes to it.

    Raises:
        SpecError: nothing is there, no job may be given it, or the address holds a login.
    """
    if re.match("file:", uri, re.IGNORECASE):
        uri = unquote(urlsplit(uri).path)
    if not uri.startswith("/"):
        if without_login(uri) != uri:
            raise where.error(
                f"{without_login(uri)} holds a login, which the service would keep and show with the job",
                "make it a datastore or data asset of the workspace, and name that",
            )
        return uri
    path = Path(uri)
    if written:
        raise where.error(f"{uri} is of this machine, and the service cannot write to it", "leave out mode: rw_mount")
    if not path.exists():
        raise where.error(f"there is no {uri}")
    if (reason := guards.refused_as_input(path)) is not None:
        raise where.error(f"{uri} is {reason}; a job may not be given it", "name a folder that holds the data alone")
    return uri


def kind_of(path: str) -> DataType:
    """The type of an input that has none: what is there; of a URI a folder, as Azure ML takes it."""
    return DataType.URI_FILE if path.startswith("/") and Path(path).is_file() else DataType.URI_FOLDER


def _limits(limits: Limits, members: Mapping[str, Any]) -> Limits:
    """Without what `docker_args` said: they are passed on as they are written."""
    words = (members.get("resources") or {}).get("docker_args")
    if words is None:
        return limits
    text = words if isinstance(words, str) else " ".join(map(str, words))
    shm = None if "--shm-size" in text else limits.shm_bytes
    return replace(limits, cpus=None, memory_bytes=None, shm_bytes=shm, ulimits={}, host_ipc=False)
