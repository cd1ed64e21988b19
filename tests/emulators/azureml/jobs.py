"""Jobs on the resource manager: submitted by PUT under a name, read, listed, canceled."""

from __future__ import annotations

import re
from threading import Lock
from typing import Any, Protocol

from tests.emulators.azureml import members, names
from tests.emulators.azureml.armlist import envelope, page, shown, strict, system_data
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.references import References
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import MANAGEMENT, Answer, Call, Route, ServiceError, arm, missing

TERMINAL = {"Completed", "Failed", "Canceled", "NotResponding", "Paused"}
_CHANGEABLE = {"description", "tags", "displayName", "properties", "isArchived"}
_SERVICE_S = {"status", "services", "parentJobName"}
"""Members that the service sets itself; a client that sends a job back sends them too."""


class Runs(Protocol):
    """What is needed of the execution here."""

    def check(self, properties: Doc) -> ServiceError | None: ...

    def begin(self, job_name: str) -> None: ...

    def cancel(self, run_id: str) -> None: ...


class Jobs:
    def __init__(self, state: State, runs: Runs, profile: Profile, references: References) -> None:
        self._state, self._runs, self._profile, self._references = state, runs, profile, references
        self._putting = Lock()

    def routes(self) -> list[Route]:
        operations = (
            r"/subscriptions/(?P<sub>[^/]+)/providers/Microsoft\.MachineLearningServices/locations/(?P<loc>[^/]+)"
            r"/mfeOperationResults/jc:(?P<wsid>[^:]+):(?P<name>[^/]+)"
        )
        one = r"/jobs/(?P<name>[^/]+)"
        return [
            arm("GET", "/jobs", self._list),
            arm("PUT", one, self._put),
            arm("GET", one, self._get),
            arm("POST", f"{one}/cancel", self._cancel),
            Route("GET", r"management\.azure\.com", operations, self._canceled, MANAGEMENT, versioned=True),
        ]

    def _put(self, call: Call) -> Answer:
        """201: submitted. 200: it was there, with this content; what may change of it is changed."""
        name = call.parts["name"]
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}", name):
            raise ServiceError(400, "UserError", f"Invalid job name '{name}'.")
        properties = call.whole().get("properties")
        type_ = members.job(str((properties or {}).get("jobType")), call.version)
        if not isinstance(properties, dict) or type_ is None:
            raise ServiceError(400, "UserError", "Request is invalid and/or missing fields.")
        strict(call, type_, properties)
        with self._putting:
            if (old := self._state.get("job", name)) is not None:
                return Answer(self._change(old, properties, call.version))
            self._references.check_job(properties)
            _check_command(properties)
            if refusal := self._runs.check(properties):
                raise refusal
            experiment = properties.get("experimentName") or "Default"
            job = {"name": name, "properties": properties, "created": names.now(), "experiment": experiment}
            self._state.put("job", name, job)
            self._runs.begin(name)
        location = f"https://{call.host}{call.path}?api-version={call.version}"
        return Answer(self._shown(job, call.version, new=True), 201, {"Location": location})

    def _change(self, old: Doc, given: Doc, version: str) -> Doc:
        there = _settled(old["properties"])
        asked = _settled(given)
        changed = [member for member in sorted(there | asked) if there.get(member) != asked.get(member)]
        if changed:
            listed = ",  ".join(member[0].upper() + member[1:] for member in changed)
            raise ServiceError(
                400,
                "UserError",
                "A job with this name already exists. If you are trying to create a new job, use a different name. "
                f"If you are trying to update an existing job, the existing job's {listed} cannot be changed. "
                "Only description, tags, displayName, properties, and isArchived can be updated.",
            )
        edits = {member: given[member] for member in _CHANGEABLE & set(given) if given[member] is not None}
        old["properties"] |= edits
        self._state.put("job", old["name"], old)
        shared = {member: value for member, value in edits.items() if member in {"description", "tags", "displayName"}}
        self._state.update("run", old["name"], lambda run: run.update(shared))
        return self._shown(old, version)

    def _get(self, call: Call) -> Answer:
        name = call.parts["name"]
        if (job := self._state.get("job", name)) is not None:
            return Answer(self._shown(job, call.version))
        run = self._state.get("run", name)
        if run is None:
            raise missing(f"Not found: job with name {name} was not found.")
        child = envelope("jobs", f"jobs/{name}", {}, str(run.get("createdUtc") or names.now()))
        del child["properties"]  # this is how clients know a child; all about it is in the run history (recorded)
        return Answer(child)

    def _list(self, call: Call) -> Answer:
        """Newest first."""
        found = [job for job in reversed(self._state.list("job")) if _wanted(call, job["properties"])]
        answer = page(call, found)
        answer.body["value"] = [self._shown(job, call.version) for job in answer.body["value"]]
        return answer

    def _cancel(self, call: Call) -> Answer:
        name = call.parts["name"]
        if self._state.get("job", name) is None and self._state.get("run", name) is None:
            raise missing(f"Not found: job with name {name} was not found.")
        if (status := self._status(name)) in TERMINAL | {"Finalizing"}:
            # That it is an error is known of Finalizing (Azure/azureml-assets#2496); its words are not.
            raise ServiceError(400, "UserError", f"Job {name} cannot be canceled: its status is {status}.")
        self._runs.cancel(name)
        return self._canceling(call, name)

    def _canceled(self, call: Call) -> Answer:
        """The cancellation as an operation: 202 until the job is over."""
        name = call.parts["name"]
        return Answer() if self._status(name) in TERMINAL else self._canceling(call, name)

    def _canceling(self, call: Call, name: str) -> Answer:
        operation = (
            f"https://{call.host}/subscriptions/{names.SUBSCRIPTION}/providers/{names.PROVIDER}/locations/{names.LOCATION}"
            f"/mfeOperationResults/jc:{names.WORKSPACE_ID}:{name}?api-version={call.version}"
        )
        return Answer(None, 202, {"Location": operation, "Retry-After": "1"})

    def _status(self, name: str) -> str:
        return str((self._state.get("run", name) or {}).get("status", "NotStarted"))

    def _shown(self, job: Doc, version: str, *, new: bool = False) -> Doc:
        """As answered: with what the service adds, and null for what was not set (recorded)."""
        given = {member: value for member, value in job["properties"].items() if value is not None}
        run = self._state.get("run", job["name"]) or {}
        status = "Starting" if new and run.get("status") == "NotStarted" else run.get("status", "NotStarted")
        properties = _BLANK | _KIND_BLANKS[given["jobType"]] | given
        properties |= {"status": status, "services": _services(job["name"]), "experimentName": job["experiment"]}
        properties["displayName"] = run.get("displayName") or given.get("displayName") or job["name"]
        told = run.get("properties") or {}  # what the execution says of it, such as the best trial of a sweep
        properties["properties"] = {**(given.get("properties") or {}), **told, **_compute_properties(given)}
        properties["outputs"] = self._outputs(job["name"], given)
        if given["jobType"] == "Command":
            resources = given.get("resources") or {}
            kept = {member: value for member, value in resources.items() if value is not None}
            properties["resources"] = _RESOURCES | kept
        if version >= "2025":
            properties.setdefault("parentJobName", None)
        doc = envelope("jobs", f"jobs/{job['name']}", properties)
        return doc | {"systemData": system_data(job["created"])}

    def _outputs(self, name: str, given: Doc) -> Doc:
        empty = {"description": None, "uri": None, "assetName": None, "mode": "ReadWriteMount"}
        outputs = {
            key: empty | {m: v for m, v in value.items() if v is not None} for key, value in _dicts(given, "outputs")
        }
        for key, output in outputs.items():
            if output["uri"] is None:
                end = "" if output["jobOutputType"] == "uri_file" else "/"
                output["uri"] = f"azureml://datastores/{names.DEFAULT_STORE}/paths/azureml/${{{{name}}}}/{key}{end}"
        if given["jobType"] == "Command" and self._profile.default_output:
            uri = f"azureml://datastores/{names.ARTIFACT_STORE}/ExperimentRun/dcid.{name}"
            outputs["default"] = {**empty, "uri": uri, "jobOutputType": "uri_folder"}
        return outputs


