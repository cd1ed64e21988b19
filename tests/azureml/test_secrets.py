"""Secrets of Key Vault in jobs on Azure ML: named at submit, read in the job by the identity of its compute."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.azureml.conftest import Emulator
from tests.conftest import Cli
from tests.emulators.azureml.tests.client import Client

pytestmark = pytest.mark.docker

VALUE = "hunter2 größe"
SCRIPT = "import os; print(os.environ['TOKEN'][::-1])"


@pytest.fixture
def submit(emulator: Emulator, cli: Cli, image: str) -> list[str]:
    """What submits the script to a workspace whose vault has the secret db-token."""
    emulator.admin.switch(network="host")
    client = Client(emulator.service.env)
    token = client.signed_in("https://vault.azure.net/.default")
    place = "https://emuvault.vault.azure.net/secrets/db-token?api-version=7.4"
    assert client.ask("PUT", place, {"value": VALUE}, Authorization=f"Bearer {token}").status == 200
    (cli.cwd / "show.py").write_text(SCRIPT)
    arm = f"{emulator.target.path}/environments/lab/versions/1"
    emulator.admin.change("environment", "lab/1", id=arm, name="1", properties={"image": image})
    job = "type: command\ncode: .\ncommand: python3 show.py\nenvironment: azureml:lab:1\ncompute: azureml:cpu-cluster\n"
    (cli.cwd / "job.yml").write_text(job)
    return ["submit", "job.yml", "--backend", "azureml", "--wait", "--name", "one"]


def test_the_workspaces_own_vault_and_a_named_one(submit: list[str], cli: Cli) -> None:
    done = cli(*submit, "--secret", "TOKEN=keyvault:db-token")
    assert (done.code, done.out) == (0, VALUE[::-1] + "\n"), done.err
    done = cli(*submit[:-1], "two", "--secret", "TOKEN=keyvault:emuvault/db-token")
    assert (done.code, done.out) == (0, VALUE[::-1] + "\n"), done.err
    kept = [path for path in cli.home.rglob("*") if path.is_file() and VALUE.encode() in path.read_bytes()]
    assert kept == []


def test_what_is_missing_is_said_with_the_fix(submit: list[str], cli: Cli, emulator: Emulator) -> None:
    done = cli(*submit, "--secret", "TOKEN=keyvault:other")
    assert (done.code, cli.row("one")["reason"]) == (125, "SecretMissing")
    assert "az keyvault secret set --vault-name emuvault --name other" in done.err
    emulator.admin.switch(vault_role=False)
    done = cli(*submit[:-1], "two", "--secret", "TOKEN=keyvault:db-token")
    assert (done.code, cli.row("two")["reason"]) == (125, "SecretMissing")
    assert "give it the role Key Vault Secrets User" in done.err


def test_a_value_never_goes_there(submit: list[str], cli: Cli, emulator: Emulator, tmp_path: Path) -> None:
    before = len(emulator.admin.documents("job"))
    done = cli(*submit, "--secret", "TOKEN", env={"TOKEN": VALUE})
    assert done.code == 6
    assert "keyvault:[VAULT/]NAME" in done.err
    assert len(emulator.admin.documents("job")) == before
