"""A step's code: a folder, a file, parts from several places; its digest; and which addresses of git are none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from runner import snapshot
from runner.codes import digest, take, take_all
from runner.errors import CodeFolderError, SpecError
from runner.gitcode import Address, parse
from runner.job import Code, Where

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HERE = Where("job.yml", 4, "code")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def src(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    (folder / "pkg").mkdir(parents=True)
    (folder / "train.py").write_text("print(1)\n")
    (folder / "pkg" / "a.py").write_text("a\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("pkg/a.py")
    (folder / "no.log").write_text("x")
    (folder / ".amlignore").write_text("*.log\n")
    return folder


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "u.R").write_text("u\n")
    (folder / "key.pem").write_text("secret")
    (tmp_path / "one.txt").write_text("one\n")
    return folder


def test_a_folder_is_taken_where_it_is(src: Path, cache: Path) -> None:
    taken = take(Code(src), cache)
    assert taken.folder == src
    assert sorted(taken.snapshot.files) == [".amlignore", "pkg/a.py", "run.sh", "train.py"]
    assert not cache.exists()


def test_one_file_is_taken_alone(src: Path, cache: Path) -> None:
    taken = take(Code(src / "train.py"), cache)
    assert (taken.folder, taken.snapshot.files, taken.snapshot.links) == (src, ["train.py"], {})


def test_no_code_is_an_empty_folder(cache: Path) -> None:
    taken = take(Code(), cache)
    assert taken.snapshot == snapshot.Snapshot()
    assert list(taken.folder.iterdir()) == []


def test_includes_lie_at_the_top(src: Path, shared: Path, cache: Path, tmp_path: Path) -> None:
    code = Code(src, includes=(shared, tmp_path / "one.txt"))
    taken = take(code, cache)
    target = tmp_path / "copy"
    snapshot.copy(taken.folder, taken.snapshot, target)
    assert (target / "shared" / "deep" / "u.R").read_text() == "u\n"
    assert (target / "one.txt").read_text() == "one\n"
    assert (target / "link").readlink().as_posix() == "pkg/a.py"
    assert os.access(target / "run.sh", os.X_OK)
    assert not (target / "shared" / "key.pem").exists()
    assert any("key.pem" in note for note in taken.notes)
    assert take(code, cache).folder == taken.folder, "equal parts, one folder"
    (shared / "deep" / "u.R").write_text("v\n")
    assert take(code, cache).folder != taken.folder
    assert [each.name for each in (cache / "code").iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["train.py", "pkg", "link"])
def test_an_include_is_laid_over_nothing(src: Path, cache: Path, tmp_path: Path, name: str) -> None:
    other = tmp_path / "other" / name
    other.parent.mkdir()
    other.write_text("")
    with pytest.raises(
        SpecError, match=rf"job.yml:4: code: .*other/{name} would be laid over {name} of the code itself"
    ):
        take(Code(src, includes=(other,), where=HERE), cache)


def test_two_includes_of_one_name(src: Path, shared: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "b" / "shared").mkdir(parents=True)
    with pytest.raises(SpecError, match=f"over shared of {shared}"):
        take(Code(src, includes=(shared, tmp_path / "b" / "shared"), where=HERE), cache)


def test_what_is_not_there_is_told_all_at_once(src: Path, cache: Path) -> None:
    (src / "alias.py").symlink_to("train.py")
    wanted = [
        Code(src),
        Code(src / "trian.py", where=HERE),
        Code(src / "alias.py", where=HERE),
        Code(src, includes=(src / "x",)),
    ]
    with pytest.raises(SpecError) as caught:
        take_all(wanted, cache)
    text = str(caught.value)
    assert "trian.py" in text
    assert f"did you mean {src}/train.py?" in text
    assert "alias.py is a link" in text
    assert "additional_includes: no such file or folder" in text
    first, second = take_all([Code(src), Code(src, where=HERE)], cache)
    assert first is second, "one folder, one snapshot"


def test_nobodys_file_can_take_the_home_folder_along(src: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(src))
    for code in (
        Code(src, where=HERE),
        Code(src / "pkg" / "..", where=HERE),
        Code(src / "pkg", includes=(src,), where=HERE),
    ):
        with pytest.raises(SpecError, match="is your home folder"):
            take(code, cache)
    with pytest.raises(SpecError, match="is the root folder"):
        take(Code(src.parent.joinpath("/")), cache)


# -- digest ---------------------------------------------------------------------------------------------------------


def told(folder: Path) -> str:
    return digest(snapshot.scan(folder, named=True), folder)


def test_a_copy_has_the_same_digest(src: Path, tmp_path: Path) -> None:
    snapshot.copy(src, snapshot.scan(src, named=True), tmp_path / "copy")
    os.utime(src / "train.py", (1, 1))
    (src / "other.log").write_text("left out")
    assert told(src) == told(tmp_path / "copy")


@pytest.mark.parametrize(
    "change",
    [
        lambda src: (src / "train.py").write_text("print(2)\n"),
        lambda src: (src / "train.py").chmod(0o755),
        lambda src: (src / "train.py").rename(src / "pkg" / "train.py"),
        lambda src: (src / "link").unlink() or (src / "link").symlink_to("train.py"),
        lambda src: (src / "link").unlink() or (src / "link").write_text("a\n"),
        lambda src: (src / "empty").mkdir(),
        lambda src: (src / "pkg" / "a.py").write_text("") or (src / "pkg" / "a").write_text("a\n"),
    ],
)
def test_every_change_is_another_digest(src: Path, change: Callable[[Path], object]) -> None:
    before = told(src)
    change(src)
    assert told(src) != before


def test_a_name_cannot_pass_for_a_content(tmp_path: Path) -> None:
    for folder, files in (("one", {"a": "b\nf\0c\0"}), ("two", {"a": "b", "c": ""})):
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / name).write_text(text)
    assert told(tmp_path / "one") != told(tmp_path / "two")


def test_a_digest_known_otherwise_is_taken(src: Path) -> None:
    taken = snapshot.scan(src, named=True)
    asked: list[str] = []

    def known(path: str) -> str:
        asked.append(path)
        return "x"

    assert digest(taken, src, of_file=known) != digest(taken, src)
    assert sorted(asked) == sorted(f"{src}/{name}" for name in taken.files)


def test_a_file_that_vanished_is_named(src: Path) -> None:
    taken = snapshot.scan(src, named=True)
    (src / "train.py").unlink()
    with pytest.raises(CodeFolderError, match=r"train\.py: No such file"):
        digest(taken, src)


# -- addresses of git -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("git+https://h.example/a/b.git", Address("https://h.example/a/b.git", None, "")),
        ("git+https://h.example:8443/a/b@v1.0", Address("https://h.example:8443/a/b", "v1.0", "")),
        ("git+https://h.example/b@feature/x#src/deep", Address("https://h.example/b", "feature/x", "src/deep")),
        ("git+ssh://git@h.example/a/b.git@main", Address("ssh://git@h.example/a/b.git", "main", "")),
        ("git+https://h.example/b#subdirectory=src", Address("https://h.example/b", None, "src")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse(text, HERE) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("git+http://h.example/b", "is not an address of code in git"),
        ("git+file:///etc", "is not an address"),
        ("git+ext::sh -c id", "is not an address"),
        ("git@h.example:a/b.git", "is not an address"),
        ("git+ssh://-oProxyCommand=id/b", "is not an address"),
        ("git+ssh://-oProxyCommand=id@h.example/b", "is not a user"),
        ("git+https://h.example/b@--upload-pack=id", "is not a branch"),
        ("git+https://h.example/b@a..b", "is not a branch"),
        ("git+https://h.example/b#../x", "is not a folder inside"),
        ("git+https://h.example/b#/etc", "is not a folder inside"),
        ("git+https://h.example/b#.git", "is not a folder inside"),
        ("git+https://me:hunter2@h.example/b", "has a login in it"),
        ("git+https://hunter2@h.example/b", "has a login in it"),
        ("git+http://me:hunter2@h.example/b", "is not an address"),
    ],
)
def test_what_is_no_address(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        parse(text, HERE)
    assert str(caught.value).startswith("job.yml:4: code: ")
    assert "hunter2" not in str(caught.value)