_BLANK: Doc = {
    "description": None, "tags": {}, "properties": {}, "computeId": None, "isArchived": False, "identity": None,
    "componentId": None, "notificationSetting": None, "inputs": {}, "outputs": {},
}  # fmt: skip
_KIND_BLANKS: dict[str, Doc] = {
    "Command": {
        "codeId": None, "distribution": None, "limits": None, "environmentVariables": {}, "parameters": {},
        "queueSettings": {"jobTier": "Null"},
    },
    "Pipeline": {"settings": {}, "sourceJobId": None, "jobs": {}},
    "Sweep": {"earlyTermination": None, "limits": None, "queueSettings": {"jobTier": "Null"}},
}  # fmt: skip
_RESOURCES: Doc = {
    "instanceCount": 1, "instanceType": None, "properties": None, "shmSize": "2g", "dockerArgs": None,
}  # fmt: skip


def _wanted(call: Call, properties: Doc) -> bool:
    """By listViewType, jobType, and tag, which is `name` or `name=value`."""
    tags = properties.get("tags") or {}
    tag, _, value = call.query.get("tag", "").partition("=")
    if (tag and tag not in tags) or (value and tags.get(tag) != value):
        return False
    kind = call.query.get("jobType", properties["jobType"])
    return bool(kind == properties["jobType"]) and shown(call, properties.get("isArchived"))


