"""A job on Azure ML with what the service gives it: MLflow's endpoint, an identity, a vault, all on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from runner import tracking
from runner.backends.azureml import secrets
from runner.backends.base import Task
from runner.bootstrapper import final_outcome
from runner.model import Reason, Remote
from tests.azure_node import Node, ended, make_task
from tests.bootstrap.loopback import Service, bundle, jwt, proxying, serving

SCOPE = "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
TOKEN, RUN_TOKEN = jwt(oid="identity"), jwt(exp=time.time() + 90_000)
KEY = "store-calm-otter-1"
VALUE = f"s3cr3t-{uuid.uuid4()}-größe"


@dataclass
class Cloud:
    """node: where the job runs. mlflow, vault: what they were asked."""

    node: Node
    mlflow: Service
    vault: Service

    def points(self) -> list[tuple[str, float]]:
        return [
            (each["key"], each["value"]) for body in self.mlflow.bodies("log-batch") for each in body.get("metrics", ())
        ]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
    api, host = "eastus.api.azureml.ms", "team-vault.vault.azure.net"
    with ExitStack() as stack:
        mlflow = stack.enter_context(serving(lambda _: (200, {}), ca, api))
        found = {"/secrets/token": (200, {"value": VALUE})}
        vault = stack.enter_context(serving(lambda seen: found.get(seen.path, (404, {"error": {}})), ca, host))
        identity = stack.enter_context(serving(lambda _: (200, {"access_token": TOKEN}), None))
        proxy = stack.enter_context(proxying({f"{api}:443": mlflow.port, f"{host}:443": vault.port}))
        variables = {
            "MLFLOW_TRACKING_URI": f"azureml://{api}/mlflow/v1.0{SCOPE}", "MLFLOW_TRACKING_TOKEN": RUN_TOKEN,
            "MLFLOW_RUN_ID": "job-1", "MLFLOW_EXPERIMENT_ID": "exp-id", "HTTPS_PROXY": proxy,
            "MSI_ENDPOINT": f"http://127.0.0.1:{identity.port}/msi/token", "MSI_SECRET": "msi-secret",
            "REQUESTS_CA_BUNDLE": bundle(ca, tmp_path),
        }  # fmt: skip
        yield Cloud(Node(tmp_path / "node", variables=variables), mlflow, vault)


def task(folder: Path, text: str, **references: str) -> Task:
    remote = Remote(environment={"image": "x"}, secrets=references)
    env = tracking.variables("/x", run="calm-otter", experiment="trials")
    return make_task(folder, ["bash", "-c", text], remote=remote, env=env, tracking="/x")


def left_behind(value: str, *folders: Path) -> list[Path]:
    """Files that hold a value; those that go meanwhile are another's."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            with suppress(OSError):
                if path.is_file() and value.encode() in path.read_bytes():
                    found.append(path)
    return found


def test_metrics_leave_while_it_runs_and_the_record_is_the_last_line(cloud: Cloud, tmp_path: Path, until: Any) -> None:
    log = "echo 1700000000000 {} {} >> $RUNNER_TRACKING/metrics/loss"
    wait = f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
    text = f"{log.format(0.5, 0)}; echo begun; {wait}; {log.format(0.25, 1)}; exit 3"
    work, argv, env = cloud.node.prepare(task(tmp_path, text))
    process = subprocess.Popen(argv, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(lambda: cloud.points() == [("loss", 0.5)], "the first value")
    (tmp_path / "go").touch()
    output, _ = process.communicate(timeout=30)
    result = ended(process.returncode, output, work)
    assert (result.code, result.log) == (3, b"begun\n")
    assert cloud.points() == [("loss", 0.5), ("loss", 0.25)]
    assert result.record is not None
    assert result.last is not None
    assert (result.record["reason"], result.record["warnings"]) == ("NonZeroExit", [])
    assert final_outcome(result.last, KEY) == final_outcome(result.record, KEY)
    headers = [each.headers["authorization"] for each in cloud.mlflow.seen]
    assert set(headers) == {f"Bearer {RUN_TOKEN}"}


def test_a_cancel_of_the_group_reaches_the_script_once(cloud: Cloud, tmp_path: Path) -> None:
    text = "trap 'echo stopping' TERM; echo ready; for i in $(seq 100); do sleep 0.02; done; exit 5"
    work, argv, env = cloud.node.prepare(task(tmp_path, text))
    process = subprocess.Popen(
        argv, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    os.killpg(process.pid, signal.SIGTERM)
    rest, _ = process.communicate(timeout=30)
    result = ended(process.returncode, first + rest, work)
    assert result.code == 143
    assert result.log.count(b"stopping") == 1
    assert result.record is not None
    assert (result.record["reason"], result.record["exit_code"]) == ("Canceled", 5)


def test_a_secret_reaches_the_script_alone(cloud: Cloud, tmp_path: Path) -> None:
    script = "printf %s \"$TOKEN\" | tail -c 8; echo; tr '\\0' '\\n' < /proc/$PPID/environ | grep -c s3cr3t"
    result = cloud.node.run(task(tmp_path, f"{script}; echo $PPID", TOKEN="keyvault:team-vault/token"))
    assert result.code == 0, result.log
    shown, count, _ = result.log.decode("utf-8").splitlines()
    assert (shown, count) == ("-größe", "0")
    assert left_behind(VALUE, tmp_path, Path("/dev/shm")) == []
    assert [each.path for each in cloud.vault.seen] == ["/secrets/token"]


def test_a_secret_that_cannot_be_had_is_a_row_of_its_own(cloud: Cloud, tmp_path: Path) -> None:
    result = cloud.node.run(task(tmp_path, "echo ran", TOKEN="keyvault:team-vault/other"))
    outcome = final_outcome(result.record, KEY)
    assert outcome is not None
    assert (result.code, outcome.process_exit, outcome.reason) == (125, 125, Reason.SECRET_MISSING)
    assert "the secret other of the vault team-vault is not there; make it: az keyvault secret set" in outcome.message
    assert result.log.decode() == f"runner: {outcome.message}\n"
    assert final_outcome(result.last, KEY) == outcome


def test_without_python_no_script_runs_without_its_secret(cloud: Cloud, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "rm", "date", "mkdir"):
        (tools / name).symlink_to(f"/bin/{name}")
    cloud.node.path = str(tools)
    result = cloud.node.run(task(tmp_path, "echo ran", TOKEN="keyvault:team-vault/token"))
    assert (result.code, b"ran" in result.log) == (125, False)
    assert b"image with Python 3.8" in result.log


def test_the_vault_of_the_workspace_stands_in(tmp_path: Path) -> None:
    given = task(tmp_path, "x", A="keyvault:token", B="keyvault:other/token")
    settled = secrets.settled(given, lambda: "team-vault").remote
    assert settled is not None
    assert settled.secrets == {"A": "keyvault:team-vault/token", "B": "keyvault:other/token"}
    assert secrets.places(settled) == {"A": "team-vault/token", "B": "other/token"}
    named = task(tmp_path, "x", B="keyvault:other/token")
    assert secrets.settled(named, lambda: pytest.fail("nobody has to be asked")) is named
    assert secrets.vault_of("/subscriptions/s/x/Microsoft.KeyVault/vaults/kv-1") == "kv-1"
