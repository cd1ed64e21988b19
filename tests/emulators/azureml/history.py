"""The run history on the regional data plane: what became of jobs and of the steps of pipelines."""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, uuid5

from tests.emulators.azureml import names
from tests.emulators.azureml.jobs import TERMINAL
from tests.emulators.azureml.odata import predicate
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import Answer, Call, Route, ServiceError, api

H = "/history/v1.0{WS}"
_EXPERIMENT = r"(/experiments/(?P<experiment>[^/]+)|/experimentids/(?P<experimentid>[^/]+))"
_EDITS = {"displayName", "description", "tags", "properties", "hidden"}
PAGE = 100


class Signer(Protocol):
    """What is needed of the blobs here."""

    def sas(self, container: str, path: str | None, permissions: str, minutes: float) -> str: ...


class Canceler(Protocol):
    def cancel(self, run_id: str) -> None: ...


class History:
    def __init__(self, state: State, blobs: Signer, runs: Canceler, profile: Profile) -> None:
        self._state, self._blobs, self._runs, self._profile = state, blobs, runs, profile

    def routes(self) -> list[Route]:
        run = rf"{H}{_EXPERIMENT}?/runs/(?P<run>[^/:]+)"
        return [
            api("GET", run, lambda call: Answer(self._shown(self._run(call)))),
            api("PATCH", run, self._patch),
            api("GET", f"{run}/details", self._details),
            api("GET", f"{run}/children", self._children),
            api("GET", f"{run}/services", lambda call: Answer({}) if self._run(call) else Answer()),
            api("GET", rf"{run}/serviceinstances/(?P<node>\d+)", self._no_instance),
            api("POST", f"{run}/cancel", self._cancel),
            api("POST", f"{H}/rundata", self._data),
            api("POST", f"{H}/batchrundata", self._batch_data),
            api("POST", f"{H}{_EXPERIMENT}?/runs:query", self._query),
            api("POST", f"{H}{_EXPERIMENT}/runs/runIds", self._by_ids),
            api("GET", r"/history/v1.0{WS}/computes/(?P<compute>[^/]+)/runs", self._on_compute),
            api("GET", f"{H}{_EXPERIMENT}", self._experiment),
            api("POST", f"{H}/experiments:query", self._experiments),
            api("POST", r"/data/v1.0{WS}/dataversion/batchGetResolvedUris", self._uris),
        ]

    def _find(self, run_id: str) -> Doc:
        run = self._state.get("run", run_id)
        if run is None:
            raise ServiceError(404, "UserError", f"Run {run_id} was not found", (("NotFoundError", "RunNotFound"),))
        return run

    def _run(self, call: Call) -> Doc:
        return self._find(call.parts["run"])

    def _shown(self, run: Doc) -> Doc:
        """Without the execution's own members, with the types of outputs as the switch says."""
        shown = {member: value for member, value in run.items() if not member.startswith("_")}
        shown["experimentId"] = experiment_id(str(run.get("experimentName") or "Default"))
        shown["outputs"] = {
            name: {**output, "type": self._typed(output.get("type"))}
            for name, output in (run.get("outputs") or {}).items()
        }
        return shown

    def _typed(self, type_: object) -> object:
        if type_ in {"UriFolder", "uri_folder"}:
            return self._profile.folder_type
        if type_ in {"UriFile", "uri_file"}:
            return "UriFile" if self._profile.folder_type == "UriFolder" else "uri_file"
        return type_

    def _patch(self, call: Call) -> Answer:
        given = {member: value for member, value in call.whole().items() if value is not None}
        if strange := sorted(set(given) - _EDITS - {"runId"}):
            raise ServiceError(400, "UserError", f"Could not find member '{strange[0]}' on object of type 'ModifyRun'.")
        run = self._state.update("run", self._run(call)["runId"], lambda run: _merge(run, given))
        assert run is not None
        if "hidden" in given:
            given["isArchived"] = given.pop("hidden")
        self._state.update("job", run["runId"], lambda job: _merge(job["properties"], given))
        return Answer(self._shown(run))

    def _details(self, call: Call) -> Answer:
        run = self._run(call)
        minutes = self._profile.sas_lifetime_s / 60
        container = names.CONTAINERS[names.ARTIFACT_STORE]
        logs = {name: self._blobs.sas(container, path, "r", minutes) for name, path in (run.get("_logs") or {}).items()}
        shown = self._shown(run)
        known = (
            "runId", "runUuid", "parentRunUuid", "rootRunUuid", "status", "parentRunId", "startTimeUtc", "endTimeUtc",
            "error", "warnings", "tags", "properties", "inputs", "outputs", "runTypeV2", "compute", "rootRunId",
        )  # fmt: skip
        details = {member: shown.get(member) for member in known}
        target = (run.get("compute") or {}).get("target")
        return Answer(details | {"createdTimeUtc": run.get("createdUtc"), "target": target, "logFiles": logs})

    def _children(self, call: Call) -> Answer:
        run = self._run(call)
        return self._paged(call, self._state.list("run", parentRunId=run["runId"]))

    def _on_compute(self, call: Call) -> Answer:
        wanted = call.parts["compute"]
        found = [run for run in self._state.list("run") if (run.get("compute") or {}).get("target") == wanted]
        return self._paged(call, found)

    def _paged(self, call: Call, runs: list[Doc]) -> Answer:
        """By `$top` and `$continuationtoken`, as GETs of lists are."""
        keep = predicate(call.query.get("$filter", ""))
        begin = _place(call.query.get("$continuationtoken") or call.query.get("continuationToken"))
        body = self._page([run for run in runs if keep(run)], begin, call.query.get("$top"))
        if token := body["continuationToken"]:
            query = {**call.query, "$continuationtoken": token}
            body["nextLink"] = f"https://{call.host}{call.path}?{urlencode(query)}"
        return Answer(body)

    def _page(self, runs: list[Doc], begin: int, top: Any) -> Doc:
        end = begin + min(PAGE, int(top or PAGE))
        token = str(end) if end < len(runs) else None
        return {"value": [self._shown(run) for run in runs[begin:end]], "continuationToken": token, "nextLink": None}

    def _query(self, call: Call) -> Answer:
        """By filter; newest first unless asked otherwise."""
        given = call.whole()
        keep = predicate(given.get("filter") or "")
        runs = [run for run in self._in_experiment(call, self._state.list("run")) if keep(self._shown(run))]
        order = str(given.get("orderBy") or "CreatedUtc desc").lower()
        member = {"createdutc": "createdUtc", "starttimeutc": "startTimeUtc", "endtimeutc": "endTimeUtc"}
        runs.sort(
            key=lambda run: str(run.get(member.get(order.split()[0], "createdUtc")) or ""), reverse="desc" in order
        )
        return Answer(self._page(runs, _place(given.get("continuationToken")), given.get("top")))

    def _in_experiment(self, call: Call, runs: list[Doc]) -> list[Doc]:
        if name := call.parts.get("experiment"):
            return [run for run in runs if run.get("experimentName") == name]
        if wanted := call.parts.get("experimentid"):
            return [run for run in runs if experiment_id(str(run.get("experimentName"))) == wanted]
        return runs

    def _by_ids(self, call: Call) -> Answer:
        found, failed = {}, {}
        for run_id in call.whole().get("runIds") or []:
            try:
                found[run_id] = self._shown(self._find(run_id))
            except ServiceError as error:
                failed[run_id] = error.answer().body
        return Answer({"runs": found, "errors": failed})

    def _data(self, call: Call) -> Answer:
        run = self._find(str(call.whole().get("runId")))
        return Answer(
            {"runMetadata": self._shown(run), "runDefinition": None, "jobSpecification": None, "systemSettings": None}
        )

    def _batch_data(self, call: Call) -> Answer:
        """Many at once: `{"requests": {key: {"runId", "selectRunMetadata"}}}`."""
        found, failed = {}, {}
        for key, asked in (call.whole().get("requests") or {}).items():
            try:
                run = self._find(str(asked.get("runId")))
            except ServiceError as error:
                failed[key] = error.answer().body
                continue
            metadata = self._shown(run) if asked.get("selectRunMetadata", True) else None
            found[key] = {"runMetadata": metadata, "runDefinition": None, "jobSpecification": None}
        return Answer({"successfulResults": found, "failedResults": failed})

    def _cancel(self, call: Call) -> Answer:
        run = self._run(call)
        if run["status"] not in TERMINAL:
            self._runs.cancel(run["runId"])
        return Answer(self._shown(self._find(run["runId"])))

    def _no_instance(self, call: Call) -> Answer:
        self._run(call)
        raise ServiceError(404, "UserError", "No service instance of this node was found.")

    def _experiments(self, call: Call) -> Answer:
        found = dict.fromkeys(job["experiment"] for job in self._state.list("job"))
        return Answer({"value": [self._described(name) for name in found], "continuationToken": None, "nextLink": None})

    def _experiment(self, call: Call) -> Answer:
        for name in dict.fromkeys(job["experiment"] for job in self._state.list("job")):
            if name == call.parts["experiment"] or experiment_id(name) == call.parts["experimentid"]:
                return Answer(self._described(name))
        raise ServiceError(404, "UserError", "Experiment was not found.")

    def _described(self, name: str) -> Doc:
        created = next(job["created"] for job in self._state.list("job") if job["experiment"] == name)
        return {
            "experimentId": experiment_id(name), "name": name, "description": None, "createdUtc": created, "tags": {},
            "archivedTime": None, "retainForLifetimeOfWorkspace": False, "artifactLocation": None,
        }  # fmt: skip

    def _uris(self, call: Call) -> Answer:
        """Where the assets that runs made are: registered outputs by their ids."""
        known: Doc = {}
        for run in self._state.list("run"):
            known |= run.get("_outputs") or {}
        wanted = call.whole().get("values") or []
        found = {
            asset: {**known[asset], "type": self._typed(known[asset]["type"])} for asset in wanted if asset in known
        }
        return Answer({"values": found})


def experiment_id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{names.WORKSPACE_ID}/{name}"))


def _merge(doc: Doc, given: Doc) -> None:
    """tags and properties are added to, everything else replaced."""
    for member, value in given.items():
        if member in {"tags", "properties"} and isinstance(value, dict):
            doc[member] = {**(doc.get(member) or {}), **value}
        elif member != "runId":
            doc[member] = value


def _place(token: Any) -> int:
    return int(token) if str(token or "").isdigit() else 0
