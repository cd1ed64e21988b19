"""Secrets of a build: seen by its commands alone, in no log or error, on no disk, and gone however the build ends."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runner.builder import build, cache
from runner.builder.hiding import _TMPFS
from runner.errors import BuildError
from tests.conftest import Cli
from tests.e2e.build_material import build_containers, docker, make_wheel, served

pytestmark = [pytest.mark.docker]

Make = Callable[..., Any]
NAME = "RN_BUILD_TOKEN"


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """The value of NAME in the environment."""
    value = f"tok-{os.urandom(12).hex()}"
    monkeypatch.setenv(NAME, value)
    return value


def libs(*commands: str, more: str = "") -> str:
    return f"name: runner-test-hidden\n{more}run:\n" + "".join(f"  - |\n    {command}\n" for command in commands)


def test_what_a_command_prints_of_a_secret_is_in_no_log_and_no_error(
    make: Make, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also each line of a longer one, and a value that is a part of another; not one that is too short."""
    lines = [os.urandom(9).hex() for _ in range(3)]
    monkeypatch.setenv("RN_BUILD_KEY", "\n".join(lines))
    monkeypatch.setenv("RN_BUILD_LONG", f"{token}-and-more")
    monkeypatch.setenv("RN_BUILD_SHORT", "set")
    names = (NAME, "RN_BUILD_KEY", "RN_BUILD_LONG", "RN_BUILD_SHORT")
    show = (
        f'set -x; echo {os.urandom(4).hex()} settled; cat /run/secrets/*; echo; echo "E: <$(cat /run/secrets/{NAME})>"'
    )
    log = tmp_path / "log"

    with pytest.raises(BuildError) as caught:
        make(libs(f"{show}; exit 7"), secrets=names, log=log)

    told = log.read_text()
    for value in (token, *lines, "-and-more"):
        assert value not in told
        assert value not in str(caught.value)
    assert "E: <***>" in told
    assert "E: <***>" in str(caught.value), "the line is there, without its secret"
    assert "settled" in told
    assert "exit code 7" in str(caught.value)


def test_nor_of_what_requirements_refer_to(
    make: Make, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RN_BUILD_USER", "build")
    index = tmp_path / "index" / "rnhidden"
    index.mkdir(parents=True)
    wheel = make_wheel(index, "rnhidden", f"1.0.{int.from_bytes(os.urandom(4))}", "")
    (index / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    with served(tmp_path / "index", token) as address:
        more = f"pip: [rnhidden, '--extra-index-url http://${{RN_BUILD_USER}}:${{{NAME}}}@{address}/']\n"
        made = make(libs(f"echo {token}", more=more), log=tmp_path / "log")
    assert [each.name for each in made.image.libraries] == ["rnhidden"]
    told = (tmp_path / "log").read_text()
    assert token not in told
    assert "+ echo ***\n***\n" in told


_STOPS = {"SIGTERM": (143, "terminated"), "SIGHUP": (129, "terminated"), "SIGINT": (130, "interrupted")}


@pytest.fixture
def heard() -> Iterator[None]:
    """A test run below nohup ignores SIGHUP, and that is inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def stuck(cli: Cli, token: str, eventually: Callable[..., None], heard: None) -> Iterator[subprocess.Popen[bytes]]:
    """`runner build`, in a command that does not end."""
    file = cli.cwd / "libs.yaml"
    file.write_text(libs(f"echo {os.urandom(4).hex()}; sleep 1000"))
    process = cli.start("build", "--libs", file, "--secret", NAME, env={NAME: token})
    eventually(lambda: "run.sh" in _commands(process.pid) or process.poll() is not None, "the command runs")
    assert process.poll() is None, process.communicate()
    yield process
    process.kill()
    process.communicate()


def _commands(pid: int) -> str:
    return docker("ps", "--filter", f"name=-{pid}-", "--format", "{{.Command}}", "--no-trunc")


def _hidden(pid: int) -> list[Path]:
    return list(_TMPFS.glob(f"runner-build-*-{pid}-*"))


def _files_with(value: str, folder: Path) -> list[Path]:
    found = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # of another worker's build, and gone meanwhile
            if path.is_file() and value.encode() in path.read_bytes():
                found.append(path)
    return found


@pytest.mark.parametrize("name", _STOPS)
def test_a_build_that_is_stopped_leaves_nothing(stuck: subprocess.Popen[bytes], name: str, token: str) -> None:
    code, word = _STOPS[name]
    work = cache.cache_dir() / "work"
    during = set(work.iterdir())  # another worker's build may follow at once in the same folder
    assert during, "otherwise this proves less"
    assert _files_with(token, work) == [], "it is on no disk"
    (place,) = _hidden(stuck.pid)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert _files_with(token, place)

    stuck.send_signal(signal.Signals[name])
    out, err = stuck.communicate(timeout=60)

    assert stuck.returncode == code, err
    assert out == b""
    assert err.decode().splitlines()[-1] == word
    assert err.count(word.encode()) == 1
    assert b"Traceback" not in err
    assert b"StoppedError" not in err
    assert build_containers(stuck.pid) == ""
    assert _hidden(stuck.pid) == []
    assert not during & set(work.iterdir())


def test_a_second_signal_does_not_interrupt_the_cleaning_up(stuck: subprocess.Popen[bytes]) -> None:
    """A closed terminal says it twice, as the kernel and as the shell."""
    for _ in range(20):
        stuck.send_signal(signal.SIGHUP)
    _, err = stuck.communicate(timeout=60)
    assert stuck.returncode == 129, err
    assert build_containers(stuck.pid) == ""
    assert _hidden(stuck.pid) == []


def test_what_a_killed_build_hid_is_removed_by_the_next(stuck: subprocess.Popen[bytes], make: Make) -> None:
    stuck.kill()
    stuck.communicate()
    assert _hidden(stuck.pid), "kill -9 leaves it; otherwise this proves nothing"

    make(libs(f"echo {os.urandom(4).hex()}"))

    assert _hidden(stuck.pid) == []
    assert build_containers(stuck.pid) == ""


def test_an_engine_that_does_not_see_this_tmpfs(cli: Cli, token: str) -> None:
    """As one in a virtual machine: here it is the command that has a /dev/shm of its own."""
    private = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"]
    if os.getuid() != 0 or not shutil.which("unshare") or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("needs root, and the right to mount")
    file = cli.cwd / "libs.yaml"
    file.write_text(libs(f"echo {os.urandom(4).hex()}; sha256sum </run/secrets/{NAME} >/etc/seen"))
    argv = [*private, *cli.argv("build", "--libs", file, "--secret", NAME)]
    done = subprocess.run(argv, cwd=cli.cwd, env={**cli.env, NAME: token}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tag = build(file).tag
    try:
        seen = docker("run", "--rm", tag, "cat", "/etc/seen").split()[0]
    finally:
        docker("rmi", tag)
    wanted = subprocess.run(["sha256sum"], input=token.encode(), capture_output=True, check=True).stdout.decode()
    assert seen == wanted.split()[0]
    assert _files_with(token, cache.cache_dir() / "work") == []
