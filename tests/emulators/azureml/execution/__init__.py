"""Jobs, really executed: in containers of the local engine, one thread per job, everything to be known in run documents."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock, Thread

from tests.emulators.azureml.blobs import Blobs
from tests.emulators.azureml.execution.command import Shutdown
from tests.emulators.azureml.execution.context import Context
from tests.emulators.azureml.execution.docker import Engine
from tests.emulators.azureml.execution.document import last_name
from tests.emulators.azureml.execution.failures import END_STATUSES, RunError
from tests.emulators.azureml.execution.kinds import COMMAND, PIPELINE, SWEEP, Kind
from tests.emulators.azureml.execution.nodes import Nodes
from tests.emulators.azureml.execution.pipeline import cancel_tree
from tests.emulators.azureml.execution.runs import Origin, Runs
from tests.emulators.azureml.execution.signals import Signals
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import ServiceError

_ENDING_S = 60.0
_KINDS: dict[str, Kind] = {"Command": COMMAND, "Pipeline": PIPELINE, "Sweep": SWEEP}


class Execution:
    """What the wire knows of the execution; see state.py for the agreement."""

    def __init__(self, state: State, blobs: Blobs, profile: Profile, folder: Path) -> None:
        """folder: of the emulator's state. It names the containers' owner, so one engine serves several emulators."""
        label = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        runs, work = Runs(state, profile), folder.resolve() / "work"
        self._context = Context(state, blobs, profile, runs, Nodes(state), Engine(label), work)
        self._signals: dict[str, Signals] = {}
        self._threads: list[Thread] = []
        self._lock = Lock()

    def reachable(self, exports: Mapping[str, str], token: Callable[[], str]) -> None:
        """How jobs with a network reach the service, known once it listens. exports: what clients are given."""
        proxies = {name: value for name, value in exports.items() if name.lower() in ("https_proxy", "http_proxy")}
        identity = {name: exports[f"RUNNER_EMULATOR_{name}"] for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")}
        outside = self._context.outside
        outside.variables = proxies | identity | dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        outside.ca, outside.token = Path(exports["REQUESTS_CA_BUNDLE"]), token

    def check(self, properties: Doc) -> ServiceError | None:
        """What is wrong with a job, before it is accepted. properties: as PUT."""
        kind = _KINDS.get(properties["jobType"])
        if kind is None:
            return _refused(f"Jobs of type {properties['jobType']} are not emulated.")
        try:
            kind.check(self._context, properties)
        except KeyError as error:
            return _refused(f"The member {error.args[0]} is required.")
        except ValueError as error:
            return _refused(str(error))
        return None

    def begin(self, job_name: str) -> None:
        """The run's document is stored when this returns; the rest happens in a thread of its own."""
        job = self._context.state.get("job", job_name)
        if job is None:
            raise KeyError(job_name)
        self._context.runs.create(job_name, _origin(job))
        self._drive(job)

    def cancel(self, run_id: str) -> None:
        """Of a job or a child. Returns at once; what has ended stays as it is."""
        cancel_tree(self._context, run_id, self._of)

    def preempt(self, run_id: str) -> None:
        """Its node is taken away."""
        self._of(run_id).ask("preempt")

    def resume(self) -> None:
        """Go on with what an earlier process of the emulator left, by the containers that it left running."""
        for job in self._context.state.list("job"):
            run = self._context.runs.create(job["name"], _origin(job))
            if run["status"] not in END_STATUSES:
                self._drive(job)
                if run["_cancel"]:
                    self._of(job["name"]).ask("cancel")

    def stop(self, *, keep: bool = False) -> None:
        """End all threads. keep: containers go on, for a later process to find; otherwise they are removed."""
        with self._lock:
            signals, threads = list(self._signals.values()), list(self._threads)
        for one in signals:
            one.ask("shutdown")
        for thread in threads:
            thread.join(_ENDING_S)
        if not keep:
            self._context.engine.remove_all()

    def _drive(self, job: Doc) -> None:
        thread = Thread(target=self._driven, args=(job, self._of(job["name"])), name=f"job {job['name']}", daemon=True)
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(thread)
        thread.start()

    def _driven(self, job: Doc, signals: Signals) -> None:
        try:
            _KINDS[job["properties"]["jobType"]].drive(self._context, job, signals, self._of)
        except Shutdown:
            return
        except Exception:  # a fault of the emulator has to be seen by whoever waits for the job
            message = f"The emulator failed:\n{traceback.format_exc()}"
            self._context.runs.end(job["name"], RunError(message, code="ServiceError", inner=("EmulatorFault",)))

    def _of(self, run_id: str, parent: Signals | None = None) -> Signals:
        with self._lock:
            found = self._signals.setdefault(run_id, Signals(parent))
            found.parent = found.parent or parent  # who was asked for something before it began is heard, too
            return found


def _refused(message: str) -> ServiceError:
    return ServiceError(400, "UserError", message, (("ValidationError", message),))


def _origin(job: Doc) -> Origin:
    properties = job["properties"]
    kind = _KINDS[properties["jobType"]]
    compute = last_name(properties.get("computeId"))
    told = {
        "_azureml.ComputeTargetType": "amlctrain", "_azureml.ClusterName": compute or "",
        "ProcessInfoFile": "azureml-logs/process_info.json", "ProcessStatusFile": "azureml-logs/process_status.json",
    }  # fmt: skip
    return Origin(
        job["name"], job["experiment"], properties.get("displayName") or job["name"], kind.run_type, compute=compute,
        properties=told | (properties.get("properties") or {}), tags=properties.get("tags") or {},
        description=properties.get("description"),
    )  # fmt: skip
