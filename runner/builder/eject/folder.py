"""The folder of an ejected image: written so that no file of the user is ever lost.

A folder is ours when its SHA256SUMS begins with MARK. Of what it lists only files that are still as we wrote them are
replaced or removed; everything else in the folder stays, and the build does not see it (.dockerignore).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from runner.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Content = bytes | Path
    """A file's bytes, or the file that has them."""

SUMS = "SHA256SUMS"
MARK = "# Written by runner build --dockerfile. Check: sha256sum -c SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def write(folder: Path, files: Mapping[str, Content]) -> tuple[Path, ...]:
    """Make the folder hold these files, and none of a former eject besides.

    Args:
        files: path below the folder → content. SHA256SUMS is added.

    Returns:
        The absolute paths of all of them, sorted.

    Raises:
        ConflictError: the folder holds other things than a former eject, or one of its files was changed since.
        OSError: it cannot be written to.
    """
    folder = folder.absolute()
    known = _known(folder)
    sums = {name: _digest(content) for name, content in files.items()}
    for name, digest in sums.items():
        _check(folder, name, digest, known)
    folder.mkdir(parents=True, exist_ok=True)
    # Both lists first: killed from here on, the folder is still known as ours, with all that may be in it.
    _put(folder / SUMS, _listed([*sums.items(), *((name, each) for name in known for each in sorted(known[name]))]))
    for name in known.keys() - sums.keys():
        _remove(folder, name, known[name])
    for name, content in sorted(files.items()):
        target = folder / name
        if not target.exists() or _digest(target) != sums[name]:
            _make_parents(folder, target)
            _put(target, content)
    _put(folder / SUMS, _listed(sums.items()))
    return tuple(sorted(folder / name for name in [*sums, SUMS]))


def _known(folder: Path) -> dict[str, set[str]]:
    """The files of a former eject: path → its digests; {} for a new folder."""
    if not folder.exists() and not folder.is_symlink():
        return {}
    if not folder.is_dir():
        raise ConflictError(f"{folder} is a file", "name a folder that is new or empty")
    if not any(folder.iterdir()):
        return {}
    sums = folder / SUMS
    lines = sums.read_text("utf-8", "replace").splitlines() if sums.is_file() and not sums.is_symlink() else []
    if lines[:1] != [MARK]:
        raise ConflictError(
            f"{folder} holds other files, and is no folder that runner wrote", "name a folder that is new or empty"
        )
    known: dict[str, set[str]] = {}
    for line in lines:
        if match := _LINE.fullmatch(line):
            known.setdefault(match[2], set()).add(match[1])
    return known


def _check(folder: Path, name: str, digest: str, known: Mapping[str, set[str]]) -> None:
    """That writing this file loses nothing and stays inside the folder."""
    target = folder / name
    if any(parent.is_symlink() for parent in [target, *target.parents][: len(PurePosixPath(name).parts)]):
        raise ConflictError(f"{target} is a link, or stands behind one", "remove the link, or name another folder")
    if not target.exists():
        return
    if not target.is_file() or _digest(target) not in {*known.get(name, ()), digest}:
        raise ConflictError(
            f"{target} was changed since runner wrote it", "move your changes away, or name another folder"
        )


def _remove(folder: Path, name: str, digests: set[str]) -> None:
    """A file of a former eject that is not needed any more, unless it was changed; and its folder when that is empty."""
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        return
    target = folder / name
    ours = [target, *target.parents][: len(PurePosixPath(name).parts)]
    if any(each.is_symlink() for each in ours) or not target.is_file() or _digest(target) not in digests:
        return
    target.unlink()
    for parent in ours[1:]:
        if any(parent.iterdir()):
            return
        parent.rmdir()


def _make_parents(folder: Path, target: Path) -> None:
    """Readable by all, whatever the umask: the run-time user reads some of them inside the build."""
    for parent in reversed(target.parents):
        if parent.is_relative_to(folder) and not parent.exists():
            parent.mkdir()
            parent.chmod(0o755)


def _put(target: Path, content: Content) -> None:
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if isinstance(content, bytes):
            aside.write_bytes(content)
        else:
            shutil.copyfile(content, aside)
        aside.chmod(0o644)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _listed(pairs: Iterable[tuple[str, str]]) -> bytes:
    return "".join([f"{MARK}\n", *(f"{digest}  {name}\n" for name, digest in sorted(set(pairs)))]).encode()


def _digest(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
