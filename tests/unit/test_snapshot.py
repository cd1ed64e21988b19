"""What of a code folder is taken along: ignore files, key files, links, limits; and that the copy is independent."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner import snapshot
from runner.errors import CodeFolderError
from runner.snapshot import Snapshot, copy, scan, single

if TYPE_CHECKING:
    from collections.abc import Callable

    Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Make a code folder of files: `tree("a.py", gitignore="*.csv", **{"data/x.csv": "1"})`."""

    def make(*names: str, **contents: str) -> Path:
        root = tmp_path / "code"
        for name in names:
            contents.setdefault(name, "")
        for name, text in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    return make


def taken(root: Path) -> list[str]:
    return scan(root, named=False).files


# -- ignore files ---------------------------------------------------------------------------------------------------


def test_everything_is_taken_in_a_fixed_order(tree: Tree) -> None:
    root = tree("z.py", "a/b.py", "a/a.py", ".Rprofile", "data.csv")
    found = scan(root, named=False)
    assert found.files == [".Rprofile", "a/a.py", "a/b.py", "data.csv", "z.py"]
    assert found.folders == ["a"]
    assert found.notes == []


def test_gitignore_is_honoured(tree: Tree) -> None:
    root = tree(
        "a.py", "x.csv", "sub/y.csv", "build/out", "sub/build/out", **{".gitignore": "*.csv\n/build/\n# no\n\n"}
    )
    assert taken(root) == [".gitignore", "a.py", "sub/build/out"]


def test_a_negation_brings_back(tree: Tree) -> None:
    root = tree("a.csv", "keep.csv", **{".gitignore": "*.csv\n!keep.csv\n"})
    assert taken(root) == [".gitignore", "keep.csv"]


def test_nothing_below_an_ignored_folder_comes_back(tree: Tree) -> None:
    root = tree("a.py", "data/keep.csv", **{".gitignore": "data/\n!data/keep.csv\n"})
    assert taken(root) == [".gitignore", "a.py"]


def test_a_nested_gitignore_counts_from_its_folder_and_wins_over_the_outer(tree: Tree) -> None:
    root = tree(
        "x.csv", "sub/x.csv", "sub/y.log", "y.log", "sub/deep/only.txt",
        **{".gitignore": "*.csv\n", "sub/.gitignore": "!x.csv\n*.log\n/deep/only.txt\n"},
    )  # fmt: skip
    assert taken(root) == [".gitignore", "sub/.gitignore", "sub/x.csv", "y.log"]


def test_amlignore_wins_over_every_gitignore(tree: Tree) -> None:
    root = tree(
        "a.py", "x.csv", "y.log", "sub/z.csv",
        **{".gitignore": "*.csv\n", "sub/.gitignore": "*.csv\n", ".amlignore": "*.log\n"},
    )  # fmt: skip
    assert taken(root) == [".amlignore", ".gitignore", "a.py", "sub/.gitignore", "sub/z.csv", "x.csv"]


def test_an_amlignore_that_is_a_folder_is_just_a_folder(tree: Tree) -> None:
    assert taken(tree("a.py", ".amlignore/x", "x.csv", **{".gitignore": "*.csv\n"})) == [
        ".amlignore/x", ".gitignore", "a.py",
    ]  # fmt: skip


def test_a_pattern_that_means_nothing_names_the_file(tree: Tree) -> None:
    with pytest.raises(CodeFolderError, match=r"\.gitignore: .*'!'"):
        taken(tree("a.py", **{".gitignore": "!\n"}))


def test_ignore_files_need_not_be_text(tree: Tree) -> None:
    root = tree("a.py", "x.csv")
    (root / ".gitignore").write_bytes(b"\xff\xfe\r\n*.csv\r\n")
    assert taken(root) == [".gitignore", "a.py"]


def test_version_control_environments_and_caches_stay_behind(tree: Tree) -> None:
    root = tree(
        "a.py", ".git/config", ".venv/bin/python", ".ssh/config", "__pycache__/a.pyc", "sub/.git", ".aws/credentials"
    )
    assert taken(root) == ["a.py"]


