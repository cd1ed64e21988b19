"""Faults on order: refusals, lost answers, cut bodies, and requests that are held until a test lets them go."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import pytest

from tests.emulators.azureml.fixture import Service, eventually
from tests.emulators.azureml.tests.client import Client, Sdk

PATH = "/environments/faulty/versions/{}"


def put(client: Client, version: int) -> Any:
    return client.arm("PUT", PATH.format(version), {"properties": {"image": "a"}})


def there(client: Client, version: int) -> bool:
    return client.arm("GET", PATH.format(version)).status == 200


def test_the_nth_request_is_refused_as_often_as_asked(azureml: Service, client: Client) -> None:
    rule = azureml.admin.fault(method="PUT", path="/faulty/", skip=1, count=2, status=429, retry_after="3")
    replies = [put(client, number) for number in range(1, 5)]
    assert [reply.status for reply in replies] == [201, 429, 429, 201]
    assert replies[1].headers["Retry-After"] == "3"
    assert (azureml.admin.hits(rule), there(client, 2)) == (2, False)


@pytest.mark.parametrize(("when", "known"), [("before", False), ("after", True)])
def test_an_answer_is_lost_before_or_after_the_deed(azureml: Service, client: Client, when: str, known: bool) -> None:
    version = 10 + known
    azureml.admin.fault(method="PUT", path="/faulty/", reset=True, when=when)
    with pytest.raises((OSError, HTTPException)):
        put(client, version)
    assert there(client, version) is known


def test_a_download_is_cut(azureml: Service, client: Client) -> None:
    sas = client.arm("POST", "/datastores/workspaceblobstore/listSecrets", {}).body["sasToken"]
    url = f"https://emustore.blob.core.windows.net/azureml/cut/blob{sas}"
    assert client.open("PUT", url, b"x" * 1000, x_ms_blob_type="BlockBlob").status == 201
    azureml.admin.fault(host="blob", path="/cut/blob", cut=300)
    with pytest.raises(HTTPException) as cut:
        client.open("GET", url)
    assert "300 bytes read" in str(cut.value)
    assert client.open("GET", url).body == b"x" * 1000


def test_an_upload_is_broken_off(azureml: Service, client: Client) -> None:
    sas = client.arm("POST", "/datastores/workspaceblobstore/listSecrets", {}).body["sasToken"]
    url = f"https://emustore.blob.core.windows.net/azureml/broken/blob{sas}"
    azureml.admin.fault(method="PUT", host="blob", path="/broken/", reset=True)
    with pytest.raises(OSError, match=r".+"):
        client.open("PUT", url, b"x" * 5_000_000, x_ms_blob_type="BlockBlob")
    assert client.open("GET", url).status == 404


def test_a_request_is_held_and_let_go(azureml: Service, client: Client) -> None:
    client.signed_in()
    azureml.admin.fault(method="PUT", path="/faulty/", pause=True)
    client.arm("GET", "")
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(put, client, 20)
        held = azureml.admin.paused()
        assert (held["method"], held["when"], reply.done()) == ("PUT", "before", False)
        assert not there(client, 20)
        assert azureml.admin.release(held["n"])
        assert reply.result(30).status == 201


def test_a_client_that_is_killed_while_held_never_asked(azureml: Service, client: Client, sdk: Sdk) -> None:
    azureml.admin.fault(method="PUT", path="/environments/", pause=True)
    process = sdk.start('client.environments.create_or_update(Environment(name="faulty", version="30", image="a"))')
    held = azureml.admin.paused(60)
    process.kill()
    process.communicate()
    eventually(lambda: not azureml.admin.ask("GET", "/paused"), "the request is given up")
    assert held["path"].endswith("/environments/faulty/versions/30")
    assert not there(client, 30)


def test_a_client_that_is_killed_after_the_deed_did_it(azureml: Service, client: Client, sdk: Sdk) -> None:
    azureml.admin.fault(method="PUT", path="/environments/", pause=True, when="after")
    process = sdk.start('client.environments.create_or_update(Environment(name="faulty", version="31", image="a"))')
    held = azureml.admin.paused(60)
    process.kill()
    process.communicate()
    assert there(client, 31)
    azureml.admin.release(held["n"])


def test_the_sdk_retries_what_it_is_told_to(azureml: Service, sdk: Sdk) -> None:
    rule = azureml.admin.fault(path="/environments/", count=2, status=429, retry_after="1")
    begin = time.monotonic()
    shown = sdk.run("""
        made = client.environments.create_or_update(Environment(name="faulty", version="40", image="a"))
        show(version=made.version)
    """)
    assert (shown["version"], azureml.admin.hits(rule)) == ("40", 2)
    assert time.monotonic() - begin > 2


def test_every_answer_is_late_by_the_latency(azureml: Service, client: Client) -> None:
    client.arm("GET", "")
    azureml.admin.switch(latency_s=0.5)
    begin = time.monotonic()
    client.arm("GET", "")
    assert time.monotonic() - begin >= 0.5


@pytest.mark.parametrize("wrong", [{"colour": 1}, {"path": "("}])
def test_a_rule_that_is_wrong_is_refused(azureml: Service, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        azureml.admin.fault(**wrong)
    with pytest.raises(ValueError, match="no switch"):
        azureml.admin.switch(colour=1)
