"""Pushing to real registries: what arrives, what is said, what is left on the engine, and what it costs when unchanged."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from runner.builder import content_tag
from runner.builder.registry.errors import Problem
from runner.builder.registry.publish import publish
from runner.builder.registry.push import Pushed
from runner.errors import ImageError, SpecError
from tests.conftest import Cli
from tests.e2e.build_material import docker
from tests.e2e.registry.conftest import PASSWORD, USER, Make, Registries, names_of

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("registries")]

Told = list[tuple[str, str]]
ENVIRONMENT_LOGIN = {"RUNNER_REGISTRY_USER": USER, "RUNNER_REGISTRY_PASSWORD": PASSWORD}


def pushed(image: str, target: str, **environ: str) -> tuple[Pushed, Told]:
    """Push with nothing but that environment; what happened, movement left out."""
    told: Told = []

    def note(stage: str, text: str) -> None:
        if not text.endswith("…"):
            told.append((stage, text))

    return publish(image, target, progress=note, environ=environ), told


def test_a_push_can_be_pulled_by_its_digest(registries: Registries, fresh: Make) -> None:
    image = fresh()
    done, told = pushed(image, f"{registries.open}/team/app")

    assert done.reference == f"{registries.open}/team/app:{image.rpartition(':')[2]}"
    assert not done.already_there
    assert ("sign-in", f"{registries.open}: no login, anonymous") in told
    assert (
        told[-1] == ("push", f"{done.reference}  {done.digest[:19]}…  1 layers sent, 98.0 KiB")
        or "layers sent" in told[-1][1]
    )
    assert done.by_digest in docker("inspect", "-f", '{{join .RepoDigests " "}}', image)
    wanted = docker("inspect", "-f", "{{.Id}}", image)
    for name in names_of(image):
        docker("rmi", name)
    docker("pull", done.by_digest)
    assert docker("inspect", "-f", "{{.Id}}", done.by_digest) == wanted
    docker("tag", done.by_digest, image)


def test_the_tag_stays_as_the_engine_forgets_the_digest_with_it(registries: Registries, fresh: Make) -> None:
    image = fresh()
    done, _ = pushed(image, f"{registries.open}/team/tag")
    assert names_of(image) == sorted([done.reference, image])
    docker("rmi", done.reference)
    assert "[]" in docker("inspect", "-f", "{{.RepoDigests}}", image), "else the tag need not be kept"


def test_unchanged_nothing_is_sent(registries: Registries, fresh: Make) -> None:
    image = fresh()
    first, _ = pushed(image, f"{registries.open}/team/same")
    began = time.monotonic()
    again, told = pushed(image, f"{registries.open}/team/same")
    seconds = time.monotonic() - began

    assert again.already_there
    assert again.digest == first.digest
    assert told[-1][1].endswith("is there already")
    assert seconds < 1.5, "0.02 s on an idle machine"


def test_a_tag_that_names_something_else_by_now_is_pushed_again(registries: Registries, fresh: Make) -> None:
    one, other = fresh(), fresh()
    target = f"{registries.open}/team/moved:latest"
    first, _ = pushed(one, target)
    second, _ = pushed(other, target)
    third, _ = pushed(one, target)
    assert first.digest == third.digest != second.digest
    assert not third.already_there


def test_an_image_that_is_named_after_its_registry_goes_there(registries: Registries, fresh: Make) -> None:
    name = f"{registries.open}/team/own:v1"
    docker("tag", fresh(), name)
    done = publish(name, None, environ={"RUNNER_REGISTRY": "elsewhere.invalid"})
    assert done.reference == name


def test_a_login_from_the_environment(registries: Registries, fresh: Make) -> None:
    done, told = pushed(
        fresh(), f"{registries.htpasswd}/app", RUNNER_REGISTRY_USER=USER, RUNNER_REGISTRY_PASSWORD=PASSWORD
    )
    assert done.digest.startswith("sha256:")
    assert ("sign-in", f"{registries.htpasswd}: RUNNER_REGISTRY_USER and RUNNER_REGISTRY_PASSWORD") in told
    assert PASSWORD not in str(told)


def test_docker_s_own_login_comes_before_the_environment(registries: Registries, fresh: Make, tmp_path: Path) -> None:
    _docker_login(tmp_path, registries.htpasswd)
    _, told = pushed(
        fresh(), f"{registries.htpasswd}/app", RUNNER_REGISTRY_USER=USER, RUNNER_REGISTRY_PASSWORD="not this one"
    )
    assert ("sign-in", f"{registries.htpasswd}: docker's config.json") in told


def test_a_credential_helper(
    registries: Registries, fresh: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    helper = programs / "docker-credential-tests"
    answer = json.dumps({"ServerURL": "x", "Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\ncat > {tmp_path}/asked\ncat <<'E'\n{answer}\nE\n")
    helper.chmod(0o700)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    _docker_config(tmp_path, {"credHelpers": {registries.htpasswd: "tests"}})

    _, told = pushed(fresh(), f"{registries.htpasswd}/helped")

    assert ("sign-in", f"{registries.htpasswd}: docker-credential-tests") in told
    assert (tmp_path / "asked").read_text() == registries.htpasswd


@pytest.mark.parametrize("whose", ["the user's", "named"])
def test_runner_yaml_decides_where_to_and_which_way(
    registries: Registries, fresh: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    _docker_login(tmp_path, registries.htpasswd)
    file = tmp_path / "runner" / "runner.yaml"
    file.parent.mkdir()
    file.write_text(f"registry: {registries.htpasswd}/team\nregistries: {{'{registries.htpasswd}': {{auth: basic}}}}\n")
    monkeypatch.chdir(tmp_path)
    named = {"XDG_CONFIG_HOME": str(tmp_path)} if whose == "the user's" else {"RUNNER_CONFIG": str(file)}
    told: Told = []
    done = publish(
        fresh(), None, progress=lambda stage, text: told.append((stage, text)), environ={**ENVIRONMENT_LOGIN, **named},
    )  # fmt: skip
    assert done.reference.startswith(f"{registries.htpasswd}/team/runner-test-push:")
    assert told[0][1].endswith("RUNNER_REGISTRY_USER and RUNNER_REGISTRY_PASSWORD")


def test_a_checkout_cannot_have_the_environment_s_login_sent_to_a_host_of_its_choice(
    registries: Registries, fresh: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its libs.yaml nor its runner.yaml. The registry takes this login, so that only its absence is an error."""
    monkeypatch.chdir(tmp_path)
    libs, project = tmp_path / "libs.yaml", tmp_path / "runner.yaml"
    libs.write_text(f"name: runner-test-push\nregistry: {registries.htpasswd}/by-libs\n")
    docker("tag", fresh(), content_tag(libs))
    _refused(None, libs)
    project.write_text(f"registry: {registries.htpasswd}/by-project\n")
    image = fresh()
    _refused(image, None)
    project.write_text(f"{project.read_text()}registries: {{'{registries.htpasswd}': {{auth: basic}}}}\n")
    _refused(image, None)

    environ = {**ENVIRONMENT_LOGIN, "RUNNER_REGISTRY": registries.htpasswd}
    assert publish(None, None, libs=libs, environ=environ).reference.startswith(f"{registries.htpasswd}/by-libs/")
    docker("rmi", content_tag(libs))


