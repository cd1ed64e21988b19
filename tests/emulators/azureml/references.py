"""What a job refers to has to be there: the service refuses it otherwise, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.emulators.azureml import names
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import ServiceError, missing

_DATASTORE = re.compile(r"azureml:/(?:/.*?/)?/?datastores/([^/]+)(?:/|$)", re.IGNORECASE)


class References:
    def __init__(self, state: State) -> None:
        self._state = state

    def check_job(self, properties: Doc) -> None:
        """Of command, sweep and pipeline jobs. ServiceError: the first that is not there."""
        self._compute(properties.get("computeId"))
        command = properties.get("trial") or properties
        self._version("environments", "environment", command.get("environmentId"))
        self._version("codes", "code", command.get("codeId"))
        self._version("components", "component", properties.get("componentId"))
        for value in (properties.get("inputs") or {}).values():
            if isinstance(value, dict) and isinstance(value.get("uri"), str):
                self.check_uri(value["uri"])
        for value in (properties.get("outputs") or {}).values():
            if isinstance(value, dict) and isinstance(value.get("uri"), str):
                self.check_uri(value["uri"])
        settings = properties.get("settings") or {}
        self._compute(settings.get("default_compute"))
        for name in filter(None, (settings.get("default_datastore"),)):
            self._datastore(names.last(name))
        for node in _nodes(properties.get("jobs") or {}):
            self._compute(node.get("computeId") or node.get("compute"))
            self._version("components", "component", node.get("componentId"))

    def check_uri(self, uri: str) -> None:
        """A datastore or a data asset that a URI names is there; what lies elsewhere is not looked at."""
        if found := _DATASTORE.match(uri):
            self._datastore(found[1])
        elif re.search(r"/data/[^/]+/versions/", uri, re.IGNORECASE) or re.fullmatch(r"azureml:[^/:]+:[^/:]+", uri):
            self._version("data", "data", uri)

    def _datastore(self, name: str) -> None:
        if self._state.get("datastore", name) is None:
            raise ServiceError(400, "UserError", f"Error: Could not find datastore: {name}.")

    def _compute(self, reference: Any) -> None:
        if not reference or str(reference).lower().rsplit("/", 1)[-1] == "serverless":
            return
        name = names.last(str(reference))
        if not any(compute["name"].lower() == name.lower() for compute in self._state.list("compute")):
            raise ServiceError(400, "UserError", f"Unknown compute target '{name}'.")

    def _version(self, collection: str, kind: str, reference: Any) -> None:
        if not reference:
            return
        found = names.versioned(collection, str(reference))
        if found is None:
            raise ServiceError(400, "UserError", f"The {kind} reference '{reference}' is invalid.")
        name, version = found
        if version.startswith("@"):
            there = any(
                f"/{collection}/{name}/versions/".lower() in doc["id"].lower() for doc in self._state.list(kind)
            )
        else:
            there = self._state.get(kind, f"{name}/{version}") is not None
        if not there:
            raise missing(f"Not found: {collection} asset with {{name: {name}, version: {version}}} was not found.")


def _nodes(jobs: dict[str, Any]) -> Iterator[Doc]:
    for node in jobs.values():
        if isinstance(node, dict):
            yield node
            yield from _nodes(node.get("jobs") or {})
