"""Faults of the service and the network: waited for, never told as the end of a run, and never a second job."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.backends.azureml import credential
from runner.backends.azureml.rest import Rest
from runner.backends.base import Phase
from runner.errors import BackendError, NotFoundError, UnavailableError
from runner.model import Reason
from tests.azureml.conftest import Bench

if TYPE_CHECKING:
    from runner.backends.base import Handle, Task
    from runner.model import Outcome
    from tests.azureml.conftest import Emulator

pytestmark = pytest.mark.docker

_SLOW = "import time\nfor i in range({count}):\n    print('line', i, flush=True)\n    time.sleep(0.25)\n"


def expected(count: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(count))


def patient(bench: Bench, task: Task, handle: Handle) -> Outcome:
    """Its outcome, asked for again while it is not known, as the engine does."""
    end = time.monotonic() + 90
    while True:
        try:
            return bench.outcome(task, handle)
        except UnavailableError:
            assert time.monotonic() < end
            bench.backend.wait(0.2)


def told(bench: Bench, handle: Handle) -> str:
    """Why nothing is known of it, once that is so."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            bench.backend.poll([handle])
        except UnavailableError as error:
            return str(error)
        bench.backend.wait(0.2)
    raise AssertionError("it is known all the time")


@pytest.mark.parametrize(
    "rule",
    [
        {"path": "batchrundata", "status": 429, "retry_after": "1", "count": 3},
        {"path": "batchrundata", "status": 503, "count": 3},
        {"path": "batchrundata", "status": 401, "count": 1},
        {"path": "batchrundata", "reset": True, "count": 4},
        {"path": "/details", "status": 500, "count": 4},
        {"host": "blob", "method": "GET", "reset": True, "count": 6},
        {"host": "blob", "method": "GET", "status": 503, "count": 6},
        {"path": "rundata", "when": "after", "cut": 20, "count": 2},
        {"path": "batchGetResolvedUris", "status": 502, "count": 2},
        {"path": "listSecrets", "status": 429, "retry_after": "1", "count": 2},
    ],
    ids=str,
)
def test_what_passes_is_waited_for(bench: Bench, rule: dict[str, Any]) -> None:
    text = _SLOW.format(count=8) + "import os\nopen(os.environ['RUNNER_OUTPUT_M'] + '/m', 'w').write('m')\n"
    task = bench.task(text, outputs={"m": "uri_folder"})
    handle = bench.backend.submit(task)
    bench.emulator.admin.fault(**rule)
    outcome = patient(bench, task, handle)
    assert (outcome.reason, outcome.warnings) == (Reason.COMPLETED, ())
    assert task.log.read_bytes() == expected(8)
    assert (task.box.outputs / "m" / "m").read_text() == "m"
    hits = [one["hits"] for one in bench.emulator.admin.ask("GET", "/faults")]
    assert all(hits), "the fault was never met"


def test_a_service_that_asks_for_rest_gets_it(bench: Bench) -> None:
    task = bench.task(_SLOW.format(count=60))
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    bench.emulator.admin.fault(path="batchrundata", status=429, retry_after="8")
    assert "left alone" in told(bench, handle)
    before, since = len(bench.emulator.requests("batchrundata")), time.monotonic()
    while time.monotonic() < since + 4:
        bench.backend.wait(0.2)
    assert len(bench.emulator.requests("batchrundata")) == before
    assert patient(bench, task, handle).reason is Reason.COMPLETED
    assert task.log.read_bytes() == expected(60)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", [{"reset": True}, {"status": 500}, {"status": 429, "retry_after": "1"}], ids=str)
def test_a_lost_answer_to_the_submit_makes_no_second_job(bench: Bench, when: str, how: dict[str, Any]) -> None:
    bench.emulator.admin.fault(method="PUT", path="/jobs/", when=when, **how)
    task = bench.task("print('once')\n")
    handle = bench.backend.submit(task)
    outcome = bench.outcome(task, handle)
    assert outcome.reason is Reason.COMPLETED
    assert task.log.read_bytes() == b"once\n"
    mine = [one for one in bench.emulator.admin.documents("job") if one["name"] == handle]
    assert len(mine) == 1


