"""The emulator as a process: started by hand, ended, killed, started again on what it left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.azureml import names
from tests.emulators.azureml.cli import ROOT, pid_of
from tests.emulators.azureml.fixture import Service, eventually, running
from tests.emulators.azureml.tests.client import HISTORY, Client


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Service]:
    """An emulator of the test's own, which it may kill."""
    with running(tmp_path / "state") as service:
        yield service


def command(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.emulators.azureml", *map(str, args)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_restart_knows_everything_and_old_clients_go_on(own: Service) -> None:
    client = Client(own.env)
    client.arm("PUT", "/environments/kept/versions/1", {"properties": {"image": "a"}})
    own.admin.switch(secrets="AccountKey")
    before = dict(own.env)
    for end in (own.stop, own.kill):
        end()
        own.start()
        assert client.arm("GET", "/environments/kept/versions/1").body["properties"]["image"] == "a"
        assert own.admin.ask("GET", "/switches")["secrets"] == "AccountKey"
    changed = {name for name in before if before[name] != own.env[name]}
    assert changed == {"RUNNER_EMULATOR_ADMIN_TOKEN"}


def test_blobs_outlive_a_restart(own: Service) -> None:
    client = Client(own.env)
    sas = client.arm("POST", "/datastores/workspaceblobstore/listSecrets", {}).body["sasToken"]
    url = f"https://emustore.blob.core.windows.net/azureml/kept{sas}"
    client.open("PUT", url, b"kept", x_ms_blob_type="BlockBlob")
    own.stop()
    own.start()
    assert client.open("GET", url).body == b"kept"


def test_its_command(own: Service) -> None:
    status = command("status", "--state", own.folder)
    assert (status.returncode, json.loads(status.stdout)["running"]) == (0, True)
    exports = command("env", "--state", own.folder).stdout
    assert f"export HTTPS_PROXY='{own.env['HTTPS_PROXY']}'" in exports
    assert (own.folder / "env.sh").stat().st_mode & 0o777 == 0o600
    own.stop()
    for name in ("status", "env", "stop"):
        assert command(name, "--state", own.folder).returncode == 1
    own.start()


def test_it_ends_with_the_process_that_it_is_for(tmp_path: Path) -> None:
    """As when a test run is killed, which stops nothing itself."""
    with subprocess.Popen(["sleep", "600"]) as other:
        assert command("start", "--state", tmp_path, "--detach", "--until", str(other.pid)).returncode == 0
        assert pid_of(tmp_path) is not None
        other.kill()
    eventually(lambda: pid_of(tmp_path) is None, "the emulator ended")
    assert command("start", "--state", tmp_path, "--detach", "--until", str(other.pid)).returncode == 0
    eventually(lambda: pid_of(tmp_path) is None, "the emulator ended at once")


def test_a_proxy_in_its_own_environment_does_not_disturb_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with running(tmp_path / "state") as service:
        assert Client(service.env).arm("GET", "").status == 200


@pytest.mark.docker
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_job_goes_on_while_the_service_is_away(own: Service, image: str, how: str) -> None:
    client = Client(own.env)
    client.arm("PUT", "/environments/e/versions/1", {"properties": {"image": image}})
    job = {
        "jobType": "Command",
        "command": "for i in $(seq 40); do echo line $i; sleep 0.2; done",
        "computeId": names.arm("computes", "cpu-cluster"),
        "environmentId": names.arm("environments", "e", "versions", "1"),
    }
    assert client.arm("PUT", "/jobs/away", {"properties": job}).status == 201
    eventually(lambda: b"line 2\n" in log(client), "it writes")
    own.kill() if how == "kill" else own.stop(keep_jobs=True)
    own.start()
    eventually(lambda: status(client) not in {"Starting", "Running", "Queued", "Finalizing"}, "it ends")
    assert status(client) == "Completed"
    assert log(client) == b"".join(b"line %d\n" % number for number in range(1, 41))


def status(client: Client) -> str:
    return str(client.arm("GET", "/jobs/away").body["properties"]["status"])


def log(client: Client) -> bytes:
    files = client.ask("GET", f"{HISTORY}/runs/away/details").body["logFiles"]
    reply = client.open("GET", files["user_logs/std_log.txt"]) if "user_logs/std_log.txt" in files else None
    return bytes(reply.body) if reply and reply.status == 200 else b""
