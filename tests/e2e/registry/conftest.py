"""Real registries on loopback, started once per session by pytest-docker, and small images to push to them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.builder import build
from tests.conftest import ROOT, eventually
from tests.e2e.build_material import docker
from tests.e2e.registry.acr import Acr, Identity, fronted, identities, make_certificates

HERE = Path(__file__).parent
USER, PASSWORD = "pusher", "correct horse battery staple"
SILENT = (
    "RUNNER_REGISTRY",
    "RUNNER_REGISTRY_USER",
    "RUNNER_REGISTRY_PASSWORD",
    "RUNNER_CONFIG",
    "AZURE_AUTHORITY_HOST",
)


@dataclass(frozen=True)
class Registries:
    """`HOST:PORT` of each registry of the compose file; `tls_address` and `open_address` are those of the containers."""

    open: str
    htpasswd: str
    full: str
    doomed: str
    acr: str
    open_address: str
    tls_address: str
    project: str

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return _container(self.project, service)


def _container(project: str, service: str) -> str:
    label = "label=com.docker.compose"
    return docker(
        "ps", "-aq", "--filter", f"{label}.project={project}", "--filter", f"{label}.service={service}"
    ).strip()


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private CA, certificates, and the password file (bcrypt, as the registry wants it)."""
    folder = tmp_path_factory.mktemp("material")
    make_certificates(folder)
    made = subprocess.run(["htpasswd", "-nbB", USER, PASSWORD], check=True, capture_output=True, text=True)
    (folder / "htpasswd").write_text(made.stdout)
    return folder


@pytest.fixture(scope="session")
def front(material: Path) -> Iterator[Acr]:
    acr = Acr(material)
    with fronted(acr):
        yield acr


@pytest.fixture(scope="session")
def docker_compose_command(engine: None, material: Path, front: Acr, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Compose as it is here, with what the file leaves open."""
    image = build(ROOT / "tests" / "images" / "registry" / "libs.yaml").tag
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        doomed = free.getsockname()[1]
    variables = {
        "REGISTRY_IMAGE": image, "REGISTRY_CONFIG": HERE / "registry.yml", "REGISTRY_MATERIAL": material,
        "ACR_HOST": front.host, "DOOMED_PORT": doomed,
    }  # fmt: skip
    file = tmp_path_factory.mktemp("compose") / "variables"
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    program = "docker-compose" if shutil.which("docker-compose") else "docker compose"
    return f'{program} --env-file "{file}"'


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(HERE / "docker-compose.yml")


@pytest.fixture(scope="session")
def docker_setup() -> str:
    return "up -d"


@pytest.fixture(scope="session")
def registries(docker_services: Any, docker_compose_project_name: str, front: Acr) -> Registries:
    ports = {
        name: docker_services.port_for(name, 5000) for name in ("open", "htpasswd", "full", "doomed", "acr", "tls")
    }
    front.upstream = ports["acr"]
    for port in ports.values():
        eventually(partial(_answers, port), f"the registry at {port} answers")
    project = docker_compose_project_name
    return Registries(
        open=f"127.0.0.1:{ports['open']}",
        htpasswd=f"127.0.0.1:{ports['htpasswd']}",
        full=f"127.0.0.1:{ports['full']}",
        doomed=f"127.0.0.1:{ports['doomed']}",
        acr=front.host,
        open_address=_inside(_container(project, "open")),
        tls_address=_inside(_container(project, "tls")),
        project=project,
    )


def _inside(container: str) -> str:
    """The address of a container itself: no loopback, so the engine insists on TLS that it trusts."""
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return f"{docker('inspect', '-f', template, container).strip()}:5000"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(b"GET /v2/ HTTP/1.0\r\n\r\n")
            return sock.recv(5) == b"HTTP/"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login, setting or identity of this machine is seen."""
    for name in (*SILENT, *(name for name in os.environ if name.startswith(("AZURE_", "IDENTITY_", "MSI_")))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("RUNNER_HOME", str(tmp_path / "home"))


@pytest.fixture
def identity() -> Iterator[Identity]:
    given = Identity()
    with identities(given):
        yield given


Make = Callable[..., str]


@pytest.fixture
def fresh(engine: None) -> Iterator[Make]:
    """Make an image that no registry has: `fresh()`, `fresh(megabytes=60)`. Its names are removed at the end."""
    made: list[str] = []

    def make(megabytes: float = 0.1, architecture: str = "amd64") -> str:
        name = f"localhost/runner-test-push:{os.urandom(8).hex()}"
        archive = _archive(name, os.urandom(int(megabytes * 1e6)), architecture)
        subprocess.run(["docker", "load", "--quiet"], input=archive, check=True, capture_output=True)
        made.append(docker("inspect", "-f", "{{.Id}}", name).strip())
        return name

    yield make
    for identifier in made:  # with all its names, and digests of registries in which the tag has moved on
        subprocess.run(["docker", "rmi", "--force", identifier], check=False, capture_output=True)


def _archive(name: str, content: bytes, architecture: str) -> bytes:
    """A docker archive of one layer that holds one file."""
    layer = _tar({"noise": content})
    config = {
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["/noise"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"config.json": config, "manifest.json": manifest}
    return _tar({**{file: json.dumps(data).encode() for file, data in files.items()}, "layer.tar": layer})


def _tar(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for file, raw in files.items():
            info = tarfile.TarInfo(file)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return stream.getvalue()


def names_of(image: str) -> list[str]:
    """The names of an image on the engine."""
    return docker("inspect", "-f", '{{join .RepoTags " "}}', image).split()
