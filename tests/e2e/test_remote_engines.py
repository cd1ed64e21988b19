"""An engine on another machine: over TLS with client certificates, and over ssh. Nothing is mounted, bytes travel as tar."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cli

pytestmark = pytest.mark.docker

Script = Callable[[str, str], Path]
Eventually = Callable[..., None]

SCRIPT = """
import os, pathlib, sys
print(pathlib.Path(os.environ["RUNNER_INPUT_DATA"], "a.txt").read_text(), pathlib.Path(os.environ["RUNNER_INPUT_ONE"]).name)
pathlib.Path("outputs/sub").mkdir()
pathlib.Path("outputs/sub/x.txt").write_text("from afar")
os.symlink("/etc/passwd", "outputs/out")
os.symlink("sub/x.txt", "outputs/in")
pathlib.Path(os.environ["RUNNER_OUTPUT_MODEL"], "m").write_text("model")
pathlib.Path("res/r").write_text("result")
logged = pathlib.Path(os.environ["RUNNER_TRACKING"])
(logged / "metrics" / "loss").write_text("1000 0.5 3\\n")
(logged.parents[2] / "artifacts").mkdir()
(logged.parents[2] / "artifacts" / "a.txt").write_text("logged")
sys.exit(5)
"""


@dataclass(frozen=True)
class Remote:
    """An address, and what a client needs to use it."""

    env: dict[str, str]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def openssl(folder: Path, *args: str) -> None:
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> None:
    """A private authority, and a certificate each for server and client, in the places where docker looks for them."""
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test-ca",
            "-keyout", "ca-key.pem", "-out", "ca.pem")  # fmt: skip
    for name, usage, extra in (("server", "serverAuth", "subjectAltName=IP:127.0.0.1"), ("client", "clientAuth", "")):
        (folder / f"{name}.ext").write_text(f"extendedKeyUsage={usage}\n{extra}\n")
        openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}-key.pem", "-out", f"{name}.csr")  # fmt: skip
        openssl(folder, "x509", "-req", "-days", "2", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
                "-CAcreateserial", "-extfile", f"{name}.ext", "-out", f"{name}-cert.pem")  # fmt: skip
    shutil.copy(folder / "client-cert.pem", folder / "cert.pem")
    shutil.copy(folder / "client-key.pem", folder / "key.pem")


@contextmanager
def forwarder(folder: Path, port: int) -> Iterator[None]:
    """The engine of this machine behind TLS with client certificates: what `dockerd --tlsverify` puts before its API."""
    listen = f"OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,verify=1,cafile={folder}/ca.pem"
    listen += f",cert={folder}/server-cert.pem,key={folder}/server-key.pem"
    argv = ["socat", listen, "UNIX-CONNECT:/var/run/docker.sock"]
    process = subprocess.Popen(argv, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def tls(tmp_path: Path, eventually: Eventually) -> Iterator[Remote]:
    folder = tmp_path / "certificates"
    folder.mkdir()
    certificates(folder)
    port = free_port()
    env = {"DOCKER_HOST": f"tcp://127.0.0.1:{port}", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}
    with forwarder(folder, port):
        eventually(lambda: listens(port), "the TLS forwarder listens")
        yield Remote(env)


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def ssh(tmp_path: Path, eventually: Eventually) -> Iterator[Remote]:
    """A real sshd on loopback with keys of its own. `ssh` finds them by a configuration file, through a wrapper on PATH."""
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = free_port()
    docker = Path(shutil.which("docker") or "/usr/bin/docker").parent
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\nStrictModes no\n"
        f"PidFile {folder}/pid\nPasswordAuthentication no\nUsePAM no\nPermitRootLogin yes\n"
        f"SetEnv PATH={docker}:/usr/bin:/bin\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "config").write_text(
        f"Host engine\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {folder}/user\n"
        f"  StrictHostKeyChecking no\n  UserKnownHostsFile {folder}/known\n  LogLevel ERROR\n"
    )
    wrapper = folder / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    wrapper.chmod(0o755)
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    server = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.PIPE)
    try:
        eventually(lambda: listens(port), "sshd listens")
        yield Remote({"DOCKER_HOST": "ssh://engine", "PATH": f"{wrapper.parent}:{os.environ['PATH']}"})
    finally:
        server.terminate()
        server.communicate()


@pytest.fixture(params=["tls", "ssh"])
def remote(request: pytest.FixtureRequest) -> Remote:
    found: Remote = request.getfixturevalue(request.param)
    return found


def test_a_run_on_another_machine_is_the_same_run(cli: Cli, work: Path, remote: Remote, image: str) -> None:
    (work / "data").mkdir()
    (work / "data" / "a.txt").write_text("input")
    (work / "code").mkdir()
    (work / "code" / "a.py").write_text(SCRIPT)
    done = cli(
        "submit", "code/a.py", "--backend", "docker", "--image", image, "--input", "data=data", "--input", "one=data/a.txt",
        "--output", "model", "--output", "results=res", "--wait", "--json", env=remote.env,
    )  # fmt: skip
    assert done.code == 5, done.err
    assert (done.json["reason"], done.json["exit_code"]) == ("NonZeroExit", 5)
    assert "input a.txt" in done.err
    assert any("links that lead out" in warning for warning in done.json["warnings"])
    assert cli("download", "@last", "--to", work / "got").code == 0
    found = {
        str(path.relative_to(work / "got")): path.read_text() for path in (work / "got").rglob("*") if path.is_file()
    }
    assert found == {
        "outputs/sub/x.txt": "from afar", "outputs/in": "from afar", "model/m": "model", "results/r": "result",
        "mlflow/a.txt": "logged",
    }  # fmt: skip
    assert cli.row("@last")["metrics"]["loss"]["value"] == 0.5


def test_it_can_be_canceled_and_follows_its_log(
    cli: Cli, script: Script, remote: Remote, image: str, eventually: Eventually
) -> None:
    script("a.py", "import time\nprint('up', flush=True)\ntime.sleep(600)")
    submitted = cli("submit", "a.py", "--backend", "docker", "--image", image, env=remote.env)
    assert submitted.code == 0, submitted.err
    name = submitted.out.strip()
    eventually(lambda: cli("logs", name).out == "up\n", "the first line is here")
    assert cli("cancel", name, env=remote.env).code == 0
    done = cli("wait", name, "--json", env=remote.env)
    assert (done.code, done.json[0]["reason"], done.json[0]["signal"]) == (143, "Canceled", "SIGTERM")


def test_secrets_are_refused_before_anything_starts(cli: Cli, script: Script, tls: Remote, image: str) -> None:
    script("a.py", "print(1)")
    done = cli(
        "submit", "a.py", "--backend", "docker", "--image", image, "--secret", "T", env={**tls.env, "T": "s3cr3t"}
    )
    assert done.code == 6
    assert "--secret" in done.err
    assert "s3cr3t" not in done.err


def test_without_a_client_certificate_the_error_says_so(
    cli: Cli, script: Script, tls: Remote, tmp_path: Path, image: str
) -> None:
    script("a.py", "print(1)")
    empty = tmp_path / "none"
    empty.mkdir()
    shutil.copy(Path(tls.env["DOCKER_CERT_PATH"]) / "ca.pem", empty)
    done = cli(
        "submit", "a.py", "--backend", "docker", "--image", image, env={**tls.env, "DOCKER_CERT_PATH": str(empty)}
    )
    assert done.code == 9
    assert "Traceback" not in done.err
