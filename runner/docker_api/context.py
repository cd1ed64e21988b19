"""The folder that a Dockerfile is built in: what of it is sent to the engine, told by its content, and packed.

As `docker build` has it: `.dockerignore` is honoured, links are sent as links and never followed, all is root's.
"""

from __future__ import annotations

import hashlib
import stat
import tarfile
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from runner.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path

    from runner.job import Where

_IGNORE = ".dockerignore"


@dataclass(frozen=True, slots=True)
class Context:
    """folder: absolute, no link in it. dockerfile: its path below it. paths: all that is sent, relative, sorted."""

    folder: Path
    dockerfile: str
    paths: tuple[str, ...]

    def digest(self) -> str:
        """sha256 of what decides the image: names, modes, link targets and contents; times do not.

        Raises:
            BuildError: a file cannot be read.
        """
        sink = _Hashing()
        sink.digest.update(f"{self.dockerfile}\n".encode())
        _write(self, sink, times=False)
        return sink.digest.hexdigest()

    def pack(self) -> IO[bytes]:
        """A tar of it in a file without name, at its beginning; the caller closes it.

        Raises:
            BuildError: a file cannot be read, or the disk is full.
        """
        stream = tempfile.TemporaryFile(prefix="runner-context-")  # noqa: SIM115 - the caller's
        try:
            _write(self, stream, times=True)
            stream.seek(0)
        except BaseException:
            stream.close()
            raise
        return stream


def read(folder: Path, dockerfile: str | None, where: Where) -> Context:
    """Look at a context; contents are not read yet.

    Args:
        dockerfile: its path from the folder; None: `Dockerfile`.
        where: the place that names them, for errors.

    Raises:
        SpecError: there is no such folder or Dockerfile, or the Dockerfile is not inside.
        BuildError: the folder cannot be read.
    """
    from docker.utils.build import exclude_paths

    root = folder.resolve()
    if not root.is_dir():
        raise where.error(
            f"the build context {folder} is not a folder" if root.exists() else f"no such folder: {folder}"
        )
    name = _dockerfile(root, dockerfile or "Dockerfile", where)
    try:
        return Context(root, name, tuple(sorted(exclude_paths(str(root), _ignored(root), dockerfile=name))))
    except OSError as error:
        raise BuildError(f"cannot read the build context {error.filename or root}: {error.strerror}") from None


def _dockerfile(root: Path, written: str, where: Where) -> str:
    path = root / written
    if not path.resolve().is_relative_to(root) or written.startswith("/"):
        raise where.error(
            f"the Dockerfile {written} is not inside its context {root}", "expected a path from the context's folder"
        )
    if not path.is_file():
        raise where.error(f"no such file: {path}", "dockerfile_path counts from the context's folder")
    return path.resolve().relative_to(root).as_posix()


def _ignored(root: Path) -> list[str]:
    file = root / _IGNORE
    if not file.is_file():
        return []
    lines = (line.strip() for line in file.read_text("utf-8-sig", "replace").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


class _Hashing:
    """What a tar is written to when only its hash is wanted."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)


def _write(context: Context, stream: IO[bytes] | _Hashing, *, times: bool) -> None:
    current = ""
    try:
        with tarfile.open(mode="w|", fileobj=stream) as archive:  # type: ignore[call-overload]  # needs `write` alone
            for current in context.paths:
                _add(archive, context.folder / current, current, times=times)
    except (OSError, tarfile.TarError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise BuildError(
            f"cannot pack the build context {context.folder / current}: {reason}",
            f"list it in {_IGNORE} to leave it out",
        ) from None


def _add(archive: tarfile.TarFile, path: Path, name: str, *, times: bool) -> None:
    if stat.S_ISSOCK(path.lstat().st_mode):  # nothing that could be sent
        return
    info = archive.gettarinfo(str(path), name)
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = info.mtime if times else 0
    if not info.isfile():
        archive.addfile(info)
        return
    with path.open("rb") as content:
        archive.addfile(info, content)
