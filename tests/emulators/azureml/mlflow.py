"""MLflow's REST API as a workspace has it, for runs that its jobs are: what a job logs ends in its run document.

Paths: https://REGION.api.azureml.ms/mlflow/v1.0/subscriptions/…/workspaces/WS/api/2.0/mlflow/… (v2.0 as well), as
azureml-mlflow calls them; bodies as MLflow's own REST API documents them.

`_metrics` of a run document: name → [{"value": number or "NaN", …, "timestamp": milliseconds, "step"}], in the order of
arrival; `_params`: name → text. Tags become tags of the run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.emulators.azureml import names
from tests.emulators.azureml.aad import Tokens
from tests.emulators.azureml.history import experiment_id
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import DATA_PLANE, Answer, Call, Route, ServiceError, api

API = r"/mlflow/v(?P<version>1\.0|2\.0){WS}/api/2\.0/mlflow"
_MOST = {"metrics": 1000, "params": 100, "tags": 100}
_TEXT_MOST = {"params": 8000, "tags": 5000}
_STATUSES = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED", "NotStarted": "SCHEDULED"}
_WORDS = {"NaN", "Infinity", "-Infinity"}
_METRIC: Mapping[str, Callable[[Any], bool]] = {
    "key": lambda each: isinstance(each, str) and 0 < len(each) <= 250,
    "value": lambda each: each in _WORDS if isinstance(each, str) else _number(each),
    "timestamp": lambda each: _number(each) and float(each).is_integer(),
    "step": lambda each: _number(each) and float(each).is_integer(),
}


class MlFlow:
    def __init__(self, state: State, tokens: Tokens) -> None:
        self._state, self._tokens = state, tokens

    def routes(self) -> list[Route]:
        ways: tuple[tuple[str, str, Callable[[Call], Answer]], ...] = (
            ("POST", "runs/log-batch", self._batch),
            ("POST", "runs/log-metric", self._metric),
            ("POST", "runs/log-parameter", self._parameter),
            ("POST", "runs/set-tag", self._tag),
            ("POST", "runs/update", self._update),
            ("GET", "runs/get", lambda call: Answer({"run": _shown(self._run(call.query.get("run_id")))})),
            ("GET", "metrics/get-history", self._history),
        )
        own = [api(method, f"{API}/{path}", handler) for method, path, handler in ways]
        renewal = r"/history/v1\.0{WS}/experimentids/(?P<experiment>[^/]+)/runs/(?P<run>[^/]+)/token"
        return [*own, api("GET", renewal, self._renew)]

    def _run(self, run_id: object) -> Doc:
        if not isinstance(run_id, str) or not run_id:
            raise _invalid("Missing value for required parameter 'run_id'")
        run = self._state.get("run", run_id)
        if run is None:
            raise MlFlowError(404, "RESOURCE_DOES_NOT_EXIST", f"Run with id {run_id} was not found")
        return run

    def _renew(self, call: Call) -> Answer:
        run = self._run(call.parts["run"])
        if call.parts["experiment"] != run["experimentId"]:
            raise ServiceError(404, "UserError", "Experiment was not found.")
        given = self._tokens.give(DATA_PLANE[-1])
        return Answer({"token": given["access_token"], "expiryTimeUtc": names.now(given["expires_in"])})

    # -- writing ----------------------------------------------------------------------------------------------------

    def _batch(self, call: Call) -> Answer:
        body = _members(call, "run_id", "metrics", "params", "tags")
        run = self._run(body.get("run_id"))
        for kind, most in _MOST.items():
            if len(body.get(kind) or []) > most:
                raise _invalid(f"A batch logging request can contain at most {most} {kind}.")
        if sum(len(body.get(kind) or []) for kind in _MOST) > 1000:
            raise _invalid("A batch logging request can contain at most 1000 entities.")
        return self._log(run, body)

    def _metric(self, call: Call) -> Answer:
        body = _members(call, "run_id", "run_uuid", *_METRIC)
        metric = {name: body[name] for name in _METRIC if name in body}
        return self._log(self._run(body.get("run_id")), {"metrics": [metric]})

    def _parameter(self, call: Call) -> Answer:
        body = _members(call, "run_id", "run_uuid", "key", "value")
        return self._log(self._run(body.get("run_id")), {"params": [_pair(body)]})

    def _tag(self, call: Call) -> Answer:
        body = _members(call, "run_id", "run_uuid", "key", "value")
        return self._log(self._run(body.get("run_id")), {"tags": [_pair(body)]})

    def _log(self, run: Doc, body: Doc) -> Answer:
        """All of it or nothing."""
        metrics = [_checked_metric(each) for each in body.get("metrics") or []]
        params = dict(_checked_pair("params", each) for each in body.get("params") or [])
        tags = dict(_checked_pair("tags", each) for each in body.get("tags") or [])

        def change(doc: Doc) -> None:
            known = doc.setdefault("_params", {})
            for name, text in params.items():
                if known.get(name, text) != text:
                    raise _invalid(f"Changing param values is not allowed. Param with key='{name}' was already logged")
            known.update(params)
            doc["tags"] = {**(doc.get("tags") or {}), **tags}
            kept = doc.setdefault("_metrics", {})
            for name, point in metrics:
                kept.setdefault(name, []).append(point)

        self._state.update("run", run["runId"], change)
        return Answer({})

    def _update(self, call: Call) -> Answer:
        """Its status is the service's own matter, whatever a client says of it."""
        body = _members(call, "run_id", "run_uuid", "status", "end_time", "run_name")
        run = self._run(body.get("run_id"))
        if name := body.get("run_name"):
            run = self._state.update("run", run["runId"], lambda doc: doc.update(displayName=name)) or run
        return Answer({"run_info": _shown(run)["info"]})

    # -- reading ----------------------------------------------------------------------------------------------------

    def _history(self, call: Call) -> Answer:
        run = self._run(call.query.get("run_id"))
        name = call.query.get("metric_key")
        return Answer({"metrics": [{"key": name, **point} for point in (run.get("_metrics") or {}).get(name, [])]})


