"""The questions that are asked of a workspace: jobs, run history, datastores. One method each, plain data back."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from runner.backends.azureml.rest import MANAGEMENT, Rest
from runner.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.backends.azureml.target import Target

Json = dict[str, Any]

_JOBS, _CANCEL, _STORES = "2024-01-01-preview", "2023-04-01-preview", "2024-10-01-preview"
"""The versions that azure-ai-ml asks with, so that we see what it sees."""
_RESOLVE = "1.5.0"
_BATCH = 200
"""Runs that are asked for in one question."""


@dataclass(slots=True)
class Service:
    """A workspace of Azure ML."""

    rest: Rest
    target: Target
    _host: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # -- the management API ---------------------------------------------------------------------------------------

    def workspace(self) -> Json:
        """The workspace itself."""
        return self._arm("GET", "", _STORES, f"the workspace {self.target.workspace}")

    def job(self, name: str) -> Json:
        """A job as ARM has it. A child of a pipeline has no `properties`.

        Raises:
            NotFoundError: there is none.
        """
        return self._arm("GET", f"/jobs/{_part(name)}", _JOBS, f"the job {name}")

    def jobs(self, *, archived: bool = False) -> Iterator[Json]:
        """The jobs of the workspace, the newest first, page by page."""
        view = "All" if archived else "ActiveOnly"
        url, query = f"{MANAGEMENT}{self.target.path}/jobs", {"api-version": _JOBS, "listViewType": view}
        yield from self._pages("GET", url, "the list of jobs", query)

    def cancel(self, name: str) -> None:
        """Ask for a job's end; it takes a while.

        Raises:
            NotFoundError: there is none. BackendError: it has ended, or cannot be canceled.
        """
        self._arm("POST", f"/jobs/{_part(name)}/cancel", _CANCEL, f"the cancellation of {name}", body={})

    def datastore(self, name: str) -> Json:
        """What a datastore is."""
        return self._arm("GET", f"/datastores/{_part(name)}", _STORES, f"the datastore {name}")

    def default_datastore(self) -> str:
        """The name of the one that outputs go to if nothing else is said."""
        query = {"isDefault": "true", "count": "1"}
        found = self._arm("GET", "/datastores", _STORES, "the default datastore", query=query)
        first = next(iter(found.get("value") or []), None)
        return str(first["name"]) if isinstance(first, dict) else "workspaceblobstore"

    def secrets(self, name: str) -> Json:
        """What opens a datastore: `sasToken`, or `key`."""
        body = {"expirableSecret": True, "expireAfterHours": 1}
        return self._arm("POST", f"/datastores/{_part(name)}/listSecrets", _STORES, f"the datastore {name}", body=body)

    # -- the run history ------------------------------------------------------------------------------------------

    def runs(self, ids: Sequence[str], *, patience_s: float | None = None) -> dict[str, Json | None]:
        """Runs of the history, jobs and children alike; None: it knows of none such. 200 are one question.

        One that the service could not tell of is left out.
        """
        found: dict[str, Json | None] = {}
        for start in range(0, len(ids), _BATCH):
            found |= self._batch(ids[start : start + _BATCH], patience_s)
        return found

    def _batch(self, part: Sequence[str], patience_s: float | None) -> dict[str, Json | None]:
        requests = {one: {"runId": one, "selectRunMetadata": True} for one in part}
        what = f"the states of {len(part)} runs" if len(part) > 1 else f"the state of {part[0]}"
        answer = self._history("POST", "/batchrundata", what, body={"requests": requests}, patience_s=patience_s)
        there, failed = answer.get("successfulResults") or {}, answer.get("failedResults") or {}
        found: dict[str, Json | None] = {}
        for one in part:
            run = (there.get(one) or {}).get("runMetadata")
            if run or _unknown(failed.get(one)):
                found[one] = run or None
        return found

    def details(self, run: str, *, patience_s: float | None = None) -> Json:
        """Status and log files (name → address with a signature) of a run."""
        return self._history("GET", f"/runs/{_part(run)}/details", f"the run {run}", patience_s=patience_s)

    def children(self, run: str, *, patience_s: float | None = None) -> list[Json]:
        """The children of a run, the first to be made first."""
        url = f"{self.host()}/history/v1.0{self.target.path}/runs/{_part(run)}/children"
        found = list(self._pages("GET", url, f"the steps of {run}", {}, patience_s=patience_s))
        return sorted(found, key=lambda one: str(one.get("createdUtc") or ""))

    def rundata(self, run: str) -> Json:
        """A run with its outputs."""
        body = {"runId": run, "selectRunMetadata": True}
        answer = self._history("POST", "/rundata", f"the outputs of {run}", body=body)
        return dict(answer.get("runMetadata") or {})

    def resolved(self, assets: Sequence[str]) -> dict[str, Json]:
        """Ids of data → `uri` (azureml://, long) and `type` of each."""
        if not assets:
            return {}
        url = f"{self.host()}/data/v1.0{self.target.path}/dataversion/batchGetResolvedUris"
        body, query = {"values": list(assets)}, {"api-version": _RESOLVE}
        answer = self.rest.ask("POST", url, "where outputs are", body=body, query=query).json()
        return {str(name): one for name, one in (answer.get("values") or {}).items() if isinstance(one, dict)}

    def host(self) -> str:
        """The workspace's own host, `https://REGION.api.azureml.ms`; asked for once."""
        with self._lock:
            if not self._host:
                found = self.workspace().get("properties") or {}
                url = str(found.get("discoveryUrl") or "")
                if not url:
                    raise BackendError(f"the workspace {self.target.workspace} does not say where its API is")
                api = str(self.rest.ask("GET", url, "the workspace's API").json().get("api") or "")
                parts = urlsplit(api)
                self._host = f"https://{parts.netloc}"
            return self._host

    # -- how ------------------------------------------------------------------------------------------------------

    def _arm(
        self,
        method: str,
        path: str,
        version: str,
        what: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        whole = {"api-version": version, **(query or {})}
        return _mapping(
            self.rest.ask(method, f"{MANAGEMENT}{self.target.path}{path}", what, body=body, query=whole).json()
        )

    def _history(
        self, method: str, path: str, what: str, *, body: object = None, patience_s: float | None = None
    ) -> Json:
        url = f"{self.host()}/history/v1.0{self.target.path}{path}"
        return _mapping(self.rest.ask(method, url, what, body=body, patience_s=patience_s).json())

    def _pages(
        self, method: str, url: str, what: str, query: Mapping[str, str], *, patience_s: float | None = None
    ) -> Iterator[Json]:
        """What a list holds, over all its pages. A page that names itself as the next ends it."""
        seen: set[str] = set()
        here, there = url, dict(query)
        while True:
            page = _mapping(self.rest.ask(method, here, what, query=there, patience_s=patience_s).json())
            yield from (one for one in page.get("value") or [] if isinstance(one, dict))
            link, token = str(page.get("nextLink") or ""), str(page.get("continuationToken") or "")
            if not (mark := link or token) or mark in seen:
                return
            seen.add(mark)
            here, there = (link, {}) if link else (url, {**query, "$continuationToken": token})


def _part(name: str) -> str:
    return quote(name, safe="")


def _mapping(answer: Any) -> Json:
    if not isinstance(answer, dict):
        raise BackendError("an answer of Azure ML is not what it should be (no object)", "report this, please")
    return answer


def _unknown(failed: Any) -> bool:
    """Whether an error says that there is no such run; one that says anything else is no answer."""
    error = failed.get("error", failed) if isinstance(failed, dict) else {}
    return (
        re.search(r"not.?found|no such|does not exist", f"{error.get('code')} {error.get('message')}", re.IGNORECASE)
        is not None
    )
