"""The execution by itself, without the wire: a state with what a workspace has, and jobs put into it by hand."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.emulators.azureml import names
from tests.emulators.azureml.blobs import Blobs
from tests.emulators.azureml.execution import Execution
from tests.emulators.azureml.execution.failures import END_STATUSES
from tests.emulators.azureml.pki import pki
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.state import Doc, State

DEADLINE_S = 60.0


@dataclass
class Bench:
    """image: a local one that has sh and python3."""

    folder: Path
    image: str
    profile: Profile = field(default_factory=Profile)

    def start(self) -> Bench:
        self.state = State(self.folder)
        self.blobs = Blobs(self.folder, pki(self.folder), self.state)
        self.blobs.start()
        self._furnish()
        self.execution = Execution(self.state, self.blobs, self.profile, self.folder)
        return self

    def stop(self, *, keep: bool = False) -> None:
        self.execution.stop(keep=keep)
        self.blobs.stop()
        self.state.close()

    def _furnish(self) -> None:
        if self.state.list("workspace"):
            return
        workspace = {"workspaceId": names.WORKSPACE_ID, "mlFlowTrackingUri": "azureml://nowhere"}
        self.state.put("workspace", names.WORKSPACE, {
            "id": names.WORKSPACE_ARM, "name": names.WORKSPACE, "location": names.LOCATION, "properties": workspace,
        })  # fmt: skip
        for name, container in names.CONTAINERS.items():
            self.blobs.ensure(container)
            self.state.put("datastore", name, {"id": names.arm("datastores", name), "name": name,
                                               "properties": {"containerName": container}})  # fmt: skip
        self.nodes("cpu-cluster", 2)
        self.environment("small", {"image": self.image})

    def nodes(self, compute: str, count: int) -> None:
        scale = {"properties": {"scaleSettings": {"maxNodeCount": count}}, "computeType": "AmlCompute"}
        self.state.put("compute", compute, {"id": names.arm("computes", compute), "name": compute, "properties": scale})

    def environment(self, name: str, properties: Doc) -> str:
        arm_id = names.arm("environments", name, "versions", "1")
        self.state.put("environment", f"{name}/1", {"id": arm_id, "name": "1", "properties": properties})
        return arm_id

    def code(self, files: dict[str, bytes]) -> str:
        """A snapshot's ARM id; a container of its own, as the service makes."""
        name = str(uuid4())
        self.blobs.ensure(name)
        for path, data in files.items():
            self.blobs.upload(name, path, io.BytesIO(data))
        arm_id = names.arm("codes", name, "versions", "1")
        uri = f"https://{self.blobs.host}/{name}"
        self.state.put("code", f"{name}/1", {"id": arm_id, "name": "1", "properties": {"codeUri": uri}})
        return arm_id

    def command(self, text: str, **members: Any) -> Doc:
        """A command job's `properties`."""
        return {
            "jobType": "Command", "command": text, "environmentId": names.arm("environments", "small", "versions", "1"),
            "computeId": names.arm("computes", "cpu-cluster"), "inputs": {}, "outputs": {}, **members,
        }  # fmt: skip

    def component(self, name: str, text: str, **members: Any) -> str:
        """A command component's ARM id."""
        environment = names.arm("environments", "small", "versions", "1")
        return self.registered(
            name, {"type": "command", "name": name, "command": text, "environment": f"azureml:{environment}", **members}
        )

    def registered(self, name: str, spec: Doc) -> str:
        arm_id = names.arm("components", name, "versions", "1")
        doc = {"id": arm_id, "name": "1", "properties": {"componentSpec": spec}}
        self.state.put("component", f"{name}/1", doc)
        return arm_id

    def pipeline(self, nodes: Doc, **members: Any) -> Doc:
        """A pipeline job's `properties`."""
        return {"jobType": "Pipeline", "jobs": nodes, "settings": {"default_compute": "cpu-cluster"}, **members}

    def begin(self, properties: Doc, name: str | None = None) -> str:
        name = name or f"job-{uuid4().hex[:12]}"
        assert self.execution.check(properties) is None
        self.state.put("job", name, {"name": name, "experiment": "exp", "created": "", "properties": properties})
        self.execution.begin(name)
        return name

    def run(self, name: str) -> Doc:
        found = self.state.get("run", name)
        assert found is not None
        return found

    def runs(self, run_id: str) -> None:
        """Wait until it does."""
        self.until(
            lambda: (self.state.get("run", run_id) or {}).get("status") == "Running",
            f"{run_id} runs",
            lambda: [(r["runId"], r["status"], r["error"]) for r in self.state.list("run")],
        )

    def ended(self, name: str) -> Doc:
        """The run's document once it has ended."""
        self.until(lambda: self.run(name)["status"] in END_STATUSES, f"{name} ends", lambda: self.run(name))
        return self.run(name)

    def log(self, run_id: str, name: str = "user_logs/std_log.txt") -> bytes:
        path = self.run(run_id)["_logs"].get(name)
        return self.blobs.read("azureml", path) if path else b""

    def artifact(self, run_id: str, path: str) -> bytes:
        return self.blobs.read("azureml", f"ExperimentRun/dcid.{run_id}/{path}")

    def output(self, run_id: str, name: str, path: str = "") -> bytes:
        asset = self.run(run_id)["outputs"][name]["assetId"]
        place = self.blobs.resolve(asset)
        return self.blobs.read(place.container, f"{place.path}{path}")

    def until(self, condition: Callable[[], object], what: str, shown: Callable[[], object] = lambda: "") -> None:
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"not within {DEADLINE_S:g} s: {what}: {shown()}"
            time.sleep(0.02)
