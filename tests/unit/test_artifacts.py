"""Outputs of scripts that mean harm: nothing is followed out of a folder, and nothing is written outside of one."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.artifacts import collect, copy_out, listing, prepare
from runner.backends.base import Box
from runner.errors import SpecError
from runner.store import remove_tree


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "code"
    (path / "sub").mkdir(parents=True)
    (path / "a.py").write_text("print(1)")
    (path / "link").symlink_to("a.py")
    return path


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "box")


def inventory(root: Path) -> dict[str, str]:
    """Everything below a folder: path → link target, content, or kind."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                text = f"-> {path.readlink()}"
            elif stat.S_ISREG(mode):
                text = path.read_text()
            else:
                text = "folder" if stat.S_ISDIR(mode) else "special"
            found[str(path.relative_to(root))] = text
    return found


def test_an_output_called_artifacts_holds_what_is_always_collected_too(code: Path, box: Box, tmp_path: Path) -> None:
    prepare(box, code, {"artifacts": None})
    (box.work / "outputs" / "a").write_text("1")
    (box.work / "outputs" / "out").symlink_to("/etc/passwd")
    (box.outputs / "artifacts" / "own").write_text("2")
    (box.outputs / "artifacts" / "logs").symlink_to("own")
    (box.work / "logs" / "b").write_text("3")
    for _ in range(2):  # a second time after a kill
        collect(box, code, tmp_path / "kept", {"artifacts": None})
        assert inventory(tmp_path / "kept" / "artifacts") == {
            "own": "2",
            "logs": "-> own",
            "outputs": "folder",
            "outputs/a": "1",
        }


# -- the box --------------------------------------------------------------------------------------------------------


def test_a_box_holds_a_copy_of_the_code_and_a_place_for_everything(code: Path, box: Box) -> None:
    prepare(box, code, {"model": None, "plots": "results/plots"})
    assert (box.work / "a.py").read_text() == "print(1)"
    assert (box.work / "link").readlink() == Path("a.py")
    for folder in (box.home, box.record.parent, box.work / "outputs", box.work / "logs", box.work / "results/plots",
                   box.outputs / "model", box.outputs / "plots", box.work / "sub"):  # fmt: skip
        assert folder.is_dir()
    (box.work / "a.py").write_text("changed")
    (box.work / "outputs" / "stale").write_text("of a killed attempt")
    prepare(box, code, {})
    assert (box.work / "a.py").read_text() == "print(1)"
    assert list((box.work / "outputs").iterdir()) == []
    assert (code / "a.py").read_text() == "print(1)"


@pytest.mark.parametrize("outputs", [{"o": "a.py"}, {"o": "a.py/deep"}])
def test_a_file_where_a_folder_must_be(code: Path, box: Box, outputs: dict[str, str | None]) -> None:
    with pytest.raises(SpecError, match=r"a\.py.* for the script's outputs"):
        prepare(box, code, outputs)


# -- collecting -----------------------------------------------------------------------------------------------------


def test_outputs_logs_and_named_outputs_are_moved(code: Path, box: Box, tmp_path: Path) -> None:
    prepare(box, code, {"model": None})
    (box.work / "outputs" / "plots").mkdir()
    (box.work / "outputs" / "plots" / "p.png").write_text("png")
    (box.work / "logs" / "l.txt").write_text("log")
    (box.outputs / "model" / "m.rds").write_text("rds")
    target = tmp_path / "artifacts"
    assert collect(box, code, target, {"model": None}) == []
    assert listing(target) == [("logs/l.txt", 3), ("model/m.rds", 3), ("outputs/plots/p.png", 3)]
    # After a kill in the middle it is called again.
    assert collect(box, code, target, {"model": None}) == []
    assert len(listing(target)) == 3


def test_what_was_written_elsewhere_is_named(code: Path, box: Box, tmp_path: Path) -> None:
    prepare(box, code, {})
    for name in ("x.rds", "sub/y.csv", ".hidden", "__pycache__/a.pyc"):
        path = box.work / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert collect(box, code, tmp_path / "artifacts", {}) == [
        "written outside ./outputs and not kept: x.rds, sub/y.csv"
    ]


