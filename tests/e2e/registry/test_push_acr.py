"""Azure's exchange, whole: azure-identity unmodified, the registry's own https with a private CA, tokens that end midway."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.builder.publish import publish
from runner.builder.push import Pushed
from runner.builder.push_errors import Problem
from runner.errors import ImageError
from tests.e2e.build_material import docker
from tests.e2e.registry.acr import Acr, Identity
from tests.e2e.registry.conftest import Make, Registries, names_of

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("registry")]

ACR_RESOURCE, MANAGEMENT = "https://containerregistry.azure.net", "https://management.azure.com"
TOKEN = "entra-token-of-the-tests"


@pytest.fixture(autouse=True)
def _account(
    front: Acr, identity: Identity, registries: Registries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One account that may push, an identity for it, and a project whose runner.yaml names the registry as Azure's."""
    front.accounts, front.asked[:], front.given[:] = {TOKEN: True}, [], []
    front.refresh_s, front.access_s, front.hold = 3 * 3600.0, 75 * 60.0, False
    identity.tokens = {ACR_RESOURCE: TOKEN}
    for name, value in identity.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "runner.yaml").write_text(f"registries: {{'{front.host}': {{auth: acr}}}}\n")
    monkeypatch.chdir(tmp_path)


def push(image: str, target: str, material: Path) -> tuple[Pushed, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    environ = {"SSL_CERT_FILE": str(material / "ca.crt")}
    done = publish(image, target, progress=lambda stage, text: told.append((stage, text)), environ=environ)
    return done, told


def fails(image: str, target: str, environ: dict[str, str], front: Acr) -> ImageError:
    with pytest.raises(ImageError) as caught:
        publish(image, target, environ=environ)
    seen: BaseException | None = caught.value
    while seen is not None:
        assert not any(secret in f"{seen!s}{seen!r}" for secret in (TOKEN, *front.given))
        seen = seen.__cause__ or seen.__context__
    assert names_of(image) == [image]
    return caught.value


def test_an_entra_token_is_exchanged_and_pushes(front: Acr, fresh: Make, material: Path, identity: Identity) -> None:
    image = fresh()
    done, told = push(image, f"{front.host}/team/app", material)

    assert ("sign-in", f"{front.host}: Azure (token exchange)") in told
    assert identity.asked == [ACR_RESOURCE]
    assert front.asked.count("exchange") == 1
    assert {"token POST", "token GET"} <= set(front.asked), "runner asks by POST, the engine by GET"
    assert done.by_digest in docker("inspect", "-f", '{{join .RepoDigests " "}}', image)
    assert not any(TOKEN in text or front.given[0] in text for _, text in told)

    again, _ = push(image, f"{front.host}/team/app", material)
    assert again.already_there


def test_an_account_without_that_service_signs_in_by_the_management_one(
    front: Acr, fresh: Make, material: Path, identity: Identity
) -> None:
    identity.tokens = {MANAGEMENT: TOKEN}
    push(fresh(), f"{front.host}/team/app", material)
    assert identity.asked[-1] == MANAGEMENT
    assert identity.asked[0] == ACR_RESOURCE


def test_a_login_that_ends_in_the_middle_is_renewed(front: Acr, fresh: Make, material: Path) -> None:
    front.refresh_s, front.access_s, front.hold = 3, 2, True
    done, told = push(fresh(megabytes=8), f"{front.host}/team/long", material)

    assert not front.hold, "the upload was held until the login was over; otherwise this test proves nothing"
    assert front.asked.count("exchange") == 2
    assert ("sign-in", f"{front.host}: the login ended meanwhile; signed in anew, going on") in told
    assert done.digest.startswith("sha256:")


def test_an_account_that_the_registry_does_not_know(front: Acr, fresh: Make, material: Path) -> None:
    front.accounts = {}
    error = fails(fresh(), f"{front.host}/team/app", {"SSL_CERT_FILE": str(material / "ca.crt")}, front)
    assert error.problem == Problem.WRONG_LOGIN
    assert "does not accept this Azure account" in error.message
    assert "AcrPush" in str(error)


@pytest.mark.parametrize("repository", ["denied/app", "team/app"])
def test_a_repository_that_may_not_be_pushed_to(front: Acr, fresh: Make, material: Path, repository: str) -> None:
    front.accounts = {TOKEN: repository.startswith("denied/")}
    error = fails(fresh(), f"{front.host}/{repository}", {"SSL_CERT_FILE": str(material / "ca.crt")}, front)
    assert error.problem == Problem.DENIED, str(error)
    assert f"{front.host}/{repository} may not be pushed to" in error.message
    assert "AcrPush" in str(error)


def test_no_identity_at_all(
    front: Acr, fresh: Make, material: Path, identity: Identity, capfd: pytest.CaptureFixture[str]
) -> None:
    identity.tokens = {}
    error = fails(fresh(), f"{front.host}/team/app", {"SSL_CERT_FILE": str(material / "ca.crt")}, front)
    assert error.problem == Problem.MISSING_LOGIN
    assert "no Azure sign-in works here" in str(error)
    assert "sign in: az login" in str(error)
    assert "Traceback" not in capfd.readouterr().err


def test_the_private_ca_counts_on_runner_s_own_calls(front: Acr, fresh: Make) -> None:
    error = fails(fresh(), f"{front.host}/team/app", {}, front)
    assert error.problem == Problem.UNTRUSTED
    assert "ca_bundle in libs.yaml, or SSL_CERT_FILE" in str(error)
    assert front.asked == [], "no token is sent to a server that is not trusted"


def test_a_registry_of_another_kind(registries: Registries, fresh: Make, front: Acr, tmp_path: Path) -> None:
    (tmp_path / "runner.yaml").write_text(f"registries: {{'{registries.open}': {{auth: acr}}}}\n")
    error = fails(fresh(), f"{registries.open}/app", {}, front)
    assert error.problem == Problem.PLAIN_HTTP, "the exchange is https only"


def test_without_azure_identity_the_command_that_installs_it_is_told(front: Acr, fresh: Make, tmp_path: Path) -> None:
    """In a process of its own, in which azure cannot be imported."""
    code = (
        "import sys; sys.modules['azure'] = None; sys.modules['azure.identity'] = None\n"
        "from runner.cli import main; sys.argv = ['runner', *sys.argv[1:]]; main()"
    )
    argv = [sys.executable, "-c", code, "push", fresh(), f"{front.host}/team/app"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 11
    assert "pip install 'runner[azure]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_changed_tag_is_noticed(front: Acr, fresh: Make, material: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else pushes to the name between our push and our look: told, as runs would get another image."""
    from runner.docker_api.images import Engine

    other = fresh()
    target = f"{front.host}/team/raced:latest"
    push(other, target, material)
    real = Engine.push

    def raced(engine: Engine, reference: str, *rest: object) -> object:
        end = real(engine, reference, *rest)  # type: ignore[arg-type]
        docker("tag", other, reference)
        real(engine, reference, *rest)  # type: ignore[arg-type]
        return end

    monkeypatch.setattr(Engine, "push", raced)
    image = fresh()
    with pytest.raises(ImageError) as caught:
        push(image, target, material)
    assert caught.value.problem == Problem.CHANGED
    assert json.dumps(names_of(image)) == json.dumps([image])
