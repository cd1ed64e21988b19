"""The `pip` list and the requirements files that it names: which packages are asked for, where, and by which files.

Only what the builder must know is read here (names for the verification, files for the content hash); what a line
means in full is uv's business. Every file lies in the folder of libs.yaml, because only those are taken into a build.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from runner.errors import SpecError
from runner.spec.yamldoc import decode, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_INCLUDE = re.compile(r"(?:-r|-c|--requirements?|--constraints?)(?:\s+|=|(?<=-[rc])(?=\S))(.+)")
_OPTIONS = (
    "-i",
    "--index-url",
    "--extra-index-url",
    "--find-links",
    "-f",
    "--no-index",
    "--no-binary",
    "--only-binary",
)
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2")
_COMMENT = re.compile(r"(?:^|\s)#.*$")


@dataclass(frozen=True, slots=True)
class Asked:
    """One requirement line: its text without comment and hashes, and where it stands."""

    text: str
    file: str
    line: int
    key: str | None


@dataclass(slots=True)
class Requirements:
    """What a `pip` list stands for.

    asked: every requirement, included files' too. files: absolute path of every file that decides what is installed
    (requirements, constraints, local archives), each once, in order of appearance. rest: lines that bear on all
    requirements, options and constraints.
    """

    folder: Path
    asked: list[Asked] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)


def collect(items: Iterable[Asked], folder: Path) -> Requirements:
    """Follow the items of a `pip` list through the files that they name.

    Raises:
        SpecError: a file is missing, unreadable, outside `folder`, or an editable or directory install is asked for.
    """
    found = Requirements(folder.resolve())
    for item in items:
        _take(found, item, found.folder)
    return found


def local_archive(text: str) -> str | None:
    """The path of a wheel or source archive on this machine that a requirement names, or None.

    Knows `./a.whl`, `/x/a.tar.gz`, `file:///x/a.whl` and `name @ file:///x/a.whl`.
    """
    target = text.split(" @ ", 1)[-1].split(";", 1)[0].strip()
    if target.startswith("file:"):
        return unquote(urlsplit(target).path)
    if "://" in target:
        return None
    return target if target.lower().endswith(_ARCHIVES) or target.startswith(("./", "../", "/")) else None


def default_name(path: Path) -> str:
    """The image's name when the file gives none: that of its folder, made fit."""
    return "-".join(re.findall(r"[a-z0-9]+", path.absolute().parent.name.lower())) or "image"


def _take(found: Requirements, item: Asked, base: Path) -> None:
    if included := _INCLUDE.fullmatch(item.text):
        path = _inside(found, base / included[1].strip(), item, included[1].strip())
        if path not in found.files:
            found.files.append(path)
            constraint = item.text.startswith(("-c", "--constraint"))
            _read(found, path, constraint=constraint)
    elif item.text.startswith(("-e", "--editable")):
        raise _error(item, "an editable install cannot be part of an image", "build a wheel and name its file")
    elif item.text.startswith("-"):
        if not item.text.startswith(_OPTIONS):
            raise _error(item, f"unknown option {item.text.split()[0]!r}", "known: -r FILE, -c FILE")
        found.rest.append(item.text)
    else:
        if (archive := local_archive(item.text)) is not None:
            # Like pip and uv: a path in any requirements file counts from where the installer runs, our folder.
            path = _inside(found, found.folder / archive, item, archive)
            if path.is_dir():
                raise _error(item, f"{archive} is a folder", "build a wheel and name its file")
            if path not in found.files:
                found.files.append(path)
        found.asked.append(item)


def _inside(found: Requirements, path: Path, item: Asked, shown: str) -> Path:
    resolved = path.resolve()
    if not resolved.is_relative_to(found.folder):
        raise _error(item, f"{shown} is outside the folder of libs.yaml", "move or copy it there")
    if not resolved.exists():
        raise _error(item, f"no such file: {shown}", f"looked in {path.parent}")
    return resolved


def _read(found: Requirements, path: Path, *, constraint: bool) -> None:
    shown = path.relative_to(found.folder).as_posix()
    text = decode(read_bytes(path, shown=shown), shown)
    for number, line in _logical_lines(text):
        item = Asked(line, shown, number, None)
        if constraint and not line.startswith("-"):
            found.rest.append(f"-c {line}")
            continue
        _take(found, item, path.parent)


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    """(number of the first physical line, text) with continuations joined, comments and `--hash` options removed."""
    parts: list[str] = []
    first = 1
    for number, raw in enumerate(text.splitlines(), 1):
        if not parts:
            first = number
        line = _COMMENT.sub("", raw).rstrip()
        parts.append(line.removesuffix("\\").strip())
        if line.endswith("\\"):
            continue
        whole = " ".join(part for part in parts if part)
        parts = []
        if whole := re.sub(r"\s--(?:hash|config-settings?|global-option)[=\s]\S+", "", whole).strip():
            yield first, whole


def _error(item: Asked, message: str, *hints: str) -> SpecError:
    return SpecError(message, *hints, file=item.file, line=item.line, key=item.key)
