"""`runner libs diff`, as a user reads it: files and this machine. Images are compared in tests/e2e/test_images.py."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from runner.spec.lock import Base, Lock, Locked, write
from tests.cli.conftest import NO_ENGINE, failed
from tests.cli.test_runs import agrees, documented

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli

LIBS = "name: churn\npip: [pandas==2.2.*, six]\nr: {cran: [zoo]}\n"
HASH = ("sha256:0a",)
LOCKED = (
    Locked("apt", "r-base-core", "4.2.2.20221110-2", stage="r"),
    Locked("apt", "r-cran-zoo", "1.8-11-1", stage="r-binary"),
    Locked("r", "zoo", "1.8-11-1", source="debian"),
    Locked("pip", "pandas", "2.2.3", hashes=HASH),
    Locked("pip", "numpy", "1.26.4", hashes=HASH),
    Locked("pip", "six", "1.17.0", hashes=HASH),
)
DECLARED = {"pip": ("pandas==2.2.*", "six"), "r": ("cran zoo",)}


@pytest.fixture
def files(cli: Cli) -> Cli:
    """`libs.yaml` with its lock, and `new.lock`, where two versions are others and one package is gone."""
    (cli.cwd / "libs.yaml").write_text(LIBS)
    base = Base("debian:bookworm-slim", f"sha256:{'1' * 64}", digest=f"sha256:{'2' * 64}")
    lock = Lock(base, "linux/amd64", "3.11.2", "4.2.2", DECLARED, LOCKED)
    write(cli.cwd / "libs.lock", lock)
    other = (*LOCKED[:3], Locked("pip", "pandas", "1.5.3", hashes=HASH), Locked("pip", "numpy", "2.0.0", hashes=HASH))
    write(
        cli.cwd / "new.lock", Lock(base, "linux/amd64", "3.12.1", "4.2.2", {**DECLARED, "pip": ("pandas==1.*",)}, other)
    )
    return cli


@pytest.fixture
def machine(cli: Cli) -> dict[str, str]:
    """A machine with one virtual environment, which is active, and nothing else: no R, no dpkg."""
    venv = cli.cwd.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    packages = next(venv.glob("lib/python3*/site-packages"))
    install(packages, "pandas", "1.5.3")
    install(packages, "Six", "1.17.0")
    (packages / "broken-1.0.dist-info").mkdir()
    empty = cli.cwd.parent / "empty"
    empty.mkdir()
    return {**NO_ENGINE, "VIRTUAL_ENV": str(venv), "PATH": str(empty)}


def install(packages: Path, name: str, version: str) -> None:
    folder = packages / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_two_locks(files: Cli) -> None:
    done = files("libs", "diff", "libs.lock", "new.lock", env=NO_ENGINE)
    assert done.code == 1, done.err
    assert done.out.splitlines() == [
        "KIND  PACKAGE  libs.lock  new.lock",
        "      Python   3.11.2     3.12.1",
        "pip   pandas   2.2.3      1.5.3     2.2.3 does not fit pandas==1.*; 1.5.3 does not fit pandas==2.2.*",
        "pip   six      1.17.0     -         declared",
        "pip   numpy    1.26.4     2.0.0",
    ]
    assert done.err == ""


def test_what_is_the_same_exits_0(files: Cli) -> None:
    done = files("libs", "diff", "libs.yaml", "libs.lock", env=NO_ENGINE)
    assert (done.code, done.out, done.err) == (0, "no difference in 5 packages\n", "")
    # A folder stands for the libs file in it.
    assert files("libs", "diff", ".", "libs.lock", env=NO_ENGINE).code == 0
    # But a bare name is an image's, whatever folders there are.
    (files.cwd / "churn").mkdir()
    (files.cwd / "churn" / "libs.yaml").write_text(LIBS)
    failed(files("libs", "diff", "churn", "libs.lock", env=NO_ENGINE), 9)


def test_json_holds_everything(files: Cli) -> None:
    done = files("libs", "diff", "libs.lock", "new.lock", "--json", env=NO_ENGINE)
    assert done.code == 1
    assert done.json["same"] is False
    assert done.json["a"] == {
        "name": "libs.lock", "source": "lock", "python": "3.11.2", "r": "4.2.2",
        "packages": {"apt": 2, "conda": 0, "r": 1, "pip": 3}, "notes": [],
    }  # fmt: skip
    assert [(each["kind"], each["name"], each["what"]) for each in done.json["differences"]] == [
        ("python", "Python", "version"), ("pip", "pandas", "constraint"), ("pip", "six", "missing"),
        ("pip", "numpy", "version"),
    ]  # fmt: skip
    agrees(done.json, documented("`libs diff`"))
    agrees(done.json["differences"][0], documented("A difference"))
    same = files("libs", "diff", "libs.lock", "libs.lock", "--json", env=NO_ENGINE)
    assert (same.code, same.json["same"], same.json["differences"]) == (0, True, [])


def test_this_machine_without_r_and_dpkg(files: Cli, machine: dict[str, str]) -> None:
    done = files("libs", "diff", "libs.lock", "local", env=machine)
    assert done.code == 1, done.err
    lines = done.out.splitlines()
    assert [line.split()[:4] for line in lines[2:5]] == [
        ["R", "4.2.2", "-"],
        ["pip", "pandas", "2.2.3", "1.5.3"],
        ["r", "zoo", "1.8-11", "-"],
    ]
    assert "does not fit pandas==2.2.*" in done.out
    assert not any(line.startswith("apt") for line in lines)  # nobody knows
    assert "six" not in done.out
    assert done.err == ""


def test_a_program_that_fails_is_said_and_no_more(files: Cli, machine: dict[str, str]) -> None:
    broken = files.cwd.parent / "empty" / "Rscript"
    broken.write_text("#!/bin/sh\necho 'libR.so: cannot open' >&2\nexit 127\n")
    broken.chmod(0o755)
    done = files("libs", "diff", "libs.lock", "local", env=machine)
    assert done.code == 1
    assert "note     Rscript of this machine does not say what it has: libR.so: cannot open\n" in done.err
    assert "zoo" not in done.out


def test_libs_without_a_lock(files: Cli, machine: dict[str, str]) -> None:
    (files.cwd / "libs.lock").unlink()
    done = files("libs", "diff", "libs.yaml", "local", env=machine)
    assert done.code == 1
    assert done.out.splitlines() == [
        "KIND  PACKAGE  libs.yaml         local",
        "pip   pandas   asks for ==2.2.*  1.5.3  1.5.3 does not fit pandas==2.2.*",
        "r     zoo      asks for any      -      declared",
    ]
    assert "has no lock, so only what it asks for is known" in done.err


def test_a_lock_that_the_libs_file_moved_on_from(files: Cli) -> None:
    (files.cwd / "libs.yaml").write_text(LIBS.replace("six", "six, attrs"))
    done = files("libs", "diff", "libs.yaml", "libs.lock", env=NO_ENGINE)
    assert done.code == 1
    assert "pip   attrs" in done.out
    assert "note     libs.yaml has moved on from libs.lock (pip: + attrs)" in done.err


def test_what_is_neither_file_nor_image(files: Cli) -> None:
    failed(
        files("libs", "diff", "libs.yml", "local"), 4, "no such file: libs.yml", "did you mean libs.yaml?", "`local`"
    )
    failed(files("libs", "diff", "libs.lock", "churn-r", env=NO_ENGINE), 9)


def test_a_file_that_is_wrong(files: Cli) -> None:
    (files.cwd / "bad.yaml").write_text("pip: [pandas=2]\n")
    failed(files("libs", "diff", "bad.yaml", "libs.lock"), 3, "bad.yaml:1")
    (files.cwd / "bad.lock").write_text("<<<<<<< HEAD\n{\n")
    failed(files("libs", "diff", "bad.lock", "libs.lock"), 3, "git conflict")


def test_wrong_use(cli: Cli) -> None:
    failed(cli("libs", "diff", "libs.yaml"), 2, "missing argument 'B'", "see: runner libs diff --help")
    failed(cli("libs", "dif", "a", "b"), 2, "see: runner libs --help")
