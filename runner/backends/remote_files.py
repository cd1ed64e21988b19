"""Sends an attempt's files to an engine on another machine and brings them back, as tar streams.

Such an engine sees nothing of this machine's files, so nothing can be mounted. What comes back was written by a script
and is unpacked by hand: plain files, folders and links only, links last, never through one and never outside.
"""

from __future__ import annotations

import io
import os
import selectors
import stat
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from runner.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.docker_api.containers import Engine
    from runner.docker_api.wire import Stream

_STALL_S = 60.0
"""An engine that sends nothing for so long in the middle of an archive is not answering."""


def send(engine: Engine, container: str, files: Mapping[str, Path], owner: tuple[int, int]) -> None:
    """Put files and folders of this machine into a container that has not been started.

    Args:
        files: absolute path in the container → path here. owner: uid and gid inside.
    """

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid, member.gid = owner
        member.uname = member.gname = ""
        return member

    with tempfile.TemporaryFile() as spool:
        with tarfile.open(fileobj=spool, mode="w") as tar:
            for target, source in files.items():
                tar.add(source.resolve() if source.is_symlink() else source, target.lstrip("/"), filter=owned)
        engine.put_archive(container, "/", spool)


def fetch(engine: Engine, container: str, folders: Mapping[str, Path]) -> None:
    """Bring folders of a container back, ended or running; one that is not there is passed over.

    Args:
        folders: absolute path in the container → folder here, made anew.
    """
    for source, target in folders.items():
        stream = engine.get_archive(container, source)
        if stream is None:
            continue
        try:
            _unpack(stream, target)
        finally:
            stream.close()


def _unpack(stream: Stream, target: Path) -> None:
    links: list[tuple[Path, str]] = []
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BufferedReader(_Raw(stream)), mode="r|") as tar:
        for member in tar:
            # The engine puts the folder's own name first.
            parts = PurePosixPath(member.name).parts[1:]
            if any(part in {"..", "/"} for part in parts) or not (parts or member.isdir()):
                continue
            place = target.joinpath(*parts)
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif member.issym():
                links.append((place, member.linkname))
            elif member.isreg():
                _write(place, tar.extractfile(member), member.mode)
            elif member.islnk():
                original = target.joinpath(*PurePosixPath(member.linkname).parts[1:])
                if original.is_file() and not place.exists():
                    os.link(original, place)
    _link(links)


def _write(place: Path, content: io.BufferedIOBase | object, mode: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(place, flags, stat.S_IMODE(mode) | 0o600), "wb") as file:
        while block := content.read(1 << 20):  # type: ignore[union-attr]
            file.write(block)


def _link(links: Iterable[tuple[Path, str]]) -> None:
    """Links come last, so that no file was written through one; `artifacts.collect` drops those that lead out."""
    for place, text in links:
        if not place.exists() and not place.is_symlink():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(text)


class _Raw(io.RawIOBase):
    """A non-blocking stream of the engine as a file that can be read."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(stream, selectors.EVENT_READ)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            if self._stream.ended:
                return 0
            self._rest = self._stream.read()
            waiting = not self._rest and not self._stream.ended
            if waiting and not self._selector.select(_STALL_S):
                raise UnavailableError("the engine stopped sending in the middle of an archive", "it is asked again")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._selector.close()
        super().close()
