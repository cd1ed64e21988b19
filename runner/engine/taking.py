"""Lays what an earlier run left into the place of a step that need not run.

Every run stands by itself: files are hard links to the same bytes, or copies where links cannot be, so either run may be
deleted. A listing, made when the step completed, tells whether its files are still as it left them.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runner.store import output_folder, remove_tree, write_aside

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from runner.store import AttemptFolder

_MAX_LOG = 16 << 20
"""A longer log is linked as it is, without the line that says where it comes from."""

_OWN = frozenset({"box", "log", "log.index", "artifacts"})
"""What of an attempt's folder is not taken over as it is."""

Entry = list[str | int]
"""["file", bytes, mtime_ns], ["link", target] or ["folder"]."""


def listing(folder: Path) -> dict[str, Entry]:
    """Everything below a folder, by its relative path, folders before what is in them."""
    return dict(_entries(folder, ""))


def _entries(root: Path, base: str) -> Iterator[tuple[str, Entry]]:
    with os.scandir(root / base) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{base}/{entry.name}" if base else entry.name
        if entry.is_symlink():
            yield path, ["link", str(Path(entry.path).readlink())]
        elif entry.is_dir():
            yield path, ["folder"]
            yield from _entries(root, path)
        else:
            facts = entry.stat()
            yield path, ["file", facts.st_size, facts.st_mtime_ns]


def write_listing(folder: AttemptFolder, entries: Mapping[str, Entry]) -> None:
    """Keep the listing of what a step left."""
    write_aside(folder.listing, json.dumps(entries).encode("utf-8", "surrogatepass"))


def untouched(folder: AttemptFolder) -> bool:
    """Whether what a step left is still as its listing has it."""
    return _whole(folder, strict=True) is not None


def take_over(
    source: AttemptFolder, target: AttemptFolder, origin: str, *, copied: Collection[str], strict: bool
) -> bool:
    """Give `target` what `source` has; False, and nothing is there, when that is not whole any more.

    May be called again after a kill at any moment.

    Args:
        origin: the run that it comes from, for the line above its log.
        copied: outputs that somebody may write to, so that their bytes must not be shared.
        strict: without a listing it is not taken.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    entries = _whole(source, strict=strict)
    if entries is None:
        return False
    remove_tree(target.root)
    target.artifacts.mkdir(parents=True)
    apart = {output_folder(name) for name in copied}
    try:
        for path, entry in entries.items():
            _lay(source.artifacts / path, target.artifacts / path, entry, copy=path.partition("/")[0] in apart)
        for other in sorted(source.root.iterdir()):
            if other.name not in _OWN and other.is_file():
                _link(other, target.root / other.name)
        link_tree(source.tracking, target.tracking)
        _log(source.log, target.log, origin)
    except FileNotFoundError:  # it is being deleted
        remove_tree(target.root)
        return False
    write_listing(target, entries)
    return True


def link_tree(source: Path, target: Path) -> None:
    """Lay all that is below one folder into another, which is made; a missing one is a no-op.

    Raises:
        OSError: as `take_over`.
    """
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for path, entry in listing(source).items():
            _lay(source / path, target / path, entry, copy=False)


def _whole(source: AttemptFolder, *, strict: bool) -> dict[str, Entry] | None:
    try:
        now = listing(source.artifacts)
    except OSError:
        return None
    try:
        return now if now == json.loads(source.listing.read_bytes()) else None
    except (OSError, ValueError):
        return None if strict else now


def _lay(origin: Path, place: Path, entry: Entry, *, copy: bool) -> None:
    if entry[0] == "folder":
        place.mkdir()
    elif entry[0] == "link":
        place.symlink_to(str(entry[1]))
    elif copy:
        shutil.copy2(origin, place)
    else:
        _link(origin, place)


def _link(origin: Path, place: Path) -> None:
    try:
        os.link(origin, place, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or too many links
        shutil.copy2(origin, place, follow_symlinks=False)


def _log(origin: Path, place: Path, run: str) -> None:
    if not origin.exists():
        return
    if origin.stat().st_size > _MAX_LOG:
        _link(origin, place)
        return
    text = origin.read_bytes()
    head = f"reused from {run}, which wrote:\n".encode()
    place.write_bytes(text if text.startswith(b"reused from ") else head + text)
