"""Every way in which a push can fail, each at a real registry: told apart, with its fix, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from runner.builder.registry.errors import Problem
from runner.builder.registry.publish import publish
from runner.errors import ImageError, SpecError, UnavailableError, UsageError
from tests.conftest import Cli, eventually
from tests.e2e.build_material import docker
from tests.e2e.registry.conftest import PASSWORD, USER, Make, Registries, names_of
from tests.e2e.second_engine import SecondEngine

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("registries")]


@dataclass(frozen=True)
class Case:
    """Where to ({…} is a field of Registries), with which environment; what must be said."""

    problem: Problem
    target: str
    message: str
    fix: str
    environ: dict[str, str] = field(default_factory=dict)


LOGIN = {"RUNNER_REGISTRY_USER": USER, "RUNNER_REGISTRY_PASSWORD": "wrong-secret-word"}
CASES = (
    Case(Problem.MISSING_LOGIN, "{htpasswd}/app", "wants a login, and there is none", "sign in: docker login {htpasswd}"),
    Case(
        Problem.WRONG_LOGIN, "{htpasswd}/app", "does not accept the login from RUNNER_REGISTRY_USER",
        "check RUNNER_REGISTRY_USER and RUNNER_REGISTRY_PASSWORD", LOGIN,
    ),
    Case(
        Problem.MISSING_LOGIN, "{htpasswd}/app", "wants a login",
        "RUNNER_REGISTRY_USER is set, but RUNNER_REGISTRY_PASSWORD is not", {"RUNNER_REGISTRY_USER": USER},
    ),
    Case(Problem.NAME_NOT_KNOWN, "registry.invalid/app", "is not known by that name", "check its spelling"),
    Case(Problem.REFUSED, "127.0.0.1:9/app", "nothing answers at the registry 127.0.0.1:9", "check the port"),
    Case(Problem.PLAIN_HTTP, "{open_address}/app", "speaks plain http", "insecure-registries"),
    Case(
        Problem.UNTRUSTED, "{tls_address}/app", "the certificate of {tls_address} is not trusted",
        "/etc/docker/certs.d/{tls_address}/ca.crt",
    ),
    Case(Problem.FULL, "{full}/app", "the registry {full} is full", "delete old images there"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.problem.value)
def test_it_is_told_apart(registries: Registries, fresh: Make, case: Case) -> None:
    image = fresh(megabytes=3)
    error = fails(image, case.target.format(**vars(registries)), case.environ)

    assert error.problem == case.problem, str(error)
    assert case.message.format(**vars(registries)) in error.message
    assert case.fix.format(**vars(registries)) in str(error)
    assert names_of(image) == [image], "the name for pushing is taken back"


def fails(image: str, target: str, environ: dict[str, str]) -> ImageError:
    """The error of a push that must fail; no secret is in it, nor in what it came from."""
    with pytest.raises(ImageError) as caught:
        publish(image, target, environ=environ)
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "wrong-secret-word" not in f"{seen!s}{seen!r}"
        seen = seen.__cause__ or seen.__context__
    return caught.value


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_a_registry_that_never_answers(fresh: Make, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.builder.registry.http._TIMEOUT_S", 0.5)
    error = fails(fresh(), f"{silent}/app", {})
    assert error.problem == Problem.TIMEOUT
    assert "does not answer in time" in error.message


def test_the_fix_for_an_untrusted_certificate_is_the_right_one(
    registries: Registries, fresh: Make, material: Path
) -> None:
    folder = Path("/etc/docker/certs.d") / registries.tls_address
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"the engine's folder cannot be written: {error}")
    try:
        shutil.copyfile(material / "ca.crt", folder / "ca.crt")
        environ = {"SSL_CERT_FILE": str(material / "ca.crt")}
        target = f"{registries.tls_address}/trusted:v1"
        done = publish(fresh(), target, environ=environ)
        again = publish(done.reference, target, environ=environ)
        assert again.already_there, "runner's own https trusts it too"
    finally:
        shutil.rmtree(folder)


def test_an_image_for_another_machine_is_no_use_in_a_cloud(fresh: Make) -> None:
    image = fresh(architecture="arm64")
    error = fails(image, "registry.example.com/app", {})
    assert error.problem == Problem.WRONG_PLATFORM
    assert "the image is for linux/arm64, and what runs it from registry.example.com needs linux/amd64" in error.message
    assert names_of(image) == [image]


def test_an_image_that_is_not_there(registries: Registries, fresh: Make) -> None:
    image = fresh()
    error = fails(image[:-1] + ("0" if image[-1] != "0" else "1"), f"{registries.open}/app", {})
    assert error.problem == Problem.NOT_ON_ENGINE
    assert f"did you mean {image}?" in str(error)


def test_where_to_is_malformed_or_missing(fresh: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"did you mean host\.example\.com/team/app"):
        publish(fresh(), "https://host.example.com/team/app", environ={})
    with pytest.raises(UsageError, match="nothing says where to push to"):
        publish(fresh(), None, environ={})


@pytest.mark.slow
def test_a_registry_that_dies_in_the_middle(registries: Registries, fresh: Make) -> None:
    """Killed while a layer goes up: the engine tries for most of a minute, then it is said. Started again, the next push
    goes through, and a name that stood for something else before still does."""
    older, image = fresh(), fresh(megabytes=60)
    target = f"{registries.doomed}/app:latest"
    publish(older, target, environ={})
    container = registries.container("doomed")
    killed: list[str] = []

    def kill(stage: str, text: str) -> None:
        if stage == "push" and text.endswith("…") and not killed and "0 B" not in text:
            killed.append(docker("kill", container))

    with pytest.raises(ImageError) as caught:
        publish(image, target, progress=kill, environ={})
    assert killed
    assert caught.value.problem == Problem.BROKEN_OFF, str(caught.value)
    assert "went away or failed while app was being pushed" in caught.value.message
    assert "push again" in str(caught.value)
    assert target in names_of(older)
    assert names_of(image) == [image]

    docker("start", container)
    _eventually_pushes(image, target)


def _eventually_pushes(image: str, target: str) -> None:
    def answers() -> bool:
        # By HTTP: the engine's own proxy takes connections before the registry in the container does.
        connection = HTTPConnection(target.partition("/")[0], timeout=1)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    eventually(answers, "the registry is there again")
    assert publish(image, target, environ={}).digest.startswith("sha256:")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_the_name_is_taken_back(
    registries: Registries, fresh: Make, cli: Cli, number: signal.Signals, code: int
) -> None:
    image = fresh(megabytes=100)
    target = f"{registries.open}/interrupted:v1"
    process = cli.start("push", image, target)
    eventually(lambda: target in names_of(image), "the push has begun")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.decode().splitlines()[-1] == ("interrupted" if code == 130 else "terminated")
    assert names_of(image) == [image]


@pytest.mark.slow
def test_the_engine_dies_in_the_middle(
    registries: Registries, fresh: Make, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a second engine needs root and dockerd")
    image = fresh(megabytes=60)
    engine = SecondEngine(tmp_path_factory.mktemp("engine"), os.getpid() % 250)
    try:
        engine.start()
        engine.load(image)
        killed: list[str] = []

        def kill(stage: str, text: str) -> None:
            if stage == "push" and text.endswith("…") and not killed:
                killed.append(text)
                engine.kill()

        with monkeypatch.context() as here:
            here.setenv("DOCKER_HOST", engine.host)
            with pytest.raises(UnavailableError, match="no container engine answers"):
                publish(image, f"{registries.open}/twice:v1", progress=kill, environ={})
            assert killed
            engine.start()
            done = publish(image, f"{registries.open}/twice:v1", environ={})
        assert not done.already_there
    finally:
        engine.close()


def test_every_problem_is_tested_somewhere() -> None:
    """A cause without a real case would be a text that nobody has ever seen."""
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    elsewhere = {Problem.OTHER}  # what no known words tell
    missing = [
        problem.name for problem in Problem if problem not in elsewhere and f"Problem.{problem.name}" not in source
    ]
    assert missing == []


def test_no_login_is_in_the_arguments_of_any_process(registries: Registries, fresh: Make) -> None:
    seen: list[str] = []

    def look(_stage: str, _text: str) -> None:
        seen.append(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout)

    environ = {"RUNNER_REGISTRY_USER": USER, "RUNNER_REGISTRY_PASSWORD": PASSWORD}
    publish(fresh(), f"{registries.htpasswd}/quiet", progress=look, environ=environ)
    assert seen
    assert PASSWORD not in "".join(seen)
