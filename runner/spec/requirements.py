"""The `pip` list and the requirements files that it names: which packages are asked for, where, and by which files.

Only what the builder must know is read here (names for the verification, files for the content hash); what a line
means in full is uv's business. Every file lies in the folder of libs.yaml, because only those are taken into a build.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from runner.errors import SpecError
from runner.spec.credentials import HINTS, login_in
from runner.spec.places import Asked, inside
from runner.spec.yamldoc import decode, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "NAME",
    "Asked",
    "Requirements",
    "collect",
    "default_name",
    "fit_name",
    "local_archive",
    "moved",
]

LONGEST_NAME = 128
"""Of an image. Engines take 255 characters, with the registry and the folder in front."""
NAME = re.compile(rf"(?=.{{1,{LONGEST_NAME}}}$)[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
"""An image's name."""
_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s+|=)(.+)")
_INCLUDE_SLIP = re.compile(r"-([rc])([^\s=].*)")
"""pip takes it; uv does not."""
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
_KNOWN = "known: -r FILE, -c FILE, --index-url, --extra-index-url, --no-index, --find-links, --no-binary, --only-binary"
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2")
_FIND_LINKS = re.compile(r"(?:--find-links|-f)[\s=]*(.*)")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_HASH = re.compile(r"\s--hash[=\s]\s*(\S+)")
_HASH_FORM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_OF_ONE = re.compile(r"\s--(?:hash|config-settings?|global-option)[=\s]\s*\S+")
"""Options that belong to one requirement."""


@dataclass(slots=True)
class Requirements:
    """What a `pip` list stands for.

    asked: every requirement, included files' too. files: absolute path of every file that decides what is installed
    (requirements, constraints, local archives), each once, in order of appearance. rest: lines that bear on all
    requirements, options and constraints. hashed: requirements and constraints with `--hash`, and what these say.
    folder: of libs.yaml, resolved. shown: how errors call that folder.
    """

    folder: Path
    shown: Path = Path()
    asked: list[Asked] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    hashed: list[tuple[Asked, frozenset[str]]] = field(default_factory=list)


def collect(items: Iterable[Asked], folder: Path, shown: Path | None = None) -> Requirements:
    """Follow the items of a `pip` list through the files that they name.

    Args:
        shown: the folder as the user called it, for errors in those files.

    Raises:
        SpecError: a file is missing, unreadable or outside `folder`, an editable or directory install is asked for, or an
            address holds a login.
    """
    found = Requirements(folder.resolve(), shown or Path())
    for item in items:
        _take(found, item, found.folder)
    return found


def local_archive(text: str) -> str | None:
    """The path of a wheel or source archive on this machine that a requirement names, or None.

    Knows `./a.whl`, `/x/a.tar.gz`, `file:///x/a.whl` and `name @ file:///x/a.whl`.
    """
    target = text.split(" @ ", 1)[-1].split(";", 1)[0].strip()
    if target.startswith("file:"):
        try:
            return unquote(urlsplit(target).path)
        except ValueError:  # `file://[`
            return target
    if "://" in target:
        return None
    return target if target.lower().endswith(_ARCHIVES) or target.startswith(("./", "../", "/")) else None


def default_name(path: Path) -> str:
    """The image's name when the file gives none: that of its folder, made fit."""
    return fit_name(path.absolute().parent.name) or "image"