@pytest.mark.parametrize(
    "name",
    [".env", ".env.production", "id_rsa", "id_ed25519_work", "server.pem", "server.key", ".netrc", "a.kdbx", "x.p12"],
)
def test_key_files_are_left_out_and_named(tree: Tree, name: str) -> None:
    found = scan(tree("a.py", f"sub/{name}"), named=True)
    assert found.files == ["a.py"]
    assert found.secret == [f"sub/{name}"]
    assert f"sub/{name}" in found.notes[0]
    assert "--secret" in found.notes[0]


@pytest.mark.parametrize("name", [".env.example", ".env.template", "id_rsa.pub", "keys.py", "environment.env.py"])
def test_what_only_looks_like_a_key_file_is_taken(tree: Tree, name: str) -> None:
    assert taken(tree(name)) == [name]


def test_many_key_files_make_one_short_line(tree: Tree) -> None:
    found = scan(tree("a.py", *(f"{number}.pem" for number in range(9))), named=True)
    (note,) = found.notes
    assert note.endswith("secret: 0.pem, 1.pem, 2.pem, 3.pem, 4.pem and 4 more (pass values with --secret)")


# -- links and special files ----------------------------------------------------------------------------------------


def test_links_inside_are_kept_and_links_out_are_left_out_and_named(tree: Tree, tmp_path: Path) -> None:
    root = tree("a.py", "sub/b.py")
    (tmp_path / "outside").write_text("not yours")
    links = {
        "in": "a.py", "sub/up": "../a.py", "folder": "sub", "dangling": "nothing", "self": ".",
        "out": "../outside", "abs": str(root / "a.py"), "sub/far": "../../outside", "etc": "/etc/passwd",
    }  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target)
    found = scan(root, named=False)
    assert found.links == {name: links[name] for name in ("in", "sub/up", "folder", "dangling", "self")}
    assert found.outside == ["abs", "etc", "out", "sub/far"]
    assert "--input" in found.notes[0]
    assert found.files == ["a.py", "sub/b.py"]


def test_a_link_that_leads_out_by_way_of_another_is_left_out(tree: Tree, tmp_path: Path) -> None:
    """Its text stays inside: `d` is a folder by its text, but leads to the root, from where `..` leads out."""
    root = tree("a/b/x.py")
    (tmp_path / "outside").write_text("not yours")
    (root / "a" / "b" / "d").symlink_to("../..")
    (root / "a" / "b" / "sly").symlink_to("d/../outside")
    assert (root / "a" / "b" / "sly").read_text() == "not yours"
    assert scan(root, named=False).outside == ["a/b/sly"]


def test_special_files_are_passed_over(tree: Tree) -> None:
    root = tree("a.py")
    os.mkfifo(root / "pipe")
    if os.getuid() == 0:
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
        assert taken(root) == ["a.py"]


def test_the_run_store_is_never_part_of_the_code(tree: Tree) -> None:
    root = tree("a.py", "mine/runner.db", "mine/runs/x/code/a.py")
    assert scan(root, named=True, without=root / "mine").files == ["a.py"]
    assert len(scan(root, named=True, without=root / "other").files) == 3


# -- limits ---------------------------------------------------------------------------------------------------------