@pytest.mark.parametrize("name", ["outputs", "logs", "model"])
@pytest.mark.parametrize("kind", ["link", "dangling", "file", "pipe"])
def test_something_else_in_place_of_a_folder_is_not_collected(
    code: Path, box: Box, tmp_path: Path, name: str, kind: str
) -> None:
    prepare(box, code, {"model": None})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("not yours")
    place = box.outputs / name if name == "model" else box.work / name
    place.rmdir()
    if kind == "link":
        place.symlink_to(outside)
    elif kind == "dangling":
        place.symlink_to("nowhere")
    elif kind == "file":
        place.write_text("x")
    else:
        os.mkfifo(place)
    target = tmp_path / "artifacts"
    assert f"{name} was not collected: the script replaced the folder by something else" in collect(
        box, code, target, {"model": None}
    )
    assert not os.path.lexists(target / name)
    assert inventory(outside) == {"file": "not yours"}


@pytest.mark.parametrize("parent", ["work", "outputs"])
def test_a_link_in_place_of_the_folder_above(code: Path, box: Box, tmp_path: Path, parent: str) -> None:
    prepare(box, code, {"model": None})
    outside = tmp_path / "outside"
    for name in ("outputs", "logs", "model"):
        (outside / name).mkdir(parents=True)
        (outside / name / "file").write_text("not yours")
    place = getattr(box, parent)
    shutil.rmtree(place)
    place.symlink_to(outside)
    target = tmp_path / "artifacts"
    assert collect(box, code, target, {"model": None}) != []
    assert listing(target) == []
    assert len(inventory(outside)) == 6


def test_links_that_lead_out_and_special_files_are_dropped_and_named(code: Path, box: Box, tmp_path: Path) -> None:
    prepare(box, code, {"model": None})
    outputs = box.work / "outputs"
    (outputs / "good").write_text("x")
    (outputs / "in").symlink_to("good")
    (outputs / "abs").symlink_to("/etc/passwd")
    (outputs / "up").symlink_to("../../code")
    (outputs / "other").symlink_to("../model")
    os.mkfifo(outputs / "pipe")
    (warning,) = collect(box, code, tmp_path / "artifacts", {"model": None})
    for name in ("abs", "up", "other", "pipe"):
        assert f"outputs/{name}" in warning
    assert inventory(tmp_path / "artifacts" / "outputs") == {"good": "x", "in": "-> good"}


def test_a_link_that_leads_out_by_way_of_another_is_dropped(code: Path, box: Box, tmp_path: Path) -> None:
    prepare(box, code, {})
    deep = box.work / "outputs" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "d").symlink_to("../..")
    (deep / "sly").symlink_to("d/../../code")
    collect(box, code, tmp_path / "artifacts", {})
    left = inventory(tmp_path / "artifacts" / "outputs")
    assert left == {"a": "folder", "a/b": "folder", "a/b/d": "-> ../.."}


def test_a_read_only_output_is_kept_and_can_be_read(code: Path, box: Box, tmp_path: Path) -> None:
    prepare(box, code, {})
    outputs = box.work / "outputs"
    (outputs / "sub").mkdir()
    (outputs / "sub" / "file").write_text("x")
    (outputs / "sub" / "file").chmod(0)
    (outputs / "sub").chmod(0)
    outputs.chmod(0o500)
    assert collect(box, code, tmp_path / "artifacts", {}) == []
    for path, least in (("outputs", 0o700), ("outputs/sub", 0o700), ("outputs/sub/file", 0o400)):
        assert (tmp_path / "artifacts" / path).stat().st_mode & least == least


# -- downloading ----------------------------------------------------------------------------------------------------


def deep(root: Path, count: int) -> None:
    """Folders in folders, as a script makes them that copies a folder into itself."""
    top = os.open(root, os.O_RDONLY)
    for number in range(count):
        os.mkdir("d", dir_fd=top)
        inner = os.open("d", os.O_RDONLY, dir_fd=top)
        os.mkdir("beside", 0o000, dir_fd=inner)
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=inner))
        if number % 100 == 50:
            os.fchmod(top, 0o500)
        os.close(top)
        top = inner
    os.close(top)


def test_folders_without_end_are_an_error_of_the_output_and_can_be_removed(
    code: Path, box: Box, tmp_path: Path
) -> None:
    prepare(box, code, {"model": None})
    deep(box.outputs / "model", 1500)
    with pytest.raises(OSError, match="nested") as caught:
        collect(box, code, tmp_path / "kept", {"model": None})
    assert caught.value.errno == errno.ENAMETOOLONG
    remove_tree(box.root)
    assert not box.root.exists()


