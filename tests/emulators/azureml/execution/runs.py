"""Run documents: made, moved through the service's statuses, ended. Nobody else writes their status."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.azureml.execution.clock import now
from tests.emulators.azureml.execution.failures import END_STATUSES, RunError, error_document
from tests.emulators.azureml.history import experiment_id
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.state import Doc, State

_TYPES = {"uri_folder": "UriFolder", "uri_file": "UriFile", "mltable": "MLTable"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who a run is. node: its name in the pipeline or sweep. run_type: as run history calls the kind."""

    job: str
    experiment: str
    display_name: str
    run_type: str
    parent: str | None = None
    node: str | None = None
    compute: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None


class Runs:
    """The documents of kind "run"."""

    def __init__(self, state: State, profile: Profile) -> None:
        self._state, self._profile = state, profile

    def create(self, run_id: str, origin: Origin) -> Doc:
        """The document as stored. One that is there already stays as it is."""
        if (there := self._state.get("run", run_id)) is not None:
            return there
        made = now()
        return self._state.put("run", run_id, {
            "runId": run_id, "runUuid": str(uuid.uuid4()), "parentRunId": origin.parent, "rootRunId": origin.job,
            "experimentId": experiment_id(origin.experiment),
            "experimentName": origin.experiment, "displayName": origin.display_name, "name": origin.display_name,
            "description": origin.description, "status": "NotStarted", "createdUtc": made, "startTimeUtc": None,
            "endTimeUtc": None, "dataContainerId": f"dcid.{run_id}", "runType": origin.run_type,
            "runTypeV2": {"orchestrator": "Execution", "traits": [], "attribution": None, "computeType": "AmlcTrain"},
            "properties": dict(origin.properties), "tags": dict(origin.tags), "error": None, "warnings": [],
            "inputs": {}, "outputs": {}, "compute": _compute(origin.compute),
            "_job": origin.job, "_node": origin.node, "_logs": {}, "_outputs": {}, "_metrics": {}, "_cancel": False,
        })  # fmt: skip

    def get(self, run_id: str) -> Doc:
        """KeyError: there is no such run."""
        doc = self._state.get("run", run_id)
        if doc is None:
            raise KeyError(run_id)
        return doc

    def status(self, run_id: str) -> str:
        return str(self.get(run_id)["status"])

    def children(self, run_id: str) -> list[Doc]:
        return self._state.list("run", parentRunId=run_id)

    def move(self, run_id: str, status: str) -> None:
        """To a status on the way. A run that is to be canceled, or has ended, no longer moves."""

        def change(doc: Doc) -> None:
            if doc["_cancel"] or doc["status"] in END_STATUSES:
                return
            doc["status"] = status
            if status == "Running" and doc["startTimeUtc"] is None:
                doc["startTimeUtc"] = now()

        self._state.update("run", run_id, change)

    def ask_cancel(self, run_id: str) -> bool:
        """Whether there was something left to cancel."""
        asked = False

        def change(doc: Doc) -> None:
            nonlocal asked
            if doc["status"] not in END_STATUSES:
                doc["status"], doc["_cancel"], asked = "CancelRequested", True, True

        self._state.update("run", run_id, change)
        return asked

    def end(self, run_id: str, failure: RunError | None) -> None:
        """The last word; a second one is not heard."""
        location = self._workspace()["location"]

        def change(doc: Doc) -> None:
            if doc["status"] in END_STATUSES:
                return
            doc["status"] = failure.status if failure else "Completed"
            doc["endTimeUtc"] = now()
            if failure is not None and failure.message:
                doc["error"] = error_document(failure, location)

        self._state.update("run", run_id, change)

    def add(self, run_id: str, member: str, values: Mapping[str, Any]) -> None:
        """Into one of the documents' maps: properties, tags, _logs, …"""
        self._state.update("run", run_id, lambda doc: doc[member].update(values))

    def set(self, run_id: str, member: str, value: object) -> None:
        self._state.update("run", run_id, lambda doc: doc.update({member: value}))

    def set_outputs(self, run_id: str, outputs: Mapping[str, tuple[str, str]]) -> None:
        """outputs: name → (URI, type as in a job, `uri_folder`). They become data versions that nobody registered."""
        workspace = self._workspace()
        place = f"azureml://locations/{workspace['location']}/workspaces/{workspace['properties']['workspaceId']}"
        named, resolved = {}, {}
        for name, (uri, kind) in outputs.items():
            asset = f"{place}/data/azureml_{run_id}_output_data_{name}/versions/1"
            shown = _TYPES.get(kind, kind) if self._profile.folder_type == "UriFolder" else kind
            named[name] = {"assetId": asset, "type": shown}
            resolved[asset] = {"uri": self._long(uri, workspace["id"]), "type": shown}
        self.add(run_id, "outputs", named)
        self.add(run_id, "_outputs", resolved)

    def _long(self, uri: str, workspace: str) -> str:
        short = uri.removeprefix("azureml://")
        if short == uri or not short.startswith("datastores/"):
            return uri
        path = workspace.strip("/").replace("/providers/Microsoft.MachineLearningServices", "")
        return f"azureml://{path.replace('resourceGroups', 'resourcegroups')}/{short}"

    def _workspace(self) -> Doc:
        return self._state.list("workspace")[0]


def _compute(name: str | None) -> Doc:
    return {
        "target": name, "targetType": "amlctrain", "vmSize": None, "instanceType": None, "instanceCount": 1,
        "gpuCount": None, "priority": None, "region": None, "armId": None, "properties": None,
    }  # fmt: skip
