"""A workspace as the management API describes it: documents by path. What is not in it answers 404."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.backends.azureml.target import Target
from runner.errors import NotFoundError

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
TARGET = Target(SUBSCRIPTION, "rg", "ws")
_HOST = "https://management.azure.com"


@dataclass
class Document:
    body: Any

    def json(self) -> Any:
        return self.body


@dataclass
class Workspace:
    """documents: ARM id (below the workspace, or whole) → what it answers; an exception is raised. asked: every question."""

    documents: dict[str, Any]
    asked: list[str] = field(default_factory=list)

    def ask(self, method: str, url: str, what: str, *, query: Mapping[str, str] | None = None) -> Document:
        assert method == "GET"
        assert "api-version" in (query or {}) or "api-version=" in url
        path = url.removeprefix(_HOST).removeprefix(TARGET.path)
        self.asked.append(path)
        found = self.documents.get(path)
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise NotFoundError(f"{what} is not there")
        return Document(found)


def page(*entries: Any, following: str = "") -> dict[str, Any]:
    return {"value": list(entries), **({"nextLink": following} if following else {})}


def cluster(name: str, *, most: int = 4, nodes: int = 0, state: str = "Steady", **more: Any) -> dict[str, Any]:
    """A cluster as the service describes it; `provisioningState` and `identity` by `more`."""
    own = {
        "vmSize": "STANDARD_DS3_V2",
        "vmPriority": "Dedicated",
        "scaleSettings": {"minNodeCount": 0, "maxNodeCount": most, "nodeIdleTimeBeforeScaleDown": "PT120S"},
        "allocationState": state,
        "currentNodeCount": nodes,
        "errors": None,
    }
    outer = {
        "computeType": "AmlCompute",
        "computeLocation": "eastus",
        "provisioningState": "Succeeded",
        "properties": own,
    }
    outer |= {key: value for key, value in more.items() if key != "identity"}
    return {"name": name, "location": "eastus", "properties": outer, "identity": more.get("identity")}


def instance(name: str, state: str) -> dict[str, Any]:
    own = {"vmSize": "STANDARD_DS3_V2", "state": state}
    outer = {"computeType": "ComputeInstance", "computeLocation": "eastus", "provisioningState": "Succeeded"}
    return {"name": name, "location": "eastus", "properties": {**outer, "properties": own}}


def region(limit: int, used: int = 0, family: str = "Standard DSv2 Family Cluster Dedicated vCPUs") -> dict[str, Any]:
    """Sizes and quota of the region, by their paths."""
    place = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/locations/eastus"
    usage = {"name": {"value": family, "localizedValue": family}, "currentValue": used, "limit": limit}
    low = {"name": {"value": "Standard DSv2 Family Cluster LowPriority vCPUs"}, "currentValue": 0, "limit": 1}
    one = {**usage, "id": f"{TARGET.path}/usages/one", "limit": 2}
    return {
        f"{place}/vmSizes": page({"name": "Standard_DS3_v2", "family": "standardDSv2Family", "vCPUs": 4}),
        f"{place}/usages": page(usage, low, one),
    }
