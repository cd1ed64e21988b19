"""Secrets that a job on Azure ML reads from Key Vault: the values reach the script alone, and an error says what to do."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.bootstrap.loopback import Service, bundle, jwt, proxying, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bootstrap.loopback import Reply, Seen

BOOTSTRAP = Path(__file__).resolve().parents[2] / "bootstrap"
PYTHON = os.environ.get("RUNNER_TEST_BOOTSTRAP_PYTHON", sys.executable)
TOKEN = jwt(oid="0b1ec7-identity")
NAME, OTHER = "team-vault", "team-other"

READ = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import vault
vault.PAUSE_S = 0.05
try:
    print(json.dumps(vault.read(json.loads(sys.argv[2]), dict(os.environ))))
except vault.SecretError as error:
    print(json.dumps([str(error), error.retryable]))
"""


@dataclass
class Azure:
    """A compute with a managed identity, and a vault that it may read."""

    identity: Service
    vault: Service
    env: dict[str, str]

    def read(self, **references: str) -> Any:
        """The values; or [message, retryable]."""
        argv = [PYTHON, "-c", READ, str(BOOTSTRAP), json.dumps(references)]
        env = {"PATH": os.environ["PATH"], **self.env}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=60)
        assert done.stderr == ""
        return json.loads(done.stdout)


def identity(seen: Seen) -> Reply:
    """As App Service, Azure ML and a machine's own endpoint answer."""
    ways = {"2019-08-01": "x-identity-header", "2017-09-01": "secret", "2018-02-01": "metadata"}
    if seen.headers.get(ways.get(seen.query["api-version"], "")) not in {"header-of-job", "true"}:
        return 401, {"error": "wrong secret"}
    return 200, {"access_token": TOKEN, "expires_on": "1999999999", "resource": seen.query["resource"]}


def vault(seen: Seen) -> Reply:
    """As Key Vault answers, by what the secret is called."""
    if seen.headers.get("authorization") != f"Bearer {TOKEN}" or seen.query != {"api-version": "7.4"}:
        return 401, {"error": {"code": "Unauthorized", "message": "AKV10032: Invalid issuer."}}
    name = seen.path.removeprefix("/secrets/")
    if name in {"ForbiddenByRbac", "ForbiddenByFirewall", "SecretDisabled"}:
        return 403, {
            "error": {"code": "Forbidden", "message": "Caller is not\nauthorized", "innererror": {"code": name}}
        }
    if name == "missing":
        return 404, {"error": {"code": "SecretNotFound", "message": "not found"}}
    return 200, {
        "value": f'value of {name}: "quotes", größe\n',
        "id": f"https://{NAME}.vault.azure.net/secrets/{name}/1",
    }


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[Azure]:
    ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
    hosts = [f"{name}.vault.azure.net" for name in (NAME, OTHER)]
    with ExitStack() as stack:
        own, remote = stack.enter_context(serving(identity, None)), stack.enter_context(serving(vault, ca, *hosts))
        proxy = stack.enter_context(proxying({f"{host}:443": remote.port for host in hosts}))
        env = {
            "IDENTITY_ENDPOINT": f"http://127.0.0.1:{own.port}/token?x=y", "IDENTITY_HEADER": "header-of-job",
            "HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "REQUESTS_CA_BUNDLE": bundle(ca, tmp_path),
        }  # fmt: skip
        yield Azure(own, remote, env)


def test_values_come_from_several_vaults_byte_for_byte(azure: Azure) -> None:
    found = azure.read(A=f"{NAME}/db-password", B=f"{OTHER}/key", C=f"{NAME}/db-password")
    assert found == {
        "A": 'value of db-password: "quotes", größe\n',
        "B": 'value of key: "quotes", größe\n',
        "C": 'value of db-password: "quotes", größe\n',
    }
    assert len(azure.vault.seen) == 2
    assert [each.query["resource"] for each in azure.identity.seen] == ["https://vault.azure.net"]


@pytest.mark.parametrize("client", [None, "client-guid"])
def test_both_ways_of_asking_for_the_identity(azure: Azure, client: str | None) -> None:
    if client:
        azure.env["DEFAULT_IDENTITY_CLIENT_ID"] = client
    assert "A" in azure.read(A=f"{NAME}/key")
    azure.env["MSI_ENDPOINT"], azure.env["MSI_SECRET"] = (
        azure.env.pop("IDENTITY_ENDPOINT"),
        azure.env.pop("IDENTITY_HEADER"),
    )
    assert "A" in azure.read(A=f"{NAME}/key")
    first, second = azure.identity.seen
    assert (first.query.get("client_id"), second.query.get("clientid")) == (client, client)
    assert (first.query["api-version"], second.query["api-version"]) == ("2019-08-01", "2017-09-01")


def test_an_overloaded_identity_is_asked_again(azure: Azure) -> None:
    answers: Iterator[Reply] = iter([(429, {}), (503, {})])
    azure.identity.answer = lambda seen: next(answers, None) or identity(seen)
    assert "A" in azure.read(A=f"{NAME}/key")


@pytest.mark.parametrize(
    ("reference", "said", "helps"),
    [
        (
            f"{NAME}/missing",
            f"the secret missing of the vault {NAME} is not there",
            "az keyvault secret set --vault-name",
        ),
        (f"{NAME}/ForbiddenByRbac", "object id 0b1ec7-identity", "the role Key Vault Secrets User"),
        (f"{NAME}/ForbiddenByFirewall", "HTTP 403: Caller is not authorized", "firewall"),
        (f"{NAME}/SecretDisabled", "may not be read", "enable it"),
        ("no-such-vault/key", "no-such-vault.vault.azure.net cannot be reached", "check the vault's name"),
        (f"{NAME}/../keys", "names no secret of Key Vault", "expected VAULT/NAME"),
        ("evil.example/x", "names no secret of Key Vault", "expected VAULT/NAME"),
    ],
)
def test_an_error_says_what_to_do(azure: Azure, reference: str, said: str, helps: str) -> None:
    message, _ = azure.read(A=reference)
    assert said in message
    assert helps in message
    assert TOKEN not in message


def test_a_compute_without_an_identity(azure: Azure) -> None:
    azure.env["IDENTITY_HEADER"] = "of another job"
    message, retryable = azure.read(A=f"{NAME}/key")
    assert "no managed identity of this compute could be used" in message
    assert "HTTP 401: wrong secret" in message
    assert "--identity-type SystemAssigned" in message
    assert retryable is False
    assert azure.vault.seen == []


def test_the_file_is_ours_alone_and_what_the_bootstrapper_takes(tmp_path: Path, run: Any) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import vault; print(vault.write({'A': 'größe'}, sys.argv[2]))"
    argv = [PYTHON, "-c", code, str(BOOTSTRAP), str(tmp_path)]
    path = Path(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    result = run("bash", "-c", "echo $A", options=["--secrets", str(path)])
    assert result.stdout.decode() == "größe\n"
    assert not path.exists()