def fit_name(text: str) -> str:
    """A text as an image's name: `My Project_2` → `my-project-2`; "" where nothing of it can stay."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:LONGEST_NAME].rstrip("-")


def moved(item: Asked, folder: str) -> Asked:
    """An item whose paths count from `folder` (relative, `a/b`), as one whose paths count from where `folder` does: an
    included file as `-r FILE` or `-c FILE`, however it was written."""
    text = item.text
    if included := _INCLUDE.fullmatch(text):
        option = "-c" if text.startswith(("-c", "--constraint")) else "-r"
        name = included[1].strip()
        text = f"{option} {name if '://' in name else Path(folder, name)}"
    elif folder in {"", "."}:
        return item
    elif (archive := local_archive(text)) is not None and not archive.startswith("/") and text.startswith(archive):
        text = f"./{Path(folder, archive)}{text.removeprefix(archive)}"
    return Asked(text, item.file, item.line, item.key)


def _take(found: Requirements, item: Asked, base: Path) -> None:
    _refuse_login(item)
    if included := _INCLUDE.fullmatch(item.text):
        path = _relative(item, found.folder, base, included[1].strip())
        if path not in found.files:
            found.files.append(path)
            constraint = item.text.startswith(("-c", "--constraint"))
            _read(found, path, constraint=constraint)
    elif item.text.startswith(("-e", "--editable")):
        raise item.error("an editable install cannot be part of an image", "build a wheel and name its file")
    elif item.text.startswith("-"):
        if slip := _INCLUDE_SLIP.fullmatch(item.text):
            raise item.error(f"unknown option {item.text!r}", f"did you mean -{slip[1]} {slip[2]}?")
        if not item.text.startswith(_OPTIONS):
            raise item.error(f"unknown option {item.text.split()[0]!r}", _KNOWN)
        if (local := _FIND_LINKS.match(item.text)) and "://" not in local[1]:
            raise item.error("a folder of wheels is not taken into the build", "name the wheels themselves: ./NAME.whl")
        found.rest.append(item.text)
    else:
        if (archive := local_archive(item.text)) is not None:
            # Like pip and uv: a path in any requirements file counts from where the installer runs, our folder.
            path = _relative(item, found.folder, found.folder, archive)
            if path.is_dir():
                raise item.error(f"{archive} is a folder", "build a wheel and name its file")
            if path not in found.files:
                found.files.append(path)
        found.asked.append(item)


def _relative(item: Asked, folder: Path, base: Path, name: str) -> Path:
    """The file that an item names, resolved.

    Raises:
        SpecError: as `inside`; an address; or its path is absolute, and would lead nowhere in the build.
    """
    if "://" in name and not name.startswith("file:"):
        raise item.error(f"{name} is an address, whose content changes", "download it, and name the file")
    if not Path(name).is_absolute():
        return inside(item, folder, base, name)
    try:
        way = f"write ./{os.path.relpath(inside(item, folder, base, name), base)}"
    except SpecError:
        way = "copy it into the folder of libs.yaml, and write ./FILE"
    # What `pip freeze` says in an environment of conda's.
    other = () if item.text.startswith("-") else ("or ask for a version, as `pip list --format=freeze` writes them",)
    raise item.error(f"{name} is an absolute path, and builds elsewhere have none such", way, *other)


def _refuse_login(item: Asked) -> None:
    if (wrong := login_in(item.text)) is not None:
        raise item.error(wrong, *HINTS)


def _read(found: Requirements, path: Path, *, constraint: bool) -> None:
    shown = str(found.shown / path.relative_to(found.folder))
    text = decode(read_bytes(path, shown=shown), shown)
    for number, line, hashes in _logical_lines(text):
        item = Asked(line, shown, number, None)
        if "\0" in line:
            raise item.error("character U+0000 is not allowed; is this the right file?")
        _refuse_login(item)
        for each in hashes:
            if not _HASH_FORM.fullmatch(each):
                raise item.error(f"{each!r} is not a hash", "expected --hash=sha256: and 64 digits of 0-9a-f")
        if hashes:
            found.hashed.append((item, frozenset(hashes)))
        if constraint and not line.startswith("-"):
            found.rest.append(f"-c {line}")
            continue
        _take(found, item, path.parent)


def _logical_lines(text: str) -> Iterable[tuple[int, str, list[str]]]:
    """(number of the first physical line, text, hashes) with continuations joined, comments and options of one requirement
    removed."""
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
        if kept := _OF_ONE.sub("", whole).strip():
            yield first, kept, _HASH.findall(whole)