def test_folders_without_end_elsewhere_are_not_walked(code: Path, box: Box, tmp_path: Path) -> None:
    prepare(box, code, {})
    deep(box.work, 1500)
    warnings = collect(box, code, tmp_path / "kept", {})
    assert "not kept" in warnings[0]
    remove_tree(box.root)
    assert not box.root.exists()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    (path / "outputs" / "plots").mkdir(parents=True)
    (path / "outputs" / "plots" / "p.png").write_text("png")
    (path / "outputs" / "model").write_text("rds")
    (path / "outputs" / "latest").symlink_to("model")
    (path / "outputs" / "folder").symlink_to("plots")
    return path


def test_a_copy_is_whole_and_says_what_it_wrote(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    written = copy_out(source, target)
    assert written == ["outputs/folder", "outputs/latest", "outputs/model", "outputs/plots/p.png"]
    assert inventory(target) == inventory(source)


def test_a_second_copy_replaces_files_and_keeps_others(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    copy_out(source, target)
    (target / "mine").write_text("mine")
    (target / "outputs" / "model").write_text("old")
    copy_out(source, target)
    assert inventory(target) == {**inventory(source), "mine": "mine"}


@pytest.mark.parametrize(
    "place", ["outputs", "outputs/plots", "outputs/plots/p.png", "outputs/model", "outputs/latest"]
)
def test_a_link_in_the_target_is_replaced_and_never_followed(source: Path, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "p.png").write_text("not yours")
    (outside / "model").write_text("not yours")
    target = tmp_path / "target"
    (target / place).parent.mkdir(parents=True)
    (target / place).symlink_to(outside if "." not in place and place != "outputs/model" else outside / "model")
    copy_out(source, target)
    assert inventory(outside) == {"p.png": "not yours", "model": "not yours"}
    assert inventory(target) == inventory(source)


def test_bits_that_change_who_runs_a_file_are_not_copied(source: Path, tmp_path: Path) -> None:
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o6755)
    copy_out(source, tmp_path / "target")
    assert stat.S_IMODE((tmp_path / "target" / "tool").stat().st_mode) == 0o755


def test_names_as_long_as_they_can_be(source: Path, tmp_path: Path) -> None:
    (source / ("n" * 255)).write_text("x")
    assert "n" * 255 in copy_out(source, tmp_path / "target")


def test_a_copy_that_fails_leaves_nothing_half_written(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "outputs" / "model").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        copy_out(source, target)
    assert not list(target.rglob(".runner-*"))


names = st.sampled_from(["a", "b", "outputs", "..", "x"])
targets = st.one_of(
    st.lists(st.sampled_from(["..", ".", "a", "b", "c", "outputs"]), min_size=1, max_size=6).map("/".join),
    st.sampled_from(["/", "/etc", "/etc/passwd", "../../../outside", "a/../../b/../../../outside", "/proc/self/cwd"]),
)
links = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join), targets, max_size=8
)


@given(links, links)
def test_no_tree_of_links_reads_or_writes_outside(hostile: dict[str, str], waiting: dict[str, str]) -> None:
    """Whatever links a script leaves, and whatever links wait in the target: only the target changes, and no link that
    is kept leads out of it."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        box, code, outside = Box(root / "box"), root / "code", root / "outside"
        code.mkdir()
        outside.mkdir()
        (outside / "a").write_text("not yours")
        prepare(box, code, {})
        _plant(box.work / "outputs", hostile)
        collect(box, code, root / "artifacts", {})
        kept = root / "artifacts" / "outputs"
        for path in inventory(kept):
            real = Path(os.path.realpath(kept / path))
            assert real.is_relative_to(kept), f"{path} leads to {real}"
        target = root / "target"
        target.mkdir()
        _plant(target, waiting)
        before = inventory(outside), inventory(kept)
        with suppress(OSError):  # a folder of the target may be in the way of a file
            copy_out(kept, target)
        assert (inventory(outside), inventory(kept)) == before


def _plant(root: Path, found: dict[str, str]) -> None:
    """Make links, and files beside them, as far as the names allow."""
    for path, target in found.items():
        place = root / path
        if any(parent.is_symlink() for parent in (place, *place.parents) if parent.is_relative_to(root)):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(target)
            place.with_name("file").write_text("content")
