"""The emulator as a process: started by hand, ended, killed, started again on what it left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.azureml.cli import ROOT
from tests.emulators.azureml.fixture import Service, running
from tests.emulators.azureml.tests.client import Client


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


def test_a_proxy_in_its_own_environment_does_not_disturb_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with running(tmp_path / "state") as service:
        assert Client(service.env).arm("GET", "").status == 200
