"""Hands secrets to a bootstrapper: a 0600 file on tmpfs, in a 0700 folder of its own, unlinked before the script starts.

Its place follows from the task's key alone, so that whoever finishes a task can make sure that nothing is left.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import CapabilityError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "secrets.json"
_TMPFS = Path("/dev/shm")  # noqa: S108 - the tmpfs that every Linux has; the folder below it is 0700 and checked


def _root() -> Path:
    return _TMPFS / f"runner-{os.getuid()}"


def folder(key: str) -> Path:
    """The folder of a task's secrets, on tmpfs."""
    return _root() / key


def write(key: str, secrets: Mapping[str, str], uid: int, gid: int) -> Path:
    """Write the secrets for the user `uid:gid`; the file's path.

    Raises:
        CapabilityError: this machine has no tmpfs, or somebody else holds our place there.
    """
    if not _TMPFS.is_dir():
        raise CapabilityError("secrets need a tmpfs at /dev/shm, and this machine has none", "pass values with --env")
    root = _root()
    root.mkdir(mode=0o700, exist_ok=True)
    status = root.lstat()
    if status.st_uid != os.getuid() or root.is_symlink():
        raise CapabilityError(f"{root} belongs to somebody else, so secrets cannot be put there", "remove it")
    root.chmod(0o711 if uid != os.getuid() else 0o700)
    place = folder(key)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    path = place / NAME
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(dict(secrets), file)
    if uid != os.getuid():
        os.chown(path, uid, gid)
        os.chown(place, uid, gid)
    return path


def remove(key: str) -> None:
    """Remove what may be left of a task's secrets."""
    shutil.rmtree(folder(key), ignore_errors=True)