def _refused(image: str | None, libs: Path | None) -> None:
    with pytest.raises(ImageError) as caught:
        publish(image, None, libs=libs, environ=ENVIRONMENT_LOGIN)
    assert caught.value.problem == Problem.MISSING_LOGIN
    assert "RUNNER_REGISTRY_USER goes only to a registry that you name yourself: --push …" in str(caught.value)


def test_the_command(registries: Registries, fresh: Make, cli: Cli, tmp_path: Path) -> None:
    image = fresh()
    login = {"RUNNER_REGISTRY_USER": USER, "RUNNER_REGISTRY_PASSWORD": PASSWORD, "HOME": str(tmp_path)}
    before = _files(tmp_path)
    done = cli("push", image, f"{registries.htpasswd}/cli:v1", "--json", env=login)

    assert done.code == 0, done.err
    assert done.json["reference"] == f"{registries.htpasswd}/cli:v1"
    assert done.json["by_digest"] == f"{registries.htpasswd}/cli@{done.json['digest']}"
    assert done.json["already_there"] is False
    assert set(done.json) == {"reference", "digest", "by_digest", "size_bytes", "already_there", "seconds"}
    again = cli("push", image, f"{registries.htpasswd}/cli:v1", env=login)
    assert "(unchanged, nothing was sent)" in again.out
    assert PASSWORD not in done.out + done.err + again.out + again.err
    assert _files(tmp_path) == before, "nothing is written"


def test_the_image_of_a_libs_file(registries: Registries, image: str, cli: Cli) -> None:
    """By --libs, and by the libs.yaml here; an unbuilt one is named with the command that builds it."""
    from tests.conftest import ROOT

    libs = ROOT / "tests" / "images" / "small" / "libs.yaml"
    done = cli("push", "--libs", libs, f"{registries.open}", "--json")
    assert done.code == 0, done.err
    assert done.json["reference"] == f"{registries.open}/{image.removeprefix('localhost/')}"
    docker("rmi", done.json["reference"])

    (cli.cwd / "libs.yaml").write_text(f"name: runner-test-unbuilt\nenv: {{SALT: {os.urandom(4).hex()}}}\n")
    failed = cli("push", env={"RUNNER_REGISTRY": registries.open})
    assert failed.code == 11
    assert "build it first: runner build --libs libs.yaml" in failed.err


def test_the_registry_of_a_libs_file(registries: Registries, fresh: Make, tmp_path: Path) -> None:
    """It comes before the environment; a malformed one is named with its line."""
    libs = tmp_path / "libs.yaml"
    libs.write_text(f"name: runner-test-push\nregistry: {registries.open}/by-libs\n")
    docker("tag", fresh(), content_tag(libs))
    done = publish(None, None, libs=libs, environ={"RUNNER_REGISTRY": "elsewhere.invalid"})
    assert done.reference == f"{registries.open}/by-libs/{content_tag(libs).removeprefix('localhost/')}"

    libs.write_text("name: runner-test-push\nregistry: https://a.example.com\n")
    with pytest.raises(SpecError, match=r"libs\.yaml:2: registry: .*"):
        publish(None, None, libs=libs, environ={})


def _docker_login(folder: Path, host: str) -> None:
    import base64

    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    _docker_config(folder, {"auths": {host: {"auth": login}}})


def _docker_config(folder: Path, config: object) -> None:
    (folder / "docker").mkdir(exist_ok=True)
    (folder / "docker" / "config.json").write_text(json.dumps(config))


def _files(folder: Path) -> list[tuple[str, int]]:
    """Every file of HOME, but for those of the tests themselves."""
    kept = [
        path for path in folder.rglob("*") if stat.S_ISREG(path.lstat().st_mode) and "__pycache__" not in path.parts
    ]
    return sorted((str(path), path.stat().st_size) for path in kept)
