"""Azure's exchange, whole: azure-identity unmodified, the registry's own https with a private CA, tokens that end midway."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from runner.builder import content_tag
from runner.builder.registry.errors import Problem
from runner.builder.registry.publish import publish
from runner.builder.registry.push import Pushed
from runner.builder.registry.sign_in import SignIn
from runner.docker_api.images import Engine, PushEnd
from runner.errors import ImageError
from tests.e2e.build_material import docker
from tests.e2e.registry.acr import Acr, Identity
from tests.e2e.registry.conftest import Make, Registries, names_of

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("registries")]

ACR_RESOURCE, MANAGEMENT = "https://containerregistry.azure.net", "https://management.azure.com"
TOKEN = "entra-token-of-the-tests"


@pytest.fixture(autouse=True)
def _account(
    front: Acr, identity: Identity, registries: Registries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One account that may push, an identity for it, and a settings file that names the registry as Azure's."""
    front.accounts, front.asked[:], front.given[:] = {TOKEN: True}, [], []
    front.refresh_s, front.access_s, front.hold = 3 * 3600.0, 75 * 60.0, False
    front.answers = 0
    identity.tokens = {ACR_RESOURCE: TOKEN}
    for name, value in identity.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "acr.yaml").write_text(f"registries: {{'{front.host}': {{auth: acr}}}}\n")
    monkeypatch.chdir(tmp_path)


def push(image: str, target: str, material: Path) -> tuple[Pushed, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    environ = {"SSL_CERT_FILE": str(material / "ca.crt")}
    done = publish(
        image, target, progress=lambda stage, text: told.append((stage, text)), environ=environ, config=Path("acr.yaml")
    )
    return done, told


def fails(image: str, target: str, environ: dict[str, str], front: Acr) -> ImageError:
    with pytest.raises(ImageError) as caught:
        publish(image, target, environ=environ, config=Path("acr.yaml"))
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


@pytest.mark.parametrize(
    ("status", "message", "retryable"),
    [(404, "does not speak Azure's token exchange", False), (503, "cannot sign in anybody now", True)],
)
def test_an_exchange_that_is_not_there_or_not_working(
    front: Acr, fresh: Make, material: Path, status: int, message: str, retryable: bool
) -> None:
    front.answers = status
    error = fails(fresh(), f"{front.host}/team/app", {"SSL_CERT_FILE": str(material / "ca.crt")}, front)
    assert f"{message} ({status}" in error.message
    assert error.retryable is retryable


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


@pytest.mark.parametrize(
    ("host", "management"),
    [
        ("team.azurecr.io", "https://management.azure.com"),
        ("team.azurecr.cn", "https://management.chinacloudapi.cn"),
        ("team.azurecr.us", "https://management.usgovcloudapi.net"),
    ],
)
def test_a_registry_of_azure_is_known_by_its_name_and_other_logins_come_after(
    identity: Identity, host: str, management: str
) -> None:
    identity.tokens = {}
    login = SignIn({}, {"RUNNER_REGISTRY_USER": "admin", "RUNNER_REGISTRY_PASSWORD": "x"}, named={host}).login(host)
    assert login.user == "admin"
    assert identity.asked[0] == ACR_RESOURCE
    assert identity.asked[-1] == management
    assert "no Azure sign-in works here" in SignIn({}, {}).login(host).hints[0]


def test_the_private_ca_counts_on_runner_s_own_calls(front: Acr, fresh: Make) -> None:
    error = fails(fresh(), f"{front.host}/team/app", {}, front)
    assert error.problem == Problem.UNTRUSTED
    assert "ca_bundle in libs.yaml, or SSL_CERT_FILE" in str(error)
    assert front.asked == [], "no token is sent to a server that is not trusted"


def test_the_ca_bundle_of_a_libs_file_counts(front: Acr, fresh: Make, material: Path, tmp_path: Path) -> None:
    shutil.copyfile(material / "ca.crt", tmp_path / "corp.pem")
    libs = tmp_path / "libs.yaml"
    libs.write_text(f"name: runner-test-push\nca_bundle: corp.pem\nregistry: {front.host}/by-libs\n")
    docker("tag", fresh(), content_tag(libs))
    assert publish(None, None, libs=libs, environ={}, config=Path("acr.yaml")).reference.startswith(
        f"{front.host}/by-libs/"
    )
    assert front.asked.count("exchange") == 1


def test_a_registry_of_another_kind(registries: Registries, fresh: Make, front: Acr, tmp_path: Path) -> None:
    (tmp_path / "acr.yaml").write_text(f"registries: {{'{registries.open}': {{auth: acr}}}}\n")
    error = fails(fresh(), f"{registries.open}/app", {}, front)
    assert error.problem == Problem.PLAIN_HTTP, "the exchange is https only"


def test_without_azure_identity_the_command_that_installs_it_is_told(front: Acr, fresh: Make, tmp_path: Path) -> None:
    """In a process of its own, in which azure cannot be imported."""
    code = (
        "import sys; sys.modules['azure'] = None; sys.modules['azure.identity'] = None\n"
        "from runner.cli import main; sys.argv = ['runner', *sys.argv[1:]]; main()"
    )
    argv = [sys.executable, "-c", code, "push", fresh(), f"{front.host}/team/app", "--config", "acr.yaml"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 11
    assert "pip install 'runner[azure]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_tag_that_somebody_else_moved_meanwhile_is_told(
    registries: Registries, fresh: Make, material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest is what runs refer to, and it is there: no error."""
    other, target = fresh(), f"{registries.open}/team/raced:latest"
    theirs, _ = push(other, target, material)

    def move(name: str) -> None:
        docker("tag", other, name)
        docker("push", name)

    _after_push(monkeypatch, move)
    done, told = push(fresh(), target, material)
    assert ("push", f"somebody else pushes to {target} too: by now it names {theirs.digest}") in told
    assert done.digest != theirs.digest


def test_a_registry_that_does_not_keep_it_is_noticed(
    registries: Registries, fresh: Make, material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(name: str) -> None:
        digest = docker("inspect", "-f", "{{index .RepoDigests 0}}", name).strip().rpartition("@")[2]
        url = f"http://{registries.open}/v2/team/lost/manifests/{digest}"
        with urlopen(Request(url, method="DELETE")) as answer:
            assert answer.status == 202

    _after_push(monkeypatch, lose)
    image = fresh()
    with pytest.raises(ImageError) as caught:
        push(image, f"{registries.open}/team/lost:v1", material)
    assert caught.value.problem == Problem.NOT_KEPT
    assert names_of(image) == [image]


def _after_push(monkeypatch: pytest.MonkeyPatch, then: Callable[[str], None]) -> None:
    """Something that happens in the registry between the engine's push and runner's own look."""
    real = Engine.push

    def push_then(engine: Engine, reference: str, login: Mapping[str, str], seen: Callable[..., None]) -> PushEnd:
        end = real(engine, reference, login, seen)
        then(reference)
        return end

    monkeypatch.setattr(Engine, "push", push_then)
