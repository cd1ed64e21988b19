"""Images that runner did not build, and callers that are not root: real containers, real users."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cli

pytestmark = pytest.mark.docker

Script = Callable[[str, str], Path]
Eventually = Callable[..., None]

CALLER = 4321
"""A uid that this machine does not know: like a user of a container's or a cluster's."""


@pytest.fixture(scope="module")
def no_python() -> Iterator[str]:
    """An image with a shell and nothing else: Debian's static busybox in an empty file system."""
    tag = f"runner-test-busybox:{os.getpid()}"
    buffer = io.BytesIO()
    busybox = shutil.which("busybox")
    assert busybox is not None, "the suite needs Debian's busybox-static (see .ci/with-engine)"
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(Path(busybox).resolve(), "bin/busybox")
        for name in ("sh", "cat", "sleep", "env", "mkdir", "kill"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    subprocess.run(["docker", "import", "-", tag], input=buffer.getvalue(), check=True, capture_output=True)
    yield tag
    subprocess.run(["docker", "rmi", "-f", tag], check=True, capture_output=True)


@pytest.fixture(scope="module")
def foreign(image: str) -> Iterator[str]:
    """The test image as somebody else would have made it: same files, none of our labels, an entrypoint of its own."""
    tag = f"runner-test-foreign:{os.getpid()}"
    container = subprocess.run(
        ["docker", "create", image, "x"], check=True, capture_output=True, text=True
    ).stdout.strip()
    with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
        subprocess.run(
            ["docker", "import", "--change", 'ENTRYPOINT ["/bin/false"]', "-", tag], stdin=export.stdout, check=True,
            capture_output=True,
        )  # fmt: skip
    subprocess.run(["docker", "rm", container], check=True, capture_output=True)
    yield tag
    subprocess.run(["docker", "rmi", "-f", tag], check=True, capture_output=True)


def test_a_foreign_image_gets_the_bootstrapper_injected(cli: Cli, script: Script, foreign: str) -> None:
    script("a.py", "import os, sys\nprint(os.getcwd())\nsys.exit(7)")
    done = cli("submit", "a.py", "--backend", "docker", "--image", foreign, "--wait", "--json")
    assert done.code == 7
    assert (done.json["reason"], done.json["exit_code"], done.json["warnings"]) == ("NonZeroExit", 7, [])
    shown = cli("submit", "a.py", "--backend", "docker", "--image", foreign, "--dry-run").json
    targets = [mount["Target"] for mount in shown["request"]["HostConfig"]["Mounts"]]
    assert "/mnt/runner-bootstrap" in targets


def test_an_own_image_is_used_as_it_is(cli: Cli, script: Script, image: str) -> None:
    script("a.py", "print(1)")
    shown = cli("submit", "a.py", "--backend", "docker", "--image", image, "--dry-run").json
    assert shown["request"]["Entrypoint"][-1] == "/opt/runner/bootstrap.pyc"
    assert [mount["Target"] for mount in shown["request"]["HostConfig"]["Mounts"]] == ["/mnt/runner"]


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [("echo hi > outputs/x; exit 0", 0, "Completed"), ("exit 9", 9, "NonZeroExit"), ("exit 137", 137, "NonZeroExit")],
)
def test_without_python_the_command_runs_directly(
    cli: Cli, script: Script, no_python: str, text: str, code: int, reason: str
) -> None:
    script("a.sh", text)
    done = cli("submit", "a.sh", "--backend", "docker", "--image", no_python, "--wait", "--json")
    assert done.code == code, done.err
    assert (done.json["reason"], done.json["exit_code"]) == (reason, code)
    assert any("no record kept" in warning for warning in done.json["warnings"])
    if code == 0:
        assert [one["path"] for one in cli.row(done.json["name"])["outputs"]] == ["outputs/x"]


def test_without_python_the_timeout_is_kept_from_outside(cli: Cli, script: Script, no_python: str) -> None:
    script("a.sh", "trap '' TERM; while :; do sleep 1; done")
    done = cli(
        "submit",
        "a.sh",
        "--backend",
        "docker",
        "--image",
        no_python,
        "--timeout",
        "1s",
        "--grace",
        "1s",
        "--wait",
        "--json",
    )
    assert (done.code, done.json["reason"], done.json["status"]) == (124, "Timeout", "Failed")


def test_without_python_memory_is_told_by_the_engine(cli: Cli, script: Script, no_python: str) -> None:
    script("a.sh", 'x=aaaaaaaaaaaaaaaa; while :; do x="$x$x"; done')
    done = cli("submit", "a.sh", "--backend", "docker", "--image", no_python, "--memory", "32m", "--wait", "--json")
    assert (done.code, done.json["reason"], done.json["signal"]) == (137, "OutOfMemory", "SIGKILL")


