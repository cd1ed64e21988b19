"""Which login is taken, in which order, and that no secret shows. The real exchange: tests/e2e/registry."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import pytest

from runner.builder.registry.errors import Problem
from runner.builder.registry.http import Http, ca_bundle, is_loopback
from runner.builder.registry.sign_in import ACR_USER, Login, SignIn
from runner.errors import ImageError

HOST = "registry.example.com"
BASIC = {"RUNNER_REGISTRY_USER": "me", "RUNNER_REGISTRY_PASSWORD": "secret-word"}
NAMED = {HOST, "other.example.com"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is docker's and holds the programs of the test."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def docker_config(folder: Path, **config: object) -> None:
    (folder / "config.json").write_text(json.dumps(config))


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def helper(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)


def test_nothing_is_anonymous() -> None:
    login = SignIn({}, {}).login(HOST)
    assert login.anonymous
    assert login.for_engine(HOST) == {}


def test_docker_s_config_before_the_environment(folder: Path) -> None:
    assert SignIn({}, BASIC, named=NAMED).login(HOST).user == "me"
    docker_config(folder, auths={HOST: entry("docker-user", "p:w")})
    login = SignIn({}, BASIC, named=NAMED).login(HOST)
    assert (login.way, login.user, login.secret) == ("docker's config.json", "docker-user", "p:w")
    assert login.for_engine(HOST) == {"username": "docker-user", "password": "p:w", "serveraddress": HOST}
    assert SignIn({}, BASIC, named=NAMED).login("other.example.com").user == "me"


def test_the_environment_s_login_goes_to_no_host_that_the_user_did_not_name() -> None:
    login = SignIn({}, BASIC, named={HOST}).login("evil.example.com")
    assert login.anonymous
    wanted = (
        "goes only to a registry that you name yourself: --push …, RUNNER_REGISTRY, or ~/.config/runner/runner.yaml"
    )
    assert wanted in login.hints[0]
    with pytest.raises(ImageError, match="goes only to a registry that you name yourself"):
        SignIn({HOST: "basic"}, BASIC).login(HOST)


def test_runner_yaml_names_one_way(folder: Path) -> None:
    docker_config(folder, auths={HOST: entry("docker-user", "pw")})
    assert SignIn({HOST: "basic"}, BASIC, named=NAMED).login(HOST).user == "me"
    assert SignIn({HOST: "docker"}, BASIC, named=NAMED).login(HOST).user == "docker-user"
    for way, fix in (("basic", "set RUNNER_REGISTRY_USER"), ("docker", "docker login other.example.com")):
        with pytest.raises(ImageError, match=fix) as caught:
            SignIn({"other.example.com": way}, {}).login("other.example.com")  # type: ignore[dict-item]
        assert caught.value.problem == Problem.MISSING_LOGIN


def test_a_credential_helper_and_an_identity_token(folder: Path) -> None:
    helper(folder, "mine", """cat > /dev/null; echo '{"Username": "<token>", "Secret": "secret-word"}'""")
    docker_config(folder, credHelpers={HOST: "mine"})
    login = SignIn({}, {}).login(HOST)
    assert login.way == "docker-credential-mine"
    assert login.refresh_token == "secret-word"
    assert login.for_engine(HOST) == {"identitytoken": "secret-word", "serveraddress": HOST}


@pytest.mark.parametrize(
    ("script", "why"),
    [(None, "docker-credential-mine, which is not installed"), ("echo secret-word; exit 3", "which failed")],
)
def test_a_helper_that_does_not_work_is_said_and_the_next_way_taken(folder: Path, script: str | None, why: str) -> None:
    if script:
        helper(folder, "mine", script)
    docker_config(folder, credsStore="mine")
    login = SignIn({}, {}).login(HOST)
    assert login.anonymous
    assert why in login.hints[0]
    assert "secret-word" not in login.hints[0]
    assert SignIn({}, BASIC, named=NAMED).login(HOST).user == "me"


def test_a_helper_that_knows_nothing_is_no_problem(folder: Path) -> None:
    helper(folder, "mine", "echo 'credentials not found in native keychain'; exit 1")
    docker_config(folder, credsStore="mine")
    assert SignIn({}, {}).login(HOST).hints == ()


@pytest.mark.parametrize("auth", ["no base64!", base64.b64encode(b"no colon").decode()])
def test_a_broken_entry_names_its_fix(folder: Path, auth: str) -> None:
    docker_config(folder, auths={HOST: {"auth": auth}})
    assert f"docker login {HOST}" in SignIn({}, {}).login(HOST).hints[0]


def test_no_text_of_a_login_shows_its_secret() -> None:
    login = SignIn({}, BASIC, named=NAMED).login(HOST)
    assert login.secret == "secret-word"
    assert "secret-word" not in f"{login!r}{login!s}"


def test_a_login_that_ends_is_renewed_and_one_that_lasts_is_not() -> None:
    sign_in = SignIn({}, BASIC, named=NAMED)
    lasting = sign_in.login(HOST)
    assert sign_in.renewed(HOST, lasting) is None
    over = Login("Azure", ACR_USER, "x", ends=time.monotonic() - 1, life_s=10)
    assert over.runs_out()
    assert sign_in.renewed(HOST, over) == lasting
    assert Login("Azure", ACR_USER, "x", ends=time.monotonic() + 299, life_s=10800).runs_out()
    assert not Login("Azure", ACR_USER, "x", ends=time.monotonic() + 301, life_s=10800).runs_out()


def test_https_except_to_this_machine() -> None:
    http = Http(None)
    refused = {
        "http://a.example.com/token": "a.example.com", "http://127.0.0.1:9/": "a.example.com", "file:///etc/passwd": HOST
    }  # fmt: skip
    for url, host in refused.items():
        with pytest.raises(ImageError) as caught:
            http.send("GET", url, host)
        assert caught.value.problem == Problem.PLAIN_HTTP
    with pytest.raises(ImageError) as caught:
        http.send("GET", "http://127.0.0.1:9/", "127.0.0.1:9")
    assert caught.value.problem == Problem.REFUSED


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1:5000", True), ("127.8.8.8", True), ("localhost", True), ("[::1]:5000", True),
     ("localhost.example.com", False), ("10.0.0.1", False), ("127.0.0.1.example.com", False)],
)  # fmt: skip
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_which_ca_bundle(tmp_path: Path) -> None:
    bundle, other = tmp_path / "a.pem", tmp_path / "b.pem"
    bundle.touch()
    other.touch()
    assert ca_bundle(None, {}) is None
    assert ca_bundle(None, {"SSL_CERT_FILE": "/nothing", "REQUESTS_CA_BUNDLE": str(bundle)}) == bundle
    assert ca_bundle(other, {"SSL_CERT_FILE": str(bundle)}) == other


def test_a_ca_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "not.pem").write_text("nothing")
    with pytest.raises(ImageError, match=r"not\.pem cannot be used"):
        Http(tmp_path / "not.pem").send("GET", f"https://{HOST}/", HOST)
