"""Conda packages in a real container: what the step leaves there, what an addition changes, what the verification sees."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.builder.cache import new_log
from runner.builder.conda.fetch import SCRIPT, environment, fetch, inputs
from runner.builder.conda.solve import solve
from runner.builder.recipe import STEPS
from runner.builder.session import Session
from runner.docker_api.images import Config, Mount, connect
from runner.spec.libs import Package
from tests.e2e.build_material import build_containers, docker, served
from tests.e2e.conda_material import BINARY, PLACEHOLDER, STANDARD, Conda, make_channel

pytestmark = [pytest.mark.docker]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _broken_library() -> bytes:
    """A real shared library of this machine that needs one which is nowhere."""
    maps = Path("/proc/self/maps").read_text().split()
    folder = next(Path(word).parent for word in maps if word.endswith("/libc.so.6"))
    return (folder / "libm.so.6").read_bytes().replace(b"libc.so.6\0", b"libq.so.6\0")


PACKAGES = (
    *STANDARD,
    Conda("rcactive", files={"etc/conda/activate.d/rc.sh": b'export RC_DATA="$CONDA_PREFIX/share/rc"\nexport PS1=x\n'}),
    Conda("rclib", files={"lib/librc.so.1": _broken_library()}, links={"lib/librc.so": "librc.so.1"}),
    Conda("rcfails", depends=("python",), files={"site-packages/rcfails.py": b"import nothere\n"}, noarch="python"),
    Conda("rcnew", depends=("__glibc >=9.9",)),
    Conda(
        "rcscript",
        files={"bin/.rcscript-post-link.sh": b"#!/bin/sh\nexit 3\n"},
        executable=("bin/.rcscript-post-link.sh",),
        noarch="generic",
    ),
)


@dataclass(slots=True)
class WithMounts(Session):
    """A session whose steps get further mounts."""

    extra: tuple[Mount, ...] = field(default=())

    def _mounts(self, given: Path, out: Path) -> tuple[Mount, ...]:
        # `super()` without arguments knows nothing of a class that `slots` made anew.
        return (*Session._mounts(self, given, out), *self.extra)


@dataclass
class Installed:
    """What a step did. changed: paths below /opt/conda, by `docker diff`."""

    code: int
    output: str
    answers: dict[str, str]
    changed: set[str]
    tag: str


@pytest.fixture(name="install")
def _install(image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Installed]]:
    """Solve, fetch and install in a container of the small image, or of another; the result is removed at the end."""
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "cache"))
    folder = make_channel(tmp_path / "channel", PACKAGES)
    tags: list[str] = []
    engine = connect()

    @contextmanager
    def place(mounts: tuple[Mount, ...]) -> Iterator[WithMounts]:
        path = new_log("conda")
        with path.open("ab") as log:
            yield WithMounts(engine, lambda *_told: None, path, log, tmp_path / "work", None, extra=mounts)

    def run(
        *specs: str, base: str = image, glibc: str = "2.28", there: tuple[str, ...] = (), more: tuple[Conda, ...] = ()
    ) -> Installed:
        if more:
            make_channel(folder, (*PACKAGES, *more))
        packages = [Package("conda", spec.split("=")[0], spec, "libs.yaml", 1, None) for spec in specs]
        locked = solve(packages, [channel], glibc=glibc)
        files = fetch([each for each in locked if each.name not in there], [channel], None, lambda _text: None)
        given, mounts = inputs(locked, files, packages, tmp_path / "files" / os.urandom(4).hex())
        tag = f"localhost/runner-test-conda:{os.getpid()}-{len(tags)}"
        with (
            place(mounts) as session,
            session.step("conda", base, ("/bin/sh", f"/mnt/in/{SCRIPT}"), given, quiet=True) as done,
        ):
            changed = docker("diff", done.ran._id).splitlines()
            if done.ran.exit_code == 0:
                tags.append(tag)
                done.ran.commit(Config(environment(PATH)), tag)
            inside = {line.split()[1].removeprefix("/opt/conda/") for line in changed if "/opt/conda/" in line}
            return Installed(done.ran.exit_code, "\n".join(done.lines), dict(done.answers), inside, tag)

    with served(folder) as address:
        channel = f"http://{address}/"
        yield run
    engine.close()
    left = build_containers(os.getpid())
    for tag in reversed(tags):
        docker("rmi", tag)
    assert not left


def run(image: str, *argv: str, user: str = "1000") -> str:
    return docker("run", "--rm", "--network", "none", "--user", user, image, *argv)


def record(image: str, name: str) -> Any:
    return json.loads(run(image, "sh", "-c", f"cat /opt/conda/conda-meta/{name}-*.json"))


def verify(image: str, *names: str) -> dict[str, dict[str, str]]:
    """What the verification says of the packages, as the run-time user."""
    script = STEPS / "verify_conda.py"
    asked = json.dumps(dict.fromkeys(names))
    out = docker(
        "run", "--rm", "--network", "none", "--user", "1000", "-v", f"{script}:/verify.py:ro", image,
        "/usr/bin/python3", "/verify.py", asked,
    )  # fmt: skip
    items = [json.loads(line.partition("runner ")[2]) for line in out.split("\n") if line.startswith("\x1erunner ")]
    assert [item["loading"] for item in items if "loading" in item] == list(names)
    return {item.pop("name"): item for item in items if "name" in item}


def test_packages_are_installed_as_from_their_channel(install: Callable[..., Installed], tmp_path: Path) -> None:
    done = install("rcpure", "rctool=1.2", "rcactive")

    assert done.code == 0, done.output
    assert done.answers == {
        "runner.conda.python": "/opt/conda/bin/python",
        "runner.conda.python.version": done.answers["runner.conda.python.version"],
        "conda.env": '{"RC_DATA": "/opt/conda/share/rc"}',
    }
    assert done.answers["runner.conda.python.version"].startswith("3.")
    assert run(done.tag, "rctool") == "a,b\n3,4\n", "the folder is written into texts"
    inside = subprocess.run(["docker", "run", "--rm", done.tag, "cat", "/opt/conda/lib/rctool.link"], check=True,
                            capture_output=True).stdout  # fmt: skip
    ending = BINARY.partition(PLACEHOLDER.encode())[2].partition(b"\0")[0]
    replaced = b"\x7fDATA\0/opt/conda" + ending
    assert inside.startswith(replaced + b"\0")
    assert len(inside) == len(BINARY), "the folder is written into binaries, and nothing moves"
    assert run(done.tag, "rcpure") == "7\n"
    assert run(done.tag, "python", "-c", "import rcpure, sys; print(rcpure.value, sys.prefix)") == "42 /opt/conda\n"

    tool = record(done.tag, "rctool")
    assert tool["url"].startswith("http://127.0.0.1:")
    assert tool["url"].endswith("/linux-64/rctool-1.2-h0_0.conda")
    assert tool["channel"] == tool["url"].removesuffix("/linux-64/rctool-1.2-h0_0.conda")
    assert tool["requested_specs"] == ["rctool=1.2"]
    assert tool["files"] == ["bin/rctool", "etc/rctool.conf", "lib/rctool.bin", "lib/rctool.link"]
    everything = run(done.tag, "sh", "-c", "find /opt/conda /mnt /tmp; cat /opt/conda/conda-meta/*.json", user="0")
    assert str(tmp_path) not in everything
    assert ".packages" not in everything
    assert "/mnt/" not in everything
    assert "rcpure/__pycache__/more.cpython-311.pyc" in everything
    writable = run(done.tag, "sh", "-c", "find /opt/conda ! -type l -perm /022", user="0")
    assert writable == ""
    assert verify(done.tag, "rcpure", "rctool", "python", "rcactive") == {
        "rcpure": {"version": "0.5"},
        "rctool": {"version": "1.2"},
        "python": {"version": "3.11.2"},
        "rcactive": {"version": "1.0"},
    }


def test_the_same_packages_give_the_same_bytes(install: Callable[..., Installed]) -> None:
    def digest(tag: str) -> str:
        return run(tag, "sh", "-c", "tar -C / -c --sort=name opt | sha256sum", user="0")

    first, second = install("rcpure", "rctool"), install("rcpure", "rctool")
    assert digest(first.tag) == digest(second.tag)


def test_an_addition_leaves_what_is_there(install: Callable[..., Installed]) -> None:
    first = install("rcpure", "rctool")

    second = install("rcpure", "rctool", "rcadd", base=first.tag, there=("python", "rcdata", "rcpure", "rctool"))

    assert second.code == 0, second.output
    assert "1 of 5 conda packages installed" in second.output
    assert second.changed == {"share", "share/rcadd", "conda-meta", "conda-meta/rcadd-1.0-h0_0.json"}
    assert run(second.tag, "cat", "/opt/conda/share/rcadd") == "added\n"
    assert verify(second.tag, "rcadd", "rcpure") == {"rcadd": {"version": "1.0"}, "rcpure": {"version": "0.5"}}


def test_another_version_replaces_what_is_there(install: Callable[..., Installed]) -> None:
    first = install("rcdata=1")
    second = install("rcdata=2", "rctool", base=first.tag)
    assert run(second.tag, "rctool") == "a,b\n3,4\n"
    assert record(second.tag, "rcdata")["version"] == "2.0"
    assert verify(second.tag, "rcdata") == {"rcdata": {"version": "2.0"}}


def test_what_does_not_load_is_seen(install: Callable[..., Installed]) -> None:
    tag = install("rcfails", "rclib", "rctool").tag
    spoilt = docker("create", "--user", "0", tag, "rm", "/opt/conda/etc/rctool.conf").strip()
    try:
        docker("start", "-a", spoilt)
        docker("commit", spoilt, f"{tag}-spoilt")
    finally:
        docker("rm", spoilt)
    try:
        found = verify(f"{tag}-spoilt", "rcfails", "rclib", "rctool", "rcadd")
    finally:
        docker("rmi", f"{tag}-spoilt")

    assert found["rcfails"]["error"] == "module rcfails: ModuleNotFoundError: No module named 'nothere'"
    assert found["rclib"]["error"].startswith("lib/librc.so.1: libq.so.6 => not found")
    assert found["rctool"]["error"] == "etc/rctool.conf is missing"
    assert found["rcadd"] == {"error": "not installed"}


def _installed_r_package(folder: Path, image: str, name: str, code: str) -> dict[str, bytes]:
    """The files of an R package, as the R of `image` installs it: path in a conda package → content."""
    source = folder / name
    (source / "R").mkdir(parents=True)
    (source / "DESCRIPTION").write_text(f"Package: {name}\nVersion: 1.0\nTitle: T\nDescription: T.\nLicense: MIT\n")
    (source / "NAMESPACE").write_text("")
    (source / "R" / "code.R").write_text(code)
    library = folder / "library"
    library.mkdir(exist_ok=True)
    docker("run", "--rm", "--user", "0", "-v", f"{folder}:/work", image,
           "R", "CMD", "INSTALL", "--no-docs", "--no-test-load", "-l", "/work/library", f"/work/{name}")  # fmt: skip
    files = (path for path in (library / name).rglob("*") if path.is_file())
    return {f"lib/R/library/{path.relative_to(library).as_posix()}": path.read_bytes() for path in files}


def test_r_packages_are_loaded_by_the_r_of_conda(
    install: Callable[..., Installed], python_r: str, tmp_path: Path
) -> None:
    wrapper = f'#!/bin/sh\nR_LIBS={PLACEHOLDER}/lib/R/library exec /usr/bin/Rscript "$@"\n'.encode()
    more = (
        Conda("r-base", "4.2.2", files={"bin/Rscript": wrapper}, executable=("bin/Rscript",)),
        Conda("r-rcgood", "1.0", ("r-base",), _installed_r_package(tmp_path, python_r, "rcgood", "one <- 1\n")),
        Conda(
            "r-rcbad",
            "1.0",
            (),
            _installed_r_package(tmp_path, python_r, "rcbad", ".onLoad <- function(...) stop('no way')\n"),
        ),
    )
    tag = install("r-rcgood", "r-rcbad", base=python_r, more=more).tag
    found = verify(tag, "r-base", "r-rcgood", "r-rcbad")
    assert found["r-base"] == {"version": "4.2.2"}
    assert found["r-rcgood"] == {"version": "1.0"}
    assert found["r-rcbad"]["error"].startswith("R package rcbad: ")
    assert "no way" in found["r-rcbad"]["error"]

    without = install("r-rcbad", base=python_r)
    assert (
        verify(without.tag, "r-rcbad")["r-rcbad"]["error"]
        == "it has the R package rcbad, and conda has no Rscript here"
    )


def test_what_cannot_be_installed_is_named(install: Callable[..., Installed]) -> None:
    new = install("rcnew", glibc="9.9")
    assert new.code == 1
    assert "runner: rcnew needs glibc >=9.9, and the base has glibc 2." in new.output
    script = install("rcscript")
    assert script.code == 1
    assert "runner: post-link script failed: rcscript: bin/.rcscript-post-link.sh" in script.output


def test_a_base_with_an_old_python_is_refused(install: Callable[..., Installed], image: str) -> None:
    old = '#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 || exit 1\n'
    made = f"localhost/runner-test-conda-old:{os.getpid()}"
    write = f"cat >/usr/local/bin/python3 <<'E'\n{old}E\nchmod 755 /usr/local/bin/python3"
    container = docker("create", "--user", "0", image, "sh", "-c", write).strip()
    try:
        docker("start", "-a", container)
        docker("commit", container, made)
    finally:
        docker("rm", container)
    try:
        done = install("rcadd", base=made)
    finally:
        docker("rmi", made)
    assert done.code == 1
    assert "Python 3.10 or newer, and the base image has Python 3.9.2" in done.output