def test_too_many_files_are_refused_unless_named(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_FILES", 3)
    root = tree("a", "b", "c", "d")
    with pytest.raises(CodeFolderError, match="more than 3 files") as caught:
        scan(root, named=False)
    assert ".amlignore" in str(caught.value)
    assert "--code" in str(caught.value)
    assert len(scan(root, named=True).files) == 4
    (root / ".amlignore").write_text("c\nd\n")
    assert scan(root, named=False).files == [".amlignore", "a", "b"]


def test_too_many_bytes_are_refused_unless_named(tree: Tree) -> None:
    root = tree("a.py")
    with (root / "big").open("wb") as file:
        file.truncate(snapshot.MAX_BYTES + 1)
    with pytest.raises(CodeFolderError, match="more than 100 MB"):
        scan(root, named=False)
    assert scan(root, named=True).size == snapshot.MAX_BYTES + 1


def test_the_root_folder_and_the_home_folder_are_refused(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CodeFolderError, match="the root folder /"):
        scan(Path("/"), named=False)
    home = tree("a.py")
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(CodeFolderError, match="your home folder"):
        scan(home, named=False)
    assert scan(home, named=True).files == ["a.py"]
    link = tmp_path / "home-link"
    link.symlink_to(home)
    monkeypatch.setenv("HOME", str(link))
    with pytest.raises(CodeFolderError, match="your home folder"):
        scan(home, named=False)


# -- copying --------------------------------------------------------------------------------------------------------


def test_a_copy_is_whole_and_independent(tree: Tree, tmp_path: Path) -> None:
    root = tree("empty.py", "sub/deep/b.txt", **{"a.py": "print(1)\n"})
    (root / "void").mkdir()
    (root / "a.py").chmod(0o755)
    (root / "sub" / "deep" / "b.txt").chmod(0o444)
    (root / "link").symlink_to("a.py")
    (root / "big").write_bytes(os.urandom(3_000_000))
    target = tmp_path / "copy"
    copy(root, scan(root, named=False), target)
    assert (target / "a.py").read_text() == "print(1)\n"
    assert os.access(target / "a.py", os.X_OK)
    assert (target / "big").read_bytes() == (root / "big").read_bytes()
    assert (target / "link").readlink() == Path("a.py")
    assert (target / "void").is_dir()
    (target / "a.py").write_text("changed")
    assert stat.S_IMODE((target / "sub" / "deep" / "b.txt").stat().st_mode) & 0o600 == 0o600
    assert (root / "a.py").read_text() == "print(1)\n"


def test_file_names_need_not_be_text(tree: Tree, tmp_path: Path) -> None:
    root = tree("a.py")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe.csv")).write_text("1")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.pem")).write_text("1")
    found = scan(root, named=False)
    copy(root, found, tmp_path / "copy")
    assert sorted(os.fsencode(path.name) for path in (tmp_path / "copy").iterdir()) == [b"a.py", b"\xff\xfe.csv"]
    assert len(found.secret) == 1


def test_a_script_alone(tree: Tree, tmp_path: Path) -> None:
    root = tree("b.py", **{"a.py": "print(1)"})
    found = single(root / "a.py")
    assert found == Snapshot(files=["a.py"], size=8)
    copy(root, found, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["a.py"]


def test_a_file_that_became_a_link_is_not_followed(tree: Tree, tmp_path: Path) -> None:
    root = tree("a.py")
    found = scan(root, named=False)
    (tmp_path / "outside").write_text("not yours")
    (root / "a.py").unlink()
    (root / "a.py").symlink_to(tmp_path / "outside")
    with pytest.raises(CodeFolderError, match=r"cannot read .*a\.py"):
        copy(root, found, tmp_path / "copy")


def test_a_file_that_vanished_is_named(tree: Tree, tmp_path: Path) -> None:
    root = tree("a.py", "b.py")
    found = scan(root, named=False)
    (root / "b.py").unlink()
    with pytest.raises(CodeFolderError, match=r"b\.py.*No such file"):
        copy(root, found, tmp_path / "copy")


_AS_NOBODY = """
import os, sys
from pathlib import Path
import pathspec
from runner.errors import CodeFolderError
from runner.snapshot import copy, scan
os.setgid(65534); os.setuid(65534)  # after the imports: another user may not read the installation
root, target = Path(sys.argv[1]), Path(sys.argv[2])
try:
    copy(root, scan(root, named=True), target)
except CodeFolderError as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("name", ["secret.csv", "locked", ".gitignore"])
def test_what_cannot_be_read_is_named(tree: Tree, tmp_path: Path, name: str) -> None:
    root = tree("a.py", "secret.csv", "locked/x", ".gitignore")
    target = tmp_path / "copies"
    target.mkdir()
    os.chown(target, 65534, 65534)
    for path in (tmp_path, *tmp_path.parents):
        if path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o011)
    (root / name).chmod(0)
    package = str(Path(snapshot.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(root), str(target / "copy")], cwd="/",
        env={**os.environ, "PYTHONPATH": package}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "cannot read" in done.stdout, done.stderr
    assert f"{root}/{name}" in done.stdout
    assert "Permission denied" in done.stdout
