"""What the emulated workspace is called, and the identifiers that the service derives from it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

SUBSCRIPTION = "5b1c0a52-7f0e-4b6a-9d53-0e1f00000001"
TENANT = "5b1c0a52-7f0e-4b6a-9d53-0e1f00000002"
CLIENT = "5b1c0a52-7f0e-4b6a-9d53-0e1f00000003"
PRINCIPAL = "5b1c0a52-7f0e-4b6a-9d53-0e1f00000004"
WORKSPACE_PRINCIPAL = "5b1c0a52-7f0e-4b6a-9d53-0e1f00000006"
"""PRINCIPAL is the client's object id, this one the workspace's managed identity; computes have their own."""
WORKSPACE_ID = "5b1c0a52-7f0e-4b6a-9d53-0e1f00000005"
GROUP, WORKSPACE, LOCATION = "emu-rg", "emu-ws", "eastus"
REGISTRY, VAULT = "emuregistry", "emuvault"
COMPUTES = ("cpu-cluster", "defaultcompute")

API_HOST = f"{LOCATION}.api.azureml.ms"
PROVIDER = "Microsoft.MachineLearningServices"
GROUP_ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
WORKSPACE_ARM = f"{GROUP_ID}/providers/{PROVIDER}/workspaces/{WORKSPACE}"
DEFAULT_STORE, ARTIFACT_STORE = "workspaceblobstore", "workspaceartifactstore"
CONTAINERS = {DEFAULT_STORE: f"azureml-blobstore-{WORKSPACE_ID}", ARTIFACT_STORE: "azureml"}


def arm(*parts: str) -> str:
    """The ARM id of something in the workspace: `arm("jobs", "a")`."""
    return "/".join((WORKSPACE_ARM, *parts))


def versioned(collection: str, reference: str) -> tuple[str, str] | None:
    """(name, version) that a reference names: an ARM id, `azureml:/…` of one, `azureml:NAME:VERSION`, or of these with a
    label, `NAME@LABEL` or `…/labels/LABEL`: the version is `@LABEL` then. None: it is none of them."""
    text = reference.removeprefix("azureml:")
    forms = (
        rf"/.*/{collection}/(?P<name>[^/]+)/versions/(?P<version>[^/]+)",
        rf"/.*/{collection}/(?P<name>[^/]+)/labels/(?P<label>[^/]+)",
        *(
            (r"(?P<name>[^/:@]+):(?P<version>[^/:@]+)", r"(?P<name>[^/:@]+)@(?P<label>[^/:@]+)")
            if text != reference
            else ()
        ),
    )
    for form in forms:
        if found := re.fullmatch(form, text, re.IGNORECASE):
            parts = found.groupdict()
            return parts["name"], parts.get("version") or f"@{parts['label']}"
    return None


def long_uri(uri: str) -> str:
    """`azureml://datastores/…` with the workspace in it, as the service writes it into data assets; others as they are."""
    short = "azureml://datastores/"
    if not uri.startswith(short):
        return uri
    scope = f"subscriptions/{SUBSCRIPTION}/resourcegroups/{GROUP}/workspaces/{WORKSPACE}"
    return f"azureml://{scope}/datastores/{uri.removeprefix(short)}"


def last(reference: str) -> str:
    """`cpu-cluster` of its ARM id, of `azureml:cpu-cluster`, and of itself."""
    return reference.rsplit("/", 1)[-1].removeprefix("azureml:")


def now(seconds: float = 0) -> str:
    """The service's way to write a time, which is UTC."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
