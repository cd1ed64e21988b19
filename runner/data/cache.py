"""What was downloaded, kept by content: each file once under its sha256, and for each address what it holds now.

    objects/SHA256            the bytes, read-only
    places/KEY/index.json     what the address had last: validators, sizes, hashes; no address, no login
    places/KEY/PART/NAME      the same file or folder under its own name, as a step gets it (hard links of the objects)
    places/KEY/lock           held while somebody asks or downloads

What a step was given is never changed: other content of the same address gets another PART.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from runner.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of the cache. mtime_ns tells whether somebody wrote to the object since."""

    validator: str
    sha256: str
    size: int
    mtime_ns: int


class Shelf:
    """The part of a cache that belongs to one address."""

    def __init__(self, cache: Path, identity: str) -> None:
        self.folder = cache / "places" / hashlib.sha256(identity.encode()).hexdigest()[:32]
        self.objects = cache / "objects"
        for each in (cache, self.objects, self.folder.parent, self.folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def alone(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the address's lock; `waiting` is called when another process has it. It is free when its holder dies."""
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def known(self) -> dict[str, Kept]:
        """Relative path → what is had of it, only what is still as it was; "" stands for the address itself, a file."""
        try:
            found = json.loads((self.folder / "index.json").read_text("utf-8"))
            kept = {name: Kept(**each) for name, each in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
        return {name: each for name, each in kept.items() if self._intact(each)}

    def aside(self, relative: str) -> Path:
        """Where a download of that file is put until it is whole."""
        folder = self.folder / "parts"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / hashlib.sha256(relative.encode()).hexdigest()[:32]

    def keep(self, aside: Path, validator: str) -> Kept:
        """Make a whole download an object; one that is there and still has this content stays, as others point to it."""
        sha256 = _sha256(aside)
        target = self.objects / sha256
        if target.exists() and _sha256(target) == sha256:
            aside.unlink()
        else:
            aside.chmod(0o444)
            aside.replace(target)
        found = target.stat()
        return Kept(validator, sha256, found.st_size, found.st_mtime_ns)

    def write(self, kept: Mapping[str, Kept]) -> None:
        """What the address has now."""
        aside = self.folder / f".{secrets.token_hex(6)}"
        aside.write_text(json.dumps({name: asdict(each) for name, each in kept.items()}), "utf-8")
        aside.replace(self.folder / "index.json")

    def file(self, kept: Kept, name: str) -> Path:
        """The file under its own name."""
        return self._placed(kept.sha256, name, {"": kept})

    def tree(self, kept: Mapping[str, Kept], name: str) -> Path:
        """The folder under its own name, with just these files."""
        listed = json.dumps(sorted((path, each.sha256) for path, each in kept.items()))
        return self._placed(hashlib.sha256(listed.encode()).hexdigest(), name, kept)

    def _placed(self, digest: str, name: str, kept: Mapping[str, Kept]) -> Path:
        """Made aside, then renamed: what has that name is whole."""
        part = self.folder / digest[:16]
        if _as_made(part / name, kept):
            return part / name
        aside = self.folder / f".{secrets.token_hex(6)}"
        aside.mkdir(mode=0o755)
        try:
            for path, each in kept.items():
                target = aside / name / path
                target.parent.mkdir(parents=True, exist_ok=True)
                link(self.objects / each.sha256, target)
            if part.exists():  # somebody wrote to it; a step may still have it
                part.rename(self.folder / f".{secrets.token_hex(6)}")
            aside.rename(part)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            if error.errno in {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}:
                raise BackendError(f"{name} holds names that cannot stand together in a folder here: {error}") from None
            raise
        return part / name

    def _intact(self, kept: Kept) -> bool:
        return _is(self.objects / kept.sha256, kept)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is(path: Path, kept: Kept) -> bool:
    """Whether nobody wrote to it since."""
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and (found.st_size, found.st_mtime_ns) == (kept.size, kept.mtime_ns)


def _as_made(place: Path, kept: Mapping[str, Kept]) -> bool:
    """Whether there are these files and no others: a step could have replaced some, or left some of its own."""
    if set(kept) == {""}:
        return _is(place, kept[""])
    found = {Path(top, name).relative_to(place).as_posix() for top, folders, files in os.walk(place) for name in files}
    return found == set(kept) and all(_is(place / path, each) for path, each in kept.items())


def link(source: Path, target: Path) -> None:
    """A second name for a file of the cache; a copy where the file system gives none."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP}:
            raise
        shutil.copy2(source, target)


def plain_relative(path: str) -> bool:
    """Whether a server's name for a file leads to a place below a folder and nowhere else."""
    parts = path.split("/")
    return (
        bool(path) and not {"", ".", ".."} & set(parts) and "\0" not in path and not PurePosixPath(path).is_absolute()
    )
