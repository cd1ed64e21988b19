"""Where in the storage account a URI leads: every form that Azure ML takes for data."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tests.emulators.azureml.state import State

_MAX_HOPS = 8
"""A data version may point to an output, which may be a data version …; a circle ends here."""


class Place(NamedTuple):
    """A blob, or the folder of all blobs below `path/`. path has no leading slash; "" is the whole container."""

    container: str
    path: str


def resolve(uri: str, state: State, host: str) -> Place:
    """host: of the workspace's own account; other accounts cannot be reached from here. ValueError says why not."""
    for _ in range(_MAX_HOPS):
        if uri.startswith(("https://", "wasbs://")):
            return _of_account(uri, host)
        text = uri.removeprefix("azureml:").removeprefix("//").lstrip("/")
        found = _datastore(text, state)
        if found is not None:
            return found
        uri = _next(text, uri, state)
    raise ValueError(f"{uri} leads in a circle")


def _of_account(uri: str, host: str) -> Place:
    parts = urlsplit(uri)
    if parts.hostname is not None and parts.hostname.casefold() != host:
        raise ValueError(f"{parts.hostname} is no storage account of this workspace, and nothing else can be reached")
    if parts.scheme == "wasbs":
        return Place(parts.username or "", unquote(parts.path).lstrip("/"))
    container, _, path = unquote(parts.path).lstrip("/").partition("/")
    return Place(container, path)


def _datastore(text: str, state: State) -> Place | None:
    """`datastores/D/paths/P`, short or with the workspace in front; the artifact store's own URIs are without `paths/`."""
    found = re.fullmatch(r"(?:subscriptions/.*/)?datastores/([^/]+)(?:/(?:paths(?:/|$))?(.*))?", text, re.IGNORECASE)
    if found is None:
        return None
    doc = state.get("datastore", found[1])
    if doc is None:
        raise ValueError(f"there is no datastore {found[1]}")
    return Place(doc["properties"]["containerName"], (found[2] or "").lstrip("/"))


_Next = Callable[[re.Match[str], State], str | None]


def _next(text: str, uri: str, state: State) -> str:
    """What the URI of an asset or of a job's output stands for, again as a URI."""
    for pattern, find in _FORMS:
        if found := re.fullmatch(pattern, text, re.IGNORECASE):
            if (target := find(found, state)) is not None:
                return target
            break
    raise ValueError(f"{uri} leads nowhere in this workspace")


def _data_version(found: re.Match[str], state: State) -> str | None:
    doc = state.get("data", f"{found['name']}/{found['version']}")
    if doc is not None:
        return str(doc["properties"]["dataUri"])
    # Outputs of jobs are data versions, too, which nobody registered.
    run = re.fullmatch(r"azureml_(.+)_output_data_(.+)", found["name"])
    return _output(run[1], run[2], state) if run else None


def _latest(found: re.Match[str], state: State) -> str | None:
    docs = [doc for doc in state.list("data") if f"/data/{found['name']}/versions/" in doc["id"]]
    return str(docs[-1]["properties"]["dataUri"]) if docs else None


def _job_output(found: re.Match[str], state: State) -> str | None:
    base = _output(found["job"], found["output"], state)
    return f"{base.rstrip('/')}/{found['path']}" if base and found["path"] else base


def _output(run_id: str, name: str, state: State) -> str | None:
    """name `artifacts` and `default`: the run's folder in the artifact store."""
    run = state.get("run", run_id)
    if run is None:
        return None
    if name in ("artifacts", "default"):
        return f"azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{run_id}"
    asset = (run.get("outputs") or {}).get(name)
    return str(run["_outputs"][asset["assetId"]]["uri"]) if asset else None


_FORMS: tuple[tuple[str, _Next], ...] = (
    (r"(?:subscriptions|locations)/.*/data/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", _data_version),
    (r"(?:subscriptions|locations)/.*/data/(?P<name>[^/]+)/labels/latest", _latest),
    (r"(?:subscriptions/.*/)?jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)(?:/paths/(?P<path>.*))?/?", _job_output),
    (r"(?P<name>[^/:@]+)@latest", _latest),
    (r"(?P<name>[^/:@]+):(?P<version>[^/:@]+)", _data_version),
)
