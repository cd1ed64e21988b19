"""MLflow's API of the workspace, and Key Vault, as a job meets them."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.emulators.azureml import names
from tests.emulators.azureml.fixture import Service
from tests.emulators.azureml.tests.client import API, Client, Reply

RUNS = f"{API}/mlflow/v1.0{names.WORKSPACE_ARM}/api/2.0/mlflow"
VAULT = f"https://{names.VAULT}.vault.azure.net/secrets"


def as_bearer(client: Client, token: str, method: str, url: str, body: Any = None) -> Reply:
    return client.ask(method, url, body, Authorization=f"Bearer {token}")


class Job:
    """A run, and requests about it."""

    def __init__(self, service: Service, client: Client) -> None:
        self.id, uid = f"run-{uuid.uuid4().hex[:8]}", str(uuid.uuid4())
        self.service, self.client, self.token = service, client, client.signed_in()
        service.admin.change(
            "run", self.id, runId=self.id, runUuid=uid, experimentName="e", experimentId="e-id", displayName="shown",
            status="Running", tags={}, properties={}, _metrics={}, outputs={},
        )  # fmt: skip

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, token: str = "", **query: str) -> Reply:
        whole = None if body is None else {"run_id": self.id, **body}
        return as_bearer(self.client, token or self.token, method, f"{RUNS}/{path}?{urlencode(query)}", whole)

    @property
    def doc(self) -> dict[str, Any]:
        return next(run for run in self.service.admin.documents("run") if run["runId"] == self.id)


@pytest.fixture
def job(azureml: Service, client: Client) -> Job:
    return Job(azureml, client)


def point(key: str, value: Any, step: int = 0) -> dict[str, Any]:
    return {"key": key, "value": value, "timestamp": 1700000000000, "step": step}


def test_what_is_logged_is_in_the_run(job: Job) -> None:
    batch = {"metrics": [point("loss", 0.5), point("loss", "NaN", 1)], "params": [{"key": "lr", "value": "0.1"}]}
    assert job.ask("POST", "runs/log-batch", {**batch, "tags": [{"key": "a", "value": "b"}]}).status == 200
    assert job.ask("POST", "runs/log-metric", point("loss", 0.25, 2)).status == 200
    assert job.ask("POST", "runs/set-tag", {"key": "c", "value": "d"}).status == 200
    assert job.ask("POST", "runs/log-parameter", {"key": "depth", "value": "3"}).status == 200
    assert [each["value"] for each in job.doc["_metrics"]["loss"]] == [0.5, "NaN", 0.25]
    assert (job.doc["_params"], job.doc["tags"]) == ({"lr": "0.1", "depth": "3"}, {"a": "b", "c": "d"})
    history = job.ask("GET", "metrics/get-history", run_id=job.id, metric_key="loss")
    assert [each["step"] for each in history.body["metrics"]] == [0, 1, 2]
    shown = job.ask("GET", "runs/get", run_id=job.id).body["run"]
    assert shown["data"]["metrics"] == [point("loss", 0.25, 2)]
    assert shown["info"]["status"] == "RUNNING"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"metrics": [point("loss", None)]}, "metrics.value"),
        ({"metrics": [point("", 1)]}, "metrics.key"),
        ({"metrics": [{"key": "loss", "value": 1}]}, "metrics.timestamp"),
        ({"metrics": [point("loss", 1, 1) | {"extra": 1}]}, "extra"),
        ({"metrics": [point("loss", 1)] * 1001}, "at most 1000"),
        ({"params": [{"key": "a", "value": 1}]}, "params"),
        ({"params": [{"key": "a", "value": "x" * 8001}]}, "exceeded length limit"),
        ({"metriks": []}, "metriks"),
    ],
)
def test_what_the_service_refuses_changes_nothing(job: Job, body: dict[str, Any], said: str) -> None:
    reply = job.ask("POST", "runs/log-batch", {"tags": [{"key": "t", "value": "v"}], **body})
    assert (reply.status, reply.body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert said in reply.body["message"]
    assert job.doc["tags"] == {}


def test_a_parameter_does_not_change(job: Job) -> None:
    for value, status in (("1", 200), ("1", 200), ("2", 400)):
        assert job.ask("POST", "runs/log-parameter", {"key": "lr", "value": value}).status == status


def test_only_known_runs_and_good_tokens(job: Job) -> None:
    assert job.ask("GET", "runs/get", token="no.such.token", run_id=job.id).status == 401
    gone = job.ask("GET", "runs/get", run_id="no-such-run")
    assert (gone.status, gone.body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_token_is_replaced(job: Job) -> None:
    place = f"{API}/history/v1.0{names.WORKSPACE_ARM}/experimentids/e-id/runs/{job.id}/token"
    found = as_bearer(job.client, job.token, "GET", place)
    assert job.ask("GET", "runs/get", token=found.body["token"], run_id=job.id).status == 200
    assert as_bearer(job.client, job.token, "GET", place.replace("e-id", "x")).status == 404


def vault(client: Client, method: str, name: str, body: Any = None, token: str | None = None) -> Reply:
    given = client.signed_in("https://vault.azure.net/.default") if token is None else token
    return as_bearer(client, given, method, f"{VAULT}/{name}?api-version=7.4", body)


def test_a_vault_keeps_and_gives_secrets(azureml: Service, client: Client) -> None:
    assert vault(client, "PUT", "db-password", {"value": "hunter2"}).status == 200
    found = vault(client, "GET", "db-password")
    assert (found.body["value"], found.body["attributes"]["enabled"]) == ("hunter2", True)
    missing = vault(client, "GET", "other")
    assert (missing.status, missing.body["error"]["code"]) == (404, "SecretNotFound")
    vault(client, "PUT", "old", {"value": "x", "attributes": {"enabled": False}})
    assert vault(client, "GET", "old").body["error"]["innererror"] == {"code": "SecretDisabled"}
    wrong = vault(client, "GET", "db-password", token=client.signed_in())
    assert (wrong.status, wrong.body["error"]["code"]) == (401, "Unauthorized")
    azureml.admin.switch(vault_role=False)
    refused = vault(client, "GET", "db-password")
    assert (refused.status, refused.body["error"]["innererror"]) == (403, {"code": "ForbiddenByRbac"})


def test_no_secret_is_in_the_journal(azureml: Service, client: Client) -> None:
    vault(client, "PUT", "hidden", {"value": "swordfish-1"})
    vault(client, "GET", "hidden")
    assert "swordfish-1" not in str(azureml.admin.requests())
