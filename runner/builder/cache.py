"""Where the builder keeps what can be had again: downloads, logs, locks. Safe to delete when nothing builds."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KEPT_LOGS = 50
_DOWNLOADS = ("conda", "r", "r-built", "git", "code")
"""Folders of what can be had again by asking the network, compiling once more, or putting a step's code together."""


def cache_dir() -> Path:
    """RUNNER_CACHE_DIR, else `runner` in the user's cache folder by the XDG convention; made when missing, 0700.

    Raises:
        BuildError: it cannot be made.
    """
    xdg = os.environ.get("XDG_CACHE_HOME")
    parent = Path(xdg) if xdg and xdg.startswith("/") else Path.home() / ".cache"
    folder = Path(os.environ.get("RUNNER_CACHE_DIR") or parent / "runner").expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        fix = "set RUNNER_CACHE_DIR to a folder that you can write to"
        raise BuildError(f"the cache folder {folder} cannot be made: {error.strerror}", fix) from None
    return folder


def volume(kind: str) -> str:
    """The engine's volume for a cache that root writes in build containers (`apt`, `uv`).

    A volume, not a folder of ours: files of root would lie in the user's cache, where they could not be deleted.
    """
    return f"runner-cache-{hashlib.sha256(str(cache_dir()).encode()).hexdigest()[:8]}-{kind}"


def downloads() -> list[Path]:
    """The folders of downloads that there are."""
    return [folder for name in _DOWNLOADS if (folder := cache_dir() / name).is_dir()]


def new_log(name: str) -> Path:
    """The path of a new build log, 0600; older logs beyond the last fifty are removed."""
    folder = cache_dir() / "logs"
    folder.mkdir(exist_ok=True, mode=0o700)
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
    for old in logs[: max(0, len(logs) - _KEPT_LOGS + 1)]:
        old.unlink(missing_ok=True)
    return folder / f"{name}-{os.getpid()}-{os.urandom(3).hex()}.log"


@contextmanager
def building(waiting: Callable[[], None]) -> Iterator[None]:
    """One build at a time: apt's cache has one writer, and a second build of the same file then finds it done.

    The lock goes with the process, however it ends. `waiting` is called once when another build holds it.
    """
    fd = os.open(cache_dir() / "build.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
