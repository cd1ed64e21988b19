"""The content tag and the keys of layers: the same bytes, the same name; any byte that decides the content, another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.builder import recipe
from runner.builder.recipe import Layer, content_tag, contract, plan
from runner.errors import SpecError
from runner.spec.libs import load

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


def test_a_name_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "libs.yaml").write_text("name: [x]\n")
    with pytest.raises(SpecError, match=r"libs\.yaml:1: name: not an image name"):
        content_tag(tmp_path / "libs.yaml")


def keys(libs: Path, base: str = "sha256:base") -> dict[str, str]:
    return {layer.stage: layer.key for layer in plan(load(libs), base)}


def changed(libs: Path, old: str, new: str) -> set[str]:
    before = keys(libs)
    libs.write_text(libs.read_text().replace(old, new))
    return {stage for stage, key in keys(libs).items() if before.get(stage) != key}


def test_layers_go_from_stable_to_volatile(libs: Path) -> None:
    assert list(keys(libs)) == ["python", "r", "apt", "r-binary", "r-source", "pip"]


def test_an_edit_changes_only_what_follows(libs: Path) -> None:
    assert changed(libs, "name: x", "name: y\nenv: {A: 1}") == set()
    assert changed(libs, "six", "six, attrs") == {"pip"}
    assert changed(libs, "jsonlite", "jsonlite, zoo") == {"r-binary", "r-source", "pip"}
    assert changed(libs, "procps", "file") == {"apt", "r-binary", "r-source", "pip"}
    (libs.parent / "c.txt").write_text("idna<3\n")
    assert changed(libs, "name", "name") == set()


def test_another_base_changes_all(libs: Path) -> None:
    one, other = keys(libs), keys(libs, "sha256:other")
    assert all(one[stage] != other[stage] for stage in one)


def test_a_constraint_in_a_file_counts_for_the_layer(libs: Path) -> None:
    before = keys(libs)
    (libs.parent / "c.txt").write_text("idna<3\n")
    assert {stage for stage, key in keys(libs).items() if before[stage] != key} == {"pip"}


def test_requirements_are_named_as_the_container_sees_them(libs: Path) -> None:
    layer: Layer = next(layer for layer in plan(load(libs), "b") if layer.stage == "pip")
    assert layer.inputs == {
        "requirements.txt": b"six\n-r /mnt/in/src/r.txt\n",
        "src/r.txt": b"idna\n-c c.txt\n",
        "src/c.txt": b"idna<4\n",
    }


def families(libs: Path) -> dict[str, str]:
    return {layer.stage: layer.family for layer in plan(load(libs), "base")}


def test_layers_that_can_be_added_to_are_of_one_family(libs: Path) -> None:
    """More items on the same parent: one family. Constraints and repositories bear on all items: another."""
    before = families(libs)
    libs.write_text(TEXT.replace("six", "six, attrs"))
    assert families(libs)["pip"] == before["pip"]
    libs.write_text(TEXT.replace("jsonlite", "jsonlite, zoo"))
    assert families(libs)["r-binary"] == before["r-binary"]
    libs.write_text(TEXT.replace("[jsonlite]", "[jsonlite], repos: ['https://cran.example']"))
    assert families(libs)["r-binary"] != before["r-binary"]
    libs.write_text(TEXT)
    (libs.parent / "c.txt").write_text("idna<3\n")
    assert families(libs)["pip"] != before["pip"]


def test_a_local_wheel_is_an_item_by_its_bytes(libs: Path) -> None:
    wheel = libs.parent / "a-1.0-py3-none-any.whl"
    libs.write_text(f"pip: [six, ./{wheel.name}]\n")
    found = []
    for content in (b"one", b"two"):
        wheel.write_bytes(content)
        found.append(next(layer.items for layer in plan(load(libs), "base") if layer.stage == "pip"))
    assert "six" in found[0] & found[1]
    assert len(found[0] | found[1]) == 3


def test_contract_is_read_from_the_bootstrapper() -> None:
    assert contract() >= 1