def test_tokens_that_end_in_the_middle_are_replaced(bench: Bench) -> None:
    bench.emulator.admin.switch(token_lifetime_s=3.0)
    task = bench.task(_SLOW.format(count=24))
    handle = bench.backend.submit(task)
    assert bench.outcome(task, handle).reason is Reason.COMPLETED
    assert task.log.read_bytes() == expected(24)


def test_addresses_of_logs_that_end_in_the_middle_are_replaced(bench: Bench) -> None:
    bench.emulator.admin.switch(sas_lifetime_s=3.0)
    task = bench.task(_SLOW.format(count=32))
    handle = bench.backend.submit(task)
    assert bench.outcome(task, handle).reason is Reason.COMPLETED
    assert task.log.read_bytes() == expected(32)


def test_a_service_that_is_away_is_told_as_such_and_is_no_end(bench: Bench) -> None:
    task = bench.task(_SLOW.format(count=60))
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    bench.emulator.admin.fault(path="batchrundata", reset=True, count=None)
    assert "cannot be reached" in told(bench, handle)
    bench.emulator.admin.ask("DELETE", "/faults")
    assert patient(bench, task, handle).reason is Reason.COMPLETED
    assert task.log.read_bytes() == expected(60)


def test_a_workspace_that_may_not_be_used_says_what_to_do(bench: Bench) -> None:
    bench.emulator.admin.fault(path="/jobs/", status=403, code="AuthorizationFailed", count=None)
    with pytest.raises(BackendError, match="role on the workspace") as refused:
        bench.backend.submit(bench.task("print(1)\n"))
    assert refused.value.code == 403


def test_nobody_is_signed_in(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")
    credential.forget()
    with pytest.raises(BackendError, match="no sign-in to Azure works here") as refused:
        bench.backend.submit(bench.task("print(1)\n"))
    assert "AZURE_CLIENT_SECRET" in str(refused.value), "what was wrong, not what would be another way"


def test_a_sign_in_that_runs_out_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes on meanwhile: nothing of it is lost, and nothing is told as its end."""
    bench.emulator.admin.switch(token_lifetime_s=3.0)
    task = bench.task(_SLOW.format(count=40))
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    bench.emulator.admin.fault(path="oauth2/v2.0/token", status=401, code="invalid_client", count=None)
    assert "sign-in" in told(bench, handle)
    bench.emulator.admin.ask("DELETE", "/faults")
    assert patient(bench, task, handle).reason is Reason.COMPLETED
    assert task.log.read_bytes() == expected(40)


def test_a_host_that_is_not_azures_gets_no_token(emulator: Emulator) -> None:
    rest = Rest(credential.Tokens("default"))
    for url in (
        "https://example.org/x",
        "http://management.azure.com/x",
        "https://management.azure.com.example.org/x",
        "https://management.azure.com@example.org/x",
        "https://mine.cloudapp.azure.com/x",
        "https://me.azureml.ms/x",
    ):
        with pytest.raises(BackendError, match="gets no token"):
            rest.ask("GET", url, "it")
    rest.close()


def test_a_proxy_that_is_not_there_is_told_with_the_host(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    credential.Tokens("default").get()
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    rest = Rest(credential.Tokens("default"), patience_s=0.1)
    with pytest.raises(UnavailableError, match=r"management\.azure\.com cannot be reached .*refused"):
        rest.ask("GET", "https://management.azure.com/x", "it")
    rest.close()


def test_a_bundle_that_is_none_is_named(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    credential.Tokens("default").get()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    rest = Rest(credential.Tokens("default"))
    with pytest.raises(BackendError, match=r"REQUESTS_CA_BUNDLE=/nowhere/ca\.pem"):
        rest.ask("GET", "https://management.azure.com/x", "it")
    rest.close()


def test_no_proxy_is_heeded(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    credential.Tokens("default").get()
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "loopback.api.azureml.ms,.example.org")
    rest = Rest(credential.Tokens("default"), patience_s=0.1)
    with pytest.raises(UnavailableError, match=r"(?i)resol|name or service"):
        rest.ask("GET", "https://loopback.api.azureml.ms/x", "it")
    rest.close()


def test_a_workspace_that_is_not_there(bench: Bench) -> None:
    bench.emulator.admin.fault(path="/workspaces/", status=404, code="ResourceNotFound", count=None)
    with pytest.raises(NotFoundError, match="workspace"):
        bench.backend.service.workspace()
