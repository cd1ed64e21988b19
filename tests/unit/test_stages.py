"""The keys of stages: what decides the content changes them, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.builder import stages as module
from runner.builder.stages import content, stages
from runner.spec.libs import Libs, load
from runner.spec.lock import Base, Lock, Locked

LOCK = Lock(
    Base("debian", "sha256:base"),
    "linux/amd64",
    "3.11.2",
    "4.2.2",
    {},
    (
        Locked("apt", "libc6", "2", stage="base"),
        Locked("apt", "python3", "3.11", stage="python"),
        Locked("apt", "r-base-core", "4.2.2", stage="r"),
        Locked("apt", "procps", "4", stage="apt"),
        Locked("apt", "r-cran-zoo", "1.8-11-1", stage="r-binary"),
        Locked("r", "zoo", "1.8-11-1", "debian"),
        Locked("r", "tiny", "1.0", "https://cran.example/tiny.tar.gz", ("sha256:1",)),
        Locked("conda", "tool", "1", "https://conda.example/tool.conda", ("sha256:2",), build="0"),
        Locked("pip", "six", "1.17", hashes=("sha256:3",)),
        Locked("pip", "wheel", "1", "./wheel.whl", ("sha256:4",)),
    ),
)


@pytest.fixture(name="libs")
def _libs(tmp_path: Path) -> Libs:
    (tmp_path / "libs.yaml").write_text("name: x\nr: {}\n")
    return load(tmp_path / "libs.yaml")


def with_(old: Locked, **changes: Any) -> Lock:
    return replace(LOCK, packages=tuple(replace(each, **changes) if each == old else each for each in LOCK.packages))


def test_from_stable_to_volatile_each_package_once(libs: Libs) -> None:
    found = stages(libs, LOCK)
    assert [stage.name for stage in found] == ["python", "r", "apt", "r-binary", "r-source", "conda", "pip"]
    named = {stage.name: sorted(each.name for each in stage.items.values()) for stage in found}
    assert named["r-binary"] == ["r-cran-zoo"]
    assert named["r-source"] == ["tiny"]
    assert named["pip"] == ["six", "wheel"]
    assert "libc6" not in {name for names in named.values() for name in names}, "the base holds it"


def test_what_is_not_asked_for_has_no_stage(libs: Libs) -> None:
    bare = replace(LOCK, r="", packages=())
    assert [stage.name for stage in stages(libs, bare)] == ["python"]


def test_one_more_is_more_of_the_same(libs: Libs) -> None:
    more = replace(LOCK, packages=(*LOCK.packages, Locked("pip", "idna", "3")))
    assert content(stages(libs, LOCK)) < content(stages(libs, more))


@pytest.mark.parametrize(
    ("package", "changes"),
    [
        (LOCK.packages[3], {"version": "5"}),
        (LOCK.packages[6], {"hashes": ("sha256:other",)}),
        (LOCK.packages[7], {"build": "1"}),
        (LOCK.packages[9], {"hashes": ("sha256:other",)}),
    ],
)
def test_another_package_is_another_key(libs: Libs, package: Locked, changes: dict[str, Any]) -> None:
    before, after = content(stages(libs, LOCK)), content(stages(libs, with_(package, **changes)))
    assert len(before - after) == len(after - before) == 1


def test_another_index_may_have_another_file_of_the_same_version(libs: Libs) -> None:
    other = with_(LOCK.packages[8], hashes=("sha256:of-another-index",))
    assert content(stages(libs, other)) != content(stages(libs, LOCK))


def test_commands_hold_for_exactly_what_they_saw(libs: Libs) -> None:
    with_run = replace(libs, run=("echo hello",))
    more = replace(LOCK, packages=(*LOCK.packages, Locked("pip", "idna", "3")))
    assert not content(stages(with_run, LOCK)) <= content(stages(with_run, more))
    other = replace(libs, run=("echo goodbye",))
    assert content(stages(with_run, LOCK)) != content(stages(other, LOCK))


def test_the_user_and_the_scripts_count(libs: Libs, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {stage.name: stage.keys for stage in stages(libs, LOCK)}
    other = {stage.name: stage.keys for stage in stages(replace(libs, user="1234"), LOCK)}
    assert {name for name in before if before[name] != other[name]} == {"python"}
    monkeypatch.setattr(module, "_script_hash", lambda *names: f"changed {'pip.sh' in names}")
    assert not content(stages(libs, LOCK)) & frozenset().union(*before.values())