def test_without_python_cancel_kills(cli: Cli, script: Script, no_python: str, eventually: Eventually) -> None:
    script("a.sh", "echo up; while :; do sleep 1; done")
    name = cli.submit("a.sh", "--backend", "docker", "--image", no_python, "--grace", "1s")
    eventually(lambda: cli("logs", name).out == "up\n", "the script is up")
    assert cli("cancel", name).code == 0
    assert cli("wait", name).code == 143
    assert cli.row(name)["reason"] == "Canceled"


def test_without_python_secrets_are_refused_before_anything_starts(cli: Cli, script: Script, no_python: str) -> None:
    script("a.sh", "exit 0")
    done = cli(
        "submit",
        "a.sh",
        "--backend",
        "docker",
        "--image",
        no_python,
        "--secret",
        "TOKEN",
        "--wait",
        env={"TOKEN": "x1y2"},
    )
    assert done.code == 6
    assert "no python3" in done.err
    assert cli("list", "--json").json == []


def as_caller(cli: Cli, *args: str) -> subprocess.CompletedProcess[bytes]:
    """The command as an ordinary user who may use the engine's socket."""
    group = Path("/var/run/docker.sock").stat().st_gid
    argv = ["setpriv", f"--reuid={CALLER}", f"--regid={CALLER}", f"--groups={group}", "--", *cli.argv(*args)]
    env = {**cli.env, "HOME": str(cli.home.parent)}
    return subprocess.run(argv, cwd=cli.cwd, env=env, capture_output=True, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture
def opened(cli: Cli) -> Iterator[None]:
    """Let the caller use the test's folders and this Python, wherever they are; restored afterwards."""
    for path in (cli.home.parent, cli.cwd):
        os.chown(path, CALLER, CALLER)
    changed: list[tuple[Path, int]] = []
    for start in (Path(sys.executable), Path(sys.executable).resolve(), cli.home, Path(__file__)):
        for folder in start.parents:
            mode = stat.S_IMODE(folder.stat().st_mode)
            if not mode & stat.S_IXOTH:
                changed.append((folder, mode))
                folder.chmod(mode | stat.S_IXOTH)
    yield
    for folder, mode in reversed(changed):
        folder.chmod(mode)


@pytest.mark.usefixtures("opened")
def test_an_ordinary_caller_is_himself_inside_and_owns_what_comes_out(cli: Cli, script: Script, image: str) -> None:
    text = """
        import os, pathlib, json
        home = pathlib.Path.home()
        (home / "x").write_text("1")
        pathlib.Path("here").write_text("1")
        pathlib.Path("outputs/ids.json").write_text(json.dumps([os.getuid(), os.getgid(), str(home)]))
    """
    script("a.py", "\n".join(line.removeprefix("        ") for line in text.splitlines()))
    done = as_caller(cli, "submit", "a.py", "--backend", "docker", "--image", image, "--wait", "--json")
    assert done.returncode == 0, done.stderr.decode()
    name = json.loads(done.stdout)["name"]
    downloaded = as_caller(cli, "download", name, "--to", "got")
    assert downloaded.returncode == 0, downloaded.stderr.decode()
    assert json.loads((cli.cwd / "got/outputs/ids.json").read_text()) == [CALLER, CALLER, "/mnt/runner/home"]
    owners = {path.lstat().st_uid for path in (cli.home, *cli.home.rglob("*"))}
    assert owners == {CALLER}
    assert all(not stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (cli.home, cli.home / "runs" / name))


def test_root_runs_as_the_images_user_and_owns_what_comes_out(cli: Cli, script: Script, image: str) -> None:
    script("a.py", "import os, pathlib\npathlib.Path('outputs/uid').write_text(str(os.getuid()))")
    done = cli("submit", "a.py", "--backend", "docker", "--image", image, "--wait", "--json")
    assert done.code == 0, done.err
    found = cli.home / "runs" / done.json["name"] / "attempts/1/artifacts/outputs/uid"
    assert found.read_text() not in {"", "0"}
    assert found.stat().st_uid == 0


def test_a_python_without_the_resource_module_is_enough(cli: Cli, script: Script, image: str) -> None:
    """Debian's python3-minimal has none, and wait4 would reap the script and then lose its status."""
    tag = f"runner-test-minimal:{os.getpid()}"
    hide = "RUN rm -f /usr/lib/python3*/lib-dynload/resource.*"
    dockerfile = f"FROM {image}\nUSER root\n{hide}\n".encode()
    subprocess.run(["docker", "build", "-q", "-t", tag, "-"], input=dockerfile, check=True, capture_output=True)
    try:
        script("a.sh", "exit 3")
        done = cli("submit", "a.sh", "--backend", "docker", "--image", tag, "--wait", "--json")
    finally:
        subprocess.run(["docker", "rmi", "-f", tag], check=True, capture_output=True)
    assert (done.code, done.json["reason"], done.json["max_rss_bytes"]) == (3, "NonZeroExit", None)
    assert done.json["user_s"] is not None
