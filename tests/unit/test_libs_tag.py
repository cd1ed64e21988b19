"""The content tag: the same bytes, the same name; any byte that decides the content, another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.builder import build, default_libs, recipe
from runner.builder.recipe import content_tag, contract, lock_path
from runner.errors import SpecError, UsageError
from runner.spec.reference import local_name

TEXT = "name: x\napt: [procps]\npip: [six, -r r.txt]\nr: {cran: [jsonlite]}\n"


@pytest.fixture(name="libs")
def _libs(tmp_path: Path) -> Path:
    (tmp_path / "libs.yaml").write_text(TEXT)
    (tmp_path / "r.txt").write_text("idna\n-c c.txt\n")
    (tmp_path / "c.txt").write_text("idna<4\n")
    return tmp_path / "libs.yaml"


def test_same_bytes_same_tag_wherever_and_whenever(libs: Path, tmp_path: Path) -> None:
    tag = content_tag(libs)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in ("libs.yaml", "r.txt", "c.txt"):
        (copy / file).write_bytes((tmp_path / file).read_bytes())
        os.utime(copy / file, (1, 1))
    assert content_tag(copy / "libs.yaml") == tag
    name, digest = tag.split(":")
    assert name == "localhost/x"
    assert len(digest) == 16


@pytest.mark.parametrize("file", ["libs.yaml", "r.txt", "c.txt"])
def test_every_file_counts(libs: Path, file: str) -> None:
    tag = content_tag(libs)
    (libs.parent / file).write_text((libs.parent / file).read_text() + "# changed\n")
    assert content_tag(libs) != tag


def test_how_it_is_built_counts_but_not_from_where(libs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = content_tag(libs)
    monkeypatch.setenv("RUNNER_CRAN", "https://mirror.example")
    monkeypatch.setenv("https_proxy", "http://proxy.example")
    assert content_tag(libs) == tag
    monkeypatch.setattr(recipe, "steps_hash", lambda: "other")
    assert content_tag(libs) != tag


def test_a_file_that_is_missing_is_told_before_any_engine(libs: Path) -> None:
    (libs.parent / "c.txt").unlink()
    with pytest.raises(SpecError, match=r"r\.txt:2: no such file: c\.txt"):
        content_tag(libs)


@pytest.mark.parametrize("tag", ["Foo Bar", "a:b:c", "", "x@sha256:1", "h:5000/", "Big:1"])
def test_a_tag_that_is_none_is_told_before_anything_is_built(
    libs: Path, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    with pytest.raises(UsageError, match=f"--tag '{tag}' is not a name for an image"):
        build(libs, tag=tag)


@pytest.mark.parametrize("tag", ["x", "x:1", "team/x:1", "localhost/x", "h.example:5000/a/b:1"])
def test_a_tag_that_is_one(tag: str) -> None:
    local_name(tag)


def test_a_name_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "libs.yaml").write_text("name: [x]\n")
    with pytest.raises(SpecError, match=r"libs\.yaml:1: name: not an image name"):
        content_tag(tmp_path / "libs.yaml")


def test_the_lock_counts(libs: Path) -> None:
    tag = content_tag(libs)
    (libs.parent / "libs.lock").write_text("{}")
    assert content_tag(libs) != tag


def test_the_lock_of_a_file_that_is_the_installations_own_is_kept_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path))
    assert lock_path(default_libs()).parent == tmp_path / "locks"


def test_the_lock_of_a_folder_that_cannot_be_written_to(libs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only mount, as checkouts are in some CI systems: a lock that came with it holds."""
    cache = libs.parent / "cache"
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(cache))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert lock_path(libs).parent == cache / "locks"
    (libs.parent / "libs.lock").touch()
    assert lock_path(libs) == libs.parent / "libs.lock"


def test_contract_is_read_from_the_bootstrapper() -> None:
    assert contract() >= 1