class MlFlowError(ServiceError):
    """In MLflow's own envelope."""

    def answer(self) -> Answer:
        return Answer({"error_code": self.code, "message": self.message}, self.status)


def _invalid(message: str) -> MlFlowError:
    return MlFlowError(400, "INVALID_PARAMETER_VALUE", message)


def _members(call: Call, *known: str) -> Doc:
    body = call.whole()
    if strange := sorted(set(body) - set(known)):
        raise _invalid(f"Message has no field named '{strange[0]}'")
    return body


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _pair(body: Doc) -> Doc:
    return {name: body[name] for name in ("key", "value") if name in body}


def _checked_metric(given: Any) -> tuple[str, Doc]:
    metric = {"step": 0, **given} if isinstance(given, dict) else {}
    for name, fits in _METRIC.items():
        if name not in metric or not fits(metric[name]):
            raise _invalid(f"Invalid value {metric.get(name)!r} for parameter 'metrics.{name}' supplied")
    if strange := sorted(set(metric) - set(_METRIC)):
        raise _invalid(f"Message has no field named '{strange[0]}'")
    return metric.pop("key"), metric


def _checked_pair(kind: str, given: Any) -> tuple[str, str]:
    pair = given if isinstance(given, dict) else {}
    if set(pair) != {"key", "value"} or not all(isinstance(each, str) for each in pair.values()) or not pair["key"]:
        raise _invalid(f"Invalid value {given!r} for parameter '{kind}' supplied")
    if len(pair["value"]) > _TEXT_MOST[kind]:
        raise _invalid(f"{kind} value of {pair['key']!r} had length {len(pair['value'])}, which exceeded length limit")
    return pair["key"], pair["value"]


def _shown(run: Doc) -> Doc:
    latest = {name: max(points, key=lambda each: each["step"]) for name, points in (run.get("_metrics") or {}).items()}
    return {
        "info": {
            "run_id": run["runId"], "run_uuid": run["runId"], "run_name": run["displayName"],
            "experiment_id": experiment_id(run["experimentName"]), "status": _STATUSES.get(run["status"], "RUNNING"),
            "start_time": int(time.time() * 1000), "artifact_uri": "", "lifecycle_stage": "active", "user_id": "",
        },
        "data": {
            "metrics": [{"key": name, **point} for name, point in latest.items()],
            "params": [{"key": name, "value": text} for name, text in (run.get("_params") or {}).items()],
            "tags": [{"key": name, "value": text} for name, text in (run.get("tags") or {}).items()],
        },
    }  # fmt: skip
