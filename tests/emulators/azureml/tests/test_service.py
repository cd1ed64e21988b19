"""The service's side without any job that runs: what it answers, and all that it refuses."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from tests.emulators.azureml import names
from tests.emulators.azureml.fixture import Service, running
from tests.emulators.azureml.tests.client import API, ARM, HISTORY, Client

WS = f"{ARM}{names.WORKSPACE_ARM}"
OLD = "2024-01-01-preview"


@pytest.fixture
def job(azureml: Service) -> dict[str, Any]:
    """A command job that could be put."""
    azureml.admin.change(
        "environment", "e/1", id=names.arm("environments", "e", "versions", "1"), name="1", properties={}
    )
    return {
        "jobType": "Command",
        "command": "true",
        "computeId": names.arm("computes", "cpu-cluster"),
        "environmentId": names.arm("environments", "e", "versions", "1"),
    }


def put(client: Client, properties: dict[str, Any], name: str = "never", version: str = "2025-01-01-preview") -> Any:
    return client.arm("PUT", f"/jobs/{name}", {"properties": properties}, version)


def test_a_token_is_needed_and_looked_at(client: Client) -> None:
    url = f"{WS}?api-version=2024-10-01"
    without = client.open("GET", url)
    assert (without.status, without.body["error"]["code"]) == (401, "AuthenticationFailed")
    assert without.headers["WWW-Authenticate"].startswith("Bearer ")
    forged = jwt.encode({"aud": ARM, "exp": time.time() + 60}, "x" * 40, "HS256")
    for token in ("nonsense", forged):
        reply = client.open("GET", url, Authorization=f"Bearer {token}")
        assert (reply.status, reply.body["error"]["code"]) == (401, "InvalidAuthenticationToken")
    other = client.signed_in("https://storage.azure.com/.default")
    reply = client.open("GET", url, Authorization=f"Bearer {other}")
    assert (reply.status, reply.body["error"]["code"]) == (401, "InvalidAuthenticationTokenAudience")
    assert client.ask("GET", url).status == 200


def test_tokens_expire(azureml: Service, client: Client) -> None:
    azureml.admin.switch(token_lifetime_s=1)
    token = client.signed_in()
    end = time.time() + 30
    while (reply := client.open("GET", f"{WS}?api-version=2024-10-01", Authorization=f"Bearer {token}")).status == 200:
        assert time.time() < end
        time.sleep(0.1)
    assert (reply.status, reply.body["error"]["code"]) == (401, "ExpiredAuthenticationToken")


def test_a_wrong_secret_and_a_wrong_tenant_are_refused(client: Client) -> None:
    form = f"grant_type=client_credentials&client_id={names.CLIENT}&scope=x&client_secret=wrong".encode()
    url = "https://login.microsoftonline.com/{}/oauth2/v2.0/token"
    reply = client.open("POST", url.format(names.TENANT), form)
    assert (reply.status, reply.body["error"]) == (401, "invalid_client")
    assert client.open("POST", url.format("another"), form).status == 400


def test_a_managed_identity_has_tokens(azureml: Service, client: Client) -> None:
    import urllib.error
    import urllib.request

    url = (
        azureml.env["RUNNER_EMULATOR_IDENTITY_ENDPOINT"]
        + "?resource=https://management.azure.com&api-version=2019-08-01"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(url)
    refused.value.close()
    header = {"X-IDENTITY-HEADER": azureml.env["RUNNER_EMULATOR_IDENTITY_HEADER"]}
    with opener.open(urllib.request.Request(url, headers=header)) as answer:
        import json

        client.token = json.load(answer)["access_token"]
    assert client.arm("GET", "").status == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (names.WORKSPACE_ARM.replace(names.SUBSCRIPTION, names.TENANT), "SubscriptionNotFound"),
        (names.WORKSPACE_ARM.replace(names.GROUP, "another"), "ResourceGroupNotFound"),
        (names.WORKSPACE_ARM.replace(names.WORKSPACE, "another"), "ResourceNotFound"),
        (f"{names.WORKSPACE_ARM}/computes/another", "ResourceNotFound"),
        (f"{names.WORKSPACE_ARM}/jobs/another", "UserError"),
        (f"{names.WORKSPACE_ARM}/environments/another", "UserError"),
        (f"{names.WORKSPACE_ARM}/datastores/another", "UserError"),
    ],
)
def test_what_is_not_there_is_404(client: Client, path: str, code: str) -> None:
    reply = client.ask("GET", f"{ARM}{path}?api-version=2024-10-01-preview")
    assert (reply.status, reply.body["error"]["code"]) == (404, code)


def test_an_api_version_is_needed(client: Client) -> None:
    assert client.ask("GET", WS).body["error"]["code"] == "MissingApiVersionParameter"
    reply = client.arm("GET", "", version="2019-01-01-preview")
    assert (reply.status, reply.body["error"]["code"]) == (400, "NoRegisteredProviderFound")


def test_paths_are_taken_in_any_case(client: Client) -> None:
    assert client.ask("GET", f"{WS.upper().replace('HTTPS', 'https')}?api-version=2024-10-01").status == 200


def test_the_workspace_names_what_belongs_to_it(client: Client) -> None:
    workspace = client.arm("GET", "", version="2024-10-01-preview").body
    assert workspace["identity"]["type"] == "SystemAssigned"
    assert workspace["properties"]["containerRegistry"].endswith("/registries/emuregistry")
    assert workspace["properties"]["keyVault"].endswith("/vaults/emuvault")
    assert client.open("GET", workspace["properties"]["discoveryUrl"]).body["api"] == API
    computes = client.arm("GET", "/computes").body["value"]
    assert [compute["name"] for compute in computes] == list(names.COMPUTES)
    assert client.arm("POST", "/computes/cpu-cluster/listNodes").body == {"nodes": []}


def test_workspaces_are_listed_and_connections_keep_their_secrets(azureml: Service, client: Client) -> None:
    workspace = client.arm("GET", "").body
    for place in (f"/subscriptions/{names.SUBSCRIPTION}", names.GROUP_ID):
        every = f"{ARM}{place}/providers/{names.PROVIDER}/workspaces?api-version=2024-10-01"
        assert client.ask("GET", every).body["value"] == [workspace]
    properties = {"category": "ContainerRegistry", "target": "https://r", "credentials": {"password": "secret"}}
    azureml.admin.change("connection", "r", name="r", properties=properties)
    (told,) = client.arm("GET", "/connections").body["value"]
    assert told["properties"] == {"category": "ContainerRegistry", "target": "https://r", "credentials": None}
    azureml.admin.ask("DELETE", "/documents/connection/r")


@pytest.mark.parametrize("secrets", ["Sas", "AccountKey", "None"])
def test_datastores_have_the_credentials_of_the_switch(azureml: Service, client: Client, secrets: str) -> None:
    azureml.admin.switch(secrets=secrets)
    (store,) = client.arm("GET", "/datastores?isDefault=true&count=30").body["value"]
    assert (store["name"], store["properties"]["credentials"]["credentialsType"]) == ("workspaceblobstore", secrets)
    reply = client.arm("POST", "/datastores/workspaceblobstore/listSecrets", {"expirableSecret": True})
    if secrets == "None":
        assert reply.status == 400
        return
    assert reply.body["secretsType"] == secrets
    if secrets == "Sas":
        listed = client.open(
            "GET", f"https://emustore.blob.core.windows.net/azureml{reply.body['sasToken']}&restype=container&comp=list"
        )
        assert listed.status == 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 1}, "Could not find member 'colour' on object of type 'CommandJob'"),
        ({"limits": {"jobLimitsType": "Command", "cpu": 1}}, "'cpu' on object of type 'CommandJobLimits'"),
        ({"resources": {"gpus": 1}}, "'gpus' on object of type 'JobResourceConfiguration'"),
        (
            {"outputs": {"o": {"jobOutputType": "uri_folder", "assetVersion": "1"}}},
            "'assetVersion' on object of type 'UriFolderJobOutput'",
        ),
        ({"inputs": {"i": {"jobInputType": "literal", "uri": "x"}}}, "'uri' on object of type 'LiteralJobInput'"),
        ({"distribution": {"distributionType": "PyTorch", "nodes": 1}}, "'nodes' on object of type 'PyTorch'"),
        ({"command": None}, "The Command field is required."),
        ({"limits": {"jobLimitsType": "Command", "timeout": "60"}}, "Error converting value"),
        ({"computeId": names.arm("computes", "gone")}, "Unknown compute target 'gone'."),
        (
            {"inputs": {"i": {"jobInputType": "uri_file", "uri": "azureml://datastores/gone/paths/a"}}},
            "datastore: gone",
        ),
        (
            {"outputs": {"o": {"jobOutputType": "uri_file", "uri": "azureml://datastores/gone/paths/a"}}},
            "datastore: gone",
        ),
        ({"jobType": "Dance"}, "Request is invalid"),
    ],
)
def test_a_job_that_is_wrong_is_refused(client: Client, job: dict[str, Any], change: dict[str, Any], said: str) -> None:
    reply = put(client, job | change)
    assert reply.status == 400
    assert said in reply.error
    assert client.arm("GET", "/jobs/never").status == 404


def test_every_unknown_member_is_named(client: Client, job: dict[str, Any]) -> None:
    reply = put(client, job | {"colour": 1, "shape": 2})
    assert len(reply.body["error"]["details"]) == 2


def test_a_member_may_be_known_to_an_older_version_only(client: Client, job: dict[str, Any]) -> None:
    wrong = job | {"command": None, "outputs": {"o": {"jobOutputType": "uri_folder", "assetVersion": "1"}}}
    assert "assetVersion" in put(client, wrong).error
    assert "assetVersion" not in put(client, wrong, version=OLD).error


@pytest.mark.parametrize(
    "change",
    [
        {"environmentId": names.arm("environments", "gone", "versions", "1")},
        {"environmentId": "azureml:gone@latest"},
        {"codeId": names.arm("codes", "gone", "versions", "1")},
        {"inputs": {"i": {"jobInputType": "uri_file", "uri": names.arm("data", "gone", "versions", "1")}}},
    ],
)
def test_assets_that_a_job_names_are_there(client: Client, job: dict[str, Any], change: dict[str, Any]) -> None:
    reply = put(client, job | change)
    assert reply.status == 404
    assert "gone" in reply.error


def test_versions_of_assets_do_not_change(client: Client) -> None:
    path, old = "/environments/env1/versions/7", "2023-04-01-preview"
    assert client.arm("PUT", path, {"properties": {"image": "a", "colour": 1}}, old).status == 400
    assert client.arm("PUT", path, {"properties": {"image": "a"}}, old).status == 201
    assert client.arm("PUT", path, {"properties": {"image": "a", "description": "d"}}, old).status == 200
    changed = client.arm("PUT", path, {"properties": {"image": "b"}}, old)
    assert (changed.status, "image cannot be changed" in changed.error) == (409, True)
    container = client.arm("GET", "/environments/env1", version=old).body["properties"]
    assert (container["latestVersion"], container["nextVersion"]) == ("7", "8")
    client.arm("PUT", "/environments/env1/versions/8", {"properties": {"image": "c"}}, old)
    newest = client.arm("GET", "/environments/env1/versions?$orderBy=createdtime%20desc&$top=1", version=old).body
    assert [version["name"] for version in newest["value"]] == ["8"]
    client.arm("PUT", path, {"properties": {"image": "a", "isArchived": True}}, old)
    active = client.arm("GET", "/environments/env1/versions?listViewType=ActiveOnly", version=old).body["value"]
    assert [version["name"] for version in active] == ["8"]


def test_a_code_snapshot_is_found_by_its_hash(client: Client) -> None:
    old = "2023-04-01"
    properties = {"codeUri": "https://x/y", "properties": {"hash_sha256": "h1", "hash_version": "202208"}}
    made = client.arm("PUT", "/codes/one/versions/1", {"properties": properties}, old).body
    found = client.arm("GET", "/codes/two/versions?hash=h1&hashVersion=202208", version=old).body["value"]
    assert [code["id"] for code in found] == [made["id"]]
    assert client.arm("GET", "/codes/two/versions?hash=h2&hashVersion=202208", version=old).body["value"] == []
    upload = client.arm(
        "POST", "/codes/two/versions/1/startPendingUpload", {"pendingUploadType": "TemporaryBlobReference"}, old
    ).body["blobReferenceForConsumption"]
    where, _, signature = upload["credential"]["sasUri"].partition("?")
    assert where == upload["blobUri"]
    blob = client.open("PUT", f"{where}/a?{signature}", b"text", x_ms_blob_type="BlockBlob")
    assert blob.status == 201
    assert client.open("GET", f"{where}/a?{signature}").body == b"text"


def history(azureml: Service, count: int) -> None:
    """A root with that many children, as the execution would write them."""
    common = {"experimentName": "exp", "rootRunId": "root", "_job": "root", "tags": {}, "properties": {}}
    azureml.admin.change("run", "root", runId="root", status="Running", createdUtc=names.now(), **common)
    for number in range(count):
        azureml.admin.change(
            "run", f"child{number:03}", runId=f"child{number:03}", parentRunId="root", status="Completed",
            createdUtc=names.now(), outputs={"o": {"assetId": f"asset{number}", "type": "UriFolder"}}, **common,
        )  # fmt: skip


def test_children_come_in_pages_and_without_properties(azureml: Service, client: Client) -> None:
    history(azureml, 130)
    first = client.ask("GET", f"{HISTORY}/runs/root/children").body
    second = client.ask("GET", first["nextLink"]).body
    assert (len(first["value"]), len(second["value"]), second["nextLink"]) == (100, 30, None)
    assert not any(member.startswith("_") for member in first["value"][0])
    assert "properties" not in client.arm("GET", "/jobs/child000", version=OLD).body


def test_many_runs_are_read_at_once(azureml: Service, client: Client) -> None:
    history(azureml, 2)
    asked = {key: {"runId": key, "selectRunMetadata": True} for key in ("root", "child001", "gone")}
    reply = client.ask("POST", f"{HISTORY}/batchrundata", {"requests": asked}).body
    assert {key: found["runMetadata"]["status"] for key, found in reply["successfulResults"].items()} == {
        "root": "Running", "child001": "Completed",
    }  # fmt: skip
    assert list(reply["failedResults"]) == ["gone"]
    by_ids = client.ask("POST", f"{HISTORY}/experiments/exp/runs/runIds", {"runIds": ["root", "gone"]}).body
    assert (list(by_ids["runs"]), list(by_ids["errors"])) == (["root"], ["gone"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RunId eq 'child000' or runId eq 'child001'", {"child000", "child001"}),
        ("ParentRunId eq 'root' and Status ne 'Completed'", set()),
        ("(Status eq 'Running' or tags/kind eq 'x') and RootRunId eq 'root'", {"root"}),
    ],
)
def test_runs_are_found_by_a_filter(azureml: Service, client: Client, text: str, expected: set[str]) -> None:
    history(azureml, 2)
    found = client.ask("POST", f"{HISTORY}/runs:query", {"filter": f"RootRunId eq 'root' and ({text})"}).body["value"]
    names_ = {run["runId"] for run in found}
    assert names_ & {"root", "child000", "child001"} == expected
    assert client.ask("POST", f"{HISTORY}/runs:query", {"filter": "RunId eq"}).status == 400


@pytest.mark.parametrize(("switch", "type_"), [("UriFolder", "UriFolder"), ("uri_folder", "uri_folder")])
def test_the_type_of_an_output_is_written_as_the_switch_says(
    azureml: Service, client: Client, switch: str, type_: str
) -> None:
    history(azureml, 1)
    azureml.admin.switch(folder_type=switch)
    run = client.ask("POST", f"{HISTORY}/rundata", {"runId": "child000"}).body["runMetadata"]
    assert run["outputs"]["o"]["type"] == type_


def test_a_run_is_tagged_and_renamed(azureml: Service, client: Client) -> None:
    history(azureml, 1)
    url = f"{HISTORY}/experiments/exp/runs/root"
    client.ask("PATCH", url, {"tags": {"a": "1"}})
    run = client.ask("PATCH", url, {"tags": {"b": "2"}, "displayName": "new"}).body
    assert (run["tags"], run["displayName"], run["status"]) == ({"a": "1", "b": "2"}, "new", "Running")
    assert client.ask("PATCH", url, {"status": "Completed"}).status == 400


def test_what_is_not_known_is_written_down_and_nothing_leaves(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("unknown")) as service:
        client = Client(service.env)
        assert client.arm("GET", "/onlineEndpoints").status == 501
        with pytest.raises(OSError, match="403"):
            client.open("GET", "https://example.com/")
        with pytest.raises(OSError, match="403"):
            client.open("GET", "https://management.azure.com.example.com/")
        unknown = service.admin.unhandled()
        assert [(entry["method"], entry["host"]) for entry in unknown] == [
            ("GET", "management.azure.com"),
            ("CONNECT", "example.com:443"),
            ("CONNECT", "management.azure.com.example.com:443"),
        ]


def test_the_journal_has_no_secret(azureml: Service, client: Client) -> None:
    sas = client.arm("POST", "/datastores/workspaceblobstore/listSecrets", {}).body["sasToken"]
    client.open("GET", f"https://emustore.blob.core.windows.net/azureml{sas}&restype=container&comp=list")
    text = (azureml.folder / "requests.jsonl").read_text()
    assert client.token not in text
    assert azureml.env["AZURE_CLIENT_SECRET"] not in text
    assert "sig=" not in text
    assert '"sig"' not in text
    assert '"restype"' in text
