"""Build contexts: what is sent, what decides their digest, and which line of a Dockerfile an instruction is."""

from __future__ import annotations

import os
import socket
import tarfile
from typing import TYPE_CHECKING

import pytest

from runner.builder.dockerfile import context_tag, instruction_lines
from runner.docker_api.context import Context, read
from runner.errors import BuildError
from runner.job import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "My Context"
    (path / "data" / "deep").mkdir(parents=True)
    (path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (path / "a.txt").write_text("a")
    (path / "data" / "big.bin").write_bytes(b"x" * 100)
    (path / "data" / "deep" / "keep.txt").write_text("k")
    (path / "link").symlink_to("/etc/passwd")
    (path / "empty").mkdir()
    return path


def packed(folder: Path) -> dict[str, tarfile.TarInfo]:
    with read(folder, None, NOWHERE).pack() as stream, tarfile.open(fileobj=stream) as archive:
        return {member.name: member for member in archive}


def test_all_of_it_is_sent_as_roots_and_links_are_not_followed(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "socket"))
        members = packed(folder)
    assert set(members) == {
        "Dockerfile",
        "a.txt",
        "data",
        "data/big.bin",
        "data/deep",
        "data/deep/keep.txt",
        "link",
        "empty",
    }
    assert members["link"].linkname == "/etc/passwd"
    assert {(member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, "")}


def test_dockerignore_is_honoured_but_the_dockerfile_is_always_there(folder: Path) -> None:
    (folder / ".dockerignore").write_text("# no data\ndata\n!data/deep/keep.txt\n\n*.txt\n!**/keep.txt\nDockerfile\n")
    assert {name for name, member in packed(folder).items() if not member.isdir()} == {
        ".dockerignore", "Dockerfile", "data/deep/keep.txt", "link",
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.txt").write_text("b"),
        lambda folder: (folder / "a.txt").chmod(0o755),
        lambda folder: (folder / "a.txt").rename(folder / "b.txt"),
        lambda folder: (folder / "new").mkdir(),
        lambda folder: (folder / "data" / "deep" / "keep.txt").unlink(),
        lambda folder: (folder / "link").unlink() or (folder / "link").symlink_to("/etc/group"),
    ],
)
def test_every_change_is_another_image(folder: Path, change: Callable[[Path], object]) -> None:
    before = context_tag(read(folder, None, NOWHERE))
    change(folder)
    assert context_tag(read(folder, None, NOWHERE)) != before


def test_the_same_content_is_the_same_image(folder: Path) -> None:
    before = context_tag(read(folder, None, NOWHERE))
    assert before.startswith("localhost/my-context:")
    (folder / ".dockerignore").write_text("*.log\n.dockerignore\n")
    with_ignore = context_tag(read(folder, None, NOWHERE))
    (folder / "left-out.log").write_text("1")
    os.utime(folder / "a.txt", (1, 1))
    assert context_tag(read(folder, None, NOWHERE)) == with_ignore


def test_another_dockerfile_of_one_context_is_another_image(folder: Path) -> None:
    (folder / "data" / "Other").write_text("FROM scratch\n")
    one, other = read(folder, None, NOWHERE), read(folder, "data/Other", NOWHERE)
    assert one.paths == other.paths
    assert one.digest() != other.digest()


def test_what_vanishes_meanwhile_is_named(folder: Path) -> None:
    context = read(folder, None, NOWHERE)
    (folder / "a.txt").unlink()
    with pytest.raises(BuildError, match=r"a\.txt: No such file"):
        context.pack()
    with pytest.raises(BuildError, match=r"a\.txt: No such file"):
        Context(context.folder, context.dockerfile, context.paths).digest()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("FROM a\nRUN b\n", [1, 2]),
        ("# c\n\nARG x\nFROM a\nRUN b \\\n  # c\n\n  && c\nCOPY . .\n", [3, 4, 5, 9]),
        ("# escape=`\nFROM a\nRUN b `\n c\nRUN d\\\nRUN e", [2, 3, 5, 6]),
        ("", []),
    ],
)
def test_the_line_of_each_instruction(text: str, lines: list[int]) -> None:
    assert list(instruction_lines(text)) == lines
