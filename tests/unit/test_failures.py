"""What a build that fails says, of what only runner knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.builder.failures import explain
from runner.builder.resolve import BASE_STAGE, lacking, resolve
from runner.errors import UsageError
from runner.spec.libs import Libs, load
from runner.spec.lock import Base, Lock, Locked

BASE = Base("localhost/base:1", f"sha256:{'1' * 64}")


@pytest.fixture(name="libs")
def _libs(tmp_path: Path) -> Libs:
    path = tmp_path / "libs.yaml"
    path.write_text('pip: [six, "mine @ https://${RN_USER}:${RN_PASSWORD}@pypi.example/mine-1.tar.gz"]\n')
    return load(path)


def test_variables_of_pip_lines_that_are_not_set_are_named(libs: Libs, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["error: Failed to download `mine @ https://***@pypi.example/mine-1.tar.gz`"]
    monkeypatch.setenv("RN_USER", "me")

    told = str(explain("pip", libs, lines, 1, oom=False, log=Path("log")))
    monkeypatch.setenv("RN_PASSWORD", "secret")

    assert "the pip lines refer to RN_PASSWORD, not set in the environment of this build" in told
    assert "refer to" not in str(explain("pip", libs, lines, 1, oom=False, log=Path("log")))


@pytest.mark.parametrize(
    ("name", "why"),
    [("bash", "it belongs to the base, localhost/base:1"), ("sixx", "neither libs.yaml nor its lock has that package")],
)
def test_what_cannot_be_upgraded_is_said_before_anything_is_asked(libs: Libs, name: str, why: str) -> None:
    lock = Lock(BASE, "linux/amd64", "3.11.2", "", {}, (Locked("apt", "bash", "5", stage=BASE_STAGE),))
    with pytest.raises(UsageError, match=f"--upgrade {name}: {why}"):
        resolve(None, libs, None, BASE, old=lock, upgrade=frozenset([name]))  # type: ignore[arg-type]


def test_a_lock_lacks_what_it_was_made_for_and_not_what_is_new(libs: Libs) -> None:
    def made(*declared: str, holds: tuple[Locked, ...] = ()) -> Lock:
        return Lock(BASE, "linux/amd64", "3.11.2", "", {"pip": declared}, holds)

    assert lacking(made("six"), libs) == ["six"]
    assert lacking(made("six", holds=(Locked("pip", "six", "1"),)), libs) == []
    assert lacking(made("idna"), libs) == []


def test_a_command_that_fails_is_told_at_its_line_with_what_it_said(tmp_path: Path) -> None:
    path = tmp_path / "libs.yaml"
    path.write_text("run:\n- make\n- |\n  ls none\n  exit 3\n")
    said = ["+ make", "made", "+ ls none", "exit 3", "ls: cannot access 'none'", ""]
    told = explain("run", load(path), [*said, "runner: run: the command ended with exit code 2: ls none", "exit 3"], 1,
                   oom=False, log=Path("the.log"))  # fmt: skip
    assert str(told).splitlines() == [
        f"{path}:3: run: the command ended with exit code 2: ls none", "  exit 3", "  ls: cannot access 'none'",
        "  full log: the.log",
    ]  # fmt: skip
