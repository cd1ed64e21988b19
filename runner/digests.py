"""The content of a file or folder as one SHA-256, and a cache by which an unchanged 1 GB file is not read again.

A folder's digest is of its relative paths, with each file's content and whether it may be executed, and each link's
text. A link that leads out of the folder counts with what it leads to: a script would read that. Times, owners and other
permissions do not count. Other kinds of files (a pipe, a device) count by their kind, and are never opened.

The cache is one small file for each path asked about, written aside and renamed: two processes can share it without
waiting, and a damaged file is the same as none.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runner.snapshot import stays_inside
from runner.store import write_aside

if TYPE_CHECKING:
    from collections.abc import Iterator

_RACY_NS = 2_000_000_000
"""A file that was written less than so long before it is read may be written again without its times telling so: file
systems count in steps of up to 2 s. Such a file's digest is not kept, as git does with its index."""

_TRIES = 3
_KEPT = 1000
_MIN_BYTES = 4096
"""Smaller files are read as fast as they are looked up."""

_Entry = list[int | str]
"""size, mtime_ns, ctime_ns, inode, device, digest."""


class Digests:
    """Digests of paths, with what was learnt before kept in `folder` (None: nothing is kept)."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def of(self, path: Path) -> str:
        """The digest of a file (as `sha256sum` gives it) or of a folder, in hexadecimal.

        Raises:
            OSError: it is not there, cannot be read, or keeps changing while it is read (ESTALE).
        """
        path = path.resolve(strict=True)
        known = self._load(path)
        reading = _Reading(known)
        found = reading.of(path)
        if reading.seen != known:
            self._save(path, reading.seen)
        return found

    def _file(self, path: Path) -> Path | None:
        return self._folder and self._folder / hashlib.sha256(os.fsencode(path)).hexdigest()[:40]

    def _load(self, path: Path) -> dict[str, _Entry]:
        file = self._file(path)
        if file is None:
            return {}
        try:
            found = json.loads(file.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {key: entry for key, entry in found.items() if isinstance(entry, list) and len(entry) == 6}

    def _save(self, path: Path, entries: dict[str, _Entry]) -> None:
        file = self._file(path)
        if file is None:
            return
        with suppress(OSError):  # a full disk costs time at the next look, nothing else
            if not file.parent.is_dir():
                file.parent.mkdir(parents=True, mode=0o700)
            write_aside(file, json.dumps(entries).encode("utf-8", "surrogatepass"))
            files = sorted(file.parent.iterdir(), key=lambda each: each.stat().st_mtime)
            for old in files[:-_KEPT]:
                old.unlink(missing_ok=True)


class _Reading:
    """One walk. known: what the cache says; seen: what it is to say, of the files that are there now."""

    def __init__(self, known: dict[str, _Entry]) -> None:
        self._known = known
        self._open: list[Path] = []
        self.seen: dict[str, _Entry] = {}

    def of(self, path: Path) -> str:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return self._content(str(path))
        if not stat.S_ISDIR(mode):
            return hashlib.sha256(f"kind {stat.S_IFMT(mode):o}".encode()).hexdigest()
        self._open.append(path)
        try:
            whole = hashlib.sha256()
            for line in self._lines(path, ""):
                whole.update(line)
            return whole.hexdigest()
        finally:
            self._open.pop()

    def _lines(self, root: Path, base: str) -> Iterator[bytes]:
        """One record for each entry, unambiguous: its kind, the length of its path, the path, and what is in it."""
        with os.scandir(root / base) as entries:
            ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        for entry in ordered:
            path = f"{base}/{entry.name}" if base else entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield _record("folder", path, "")
                yield from self._lines(root, path)
            elif stat.S_ISREG(mode):
                kind = "program" if mode & stat.S_IXUSR else "file"
                yield _record(kind, path, self._content(entry.path))
            elif stat.S_ISLNK(mode):
                yield _record("link", path, self._link(root, path))
            else:
                yield _record(f"kind {stat.S_IFMT(mode):o}", path, "")

    def _link(self, root: Path, path: str) -> str:
        text = str((root / path).readlink())
        if stays_inside(root, path, text):
            return text
        target = Path(os.path.realpath(root / path))
        if not target.exists() or any(each.is_relative_to(target) for each in self._open):
            return text
        return f"{text}\0{self.of(target)}"

    def _content(self, path: str) -> str:
        for _ in range(_TRIES):
            started = time.time_ns()
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(fd, "rb") as file:
                before = os.fstat(fd)
                times = [before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino, before.st_dev]
                known = self._known.get(path)
                if known is not None and known[:5] == times:
                    self.seen[path] = known
                    return str(known[5])
                found = hashlib.file_digest(file, "sha256").hexdigest()
                after = os.fstat(fd)
            # Not the inode's own time: a hard link made meanwhile changes it, and no content.
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                continue
            if before.st_size >= _MIN_BYTES and max(before.st_mtime_ns, before.st_ctime_ns) < started - _RACY_NS:
                self.seen[path] = [*times, found]
            return found
        raise OSError(errno.ESTALE, "it is being written to, again and again while it is read", path)


def _record(kind: str, path: str, value: str) -> bytes:
    name, content = os.fsencode(path), os.fsencode(value)
    return b"%s %d:%s %d:%s\n" % (kind.encode(), len(name), name, len(content), content)