def _settled(properties: Doc) -> Doc:
    """What may not change of a job, without what is not set."""
    return {
        member: value
        for member, value in properties.items()
        if member not in _CHANGEABLE | _SERVICE_S and value not in (None, {}, [])
    }


def _dicts(properties: Doc, member: str) -> list[tuple[str, Doc]]:
    return [(key, value) for key, value in (properties.get(member) or {}).items() if isinstance(value, dict)]


def _services(name: str) -> Doc:
    blank: dict[str, Any] = {"port": None, "status": None, "errorMessage": None, "properties": None, "nodes": None}
    where = f"/subscriptions/{names.SUBSCRIPTION}/resourcegroups/{names.GROUP}/workspaces/{names.WORKSPACE}"
    tracking = f"azureml://{names.API_HOST}/mlflow/v1.0{names.WORKSPACE_ARM}?"
    return {
        "Tracking": {**blank, "jobServiceType": "Tracking", "endpoint": tracking},
        "Studio": {**blank, "jobServiceType": "Studio", "endpoint": f"https://ml.azure.com/runs/{name}?wsid={where}"},
    }


def _compute_properties(given: Doc) -> Doc:
    compute = given.get("computeId")
    if given["jobType"] != "Command" or not compute:
        return {}
    return {"_azureml.ComputeTargetType": "amlctrain", "_azureml.ClusterName": names.last(compute)}


def _check_command(properties: Doc) -> None:
    """What a command needs, here or in the trial of a sweep."""
    kind = properties["jobType"]
    if kind not in {"Command", "Sweep"} or properties.get("componentId"):
        return
    command = properties if kind == "Command" else properties.get("trial") or {}
    lacking = [member for member in ("command", "environmentId") if not command.get(member)]
    if lacking:
        details = tuple(
            ("ValidationError", f"The {member[0].upper()}{member[1:]} field is required.") for member in lacking
        )
        raise ServiceError(400, "UserError", "Request is invalid and/or missing fields.", details)
    limits = (properties.get("limits") or {}).get("timeout")
    if limits is not None and not re.fullmatch(r"P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?", str(limits)):
        raise ServiceError(400, "UserError", f"Error converting value \"{limits}\" to type 'System.TimeSpan'.")
