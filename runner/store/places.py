"""Folders and locks of runs: a folder comes before its run is accepted, and is all that a killed submit leaves."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

from runner.errors import ConflictError, StoreError
from runner.names import fresh_name
from runner.store.database import Database
from runner.store.folders import RunFolder, remove_tree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_STRAY_S = 60.0
"""A folder without a row may belong to a submit that is still copying; one that was not touched for so long does not."""


class Places(Database):
    """The files of the store."""

    def reserve(self, name: str | None) -> tuple[str, RunFolder]:
        """Make the folder of a new run: under `name`, or under a fresh name that nobody has.

        Raises:
            ConflictError: the name is taken.
        """
        self.connect()
        with self.errors():
            (self.home / "runs").mkdir(mode=0o700, exist_ok=True)
            while True:
                chosen = name or fresh_name()
                folder = self.folder(chosen)
                try:
                    folder.root.mkdir(mode=0o700)
                except FileExistsError:
                    if name is None or self._clear_stray(name):
                        continue
                    raise ConflictError(
                        f"there is a run named {name!r} already", f"choose another name, or: runner delete {name}"
                    ) from None
                return chosen, folder

    def _clear_stray(self, name: str) -> bool:
        """Remove what a killed submit left under this name; whether there was such a thing."""
        root = self.folder(name).root
        if self.has(name) or root not in self.strays(older_than_s=_STRAY_S):
            return False
        remove_tree(root)
        return True

    def discard(self, name: str) -> None:
        """Remove the folder of a run that was reserved and not accepted."""
        remove_tree(self.folder(name).root)

    def has(self, name: str) -> bool:
        """Whether a run of exactly that name was accepted."""
        return bool(self.query("SELECT 1 FROM runs WHERE name = ?", name))

    def strays(self, older_than_s: float = 3600) -> Sequence[Path]:
        """Folders of runs that were never accepted (a submit was killed), older than the given seconds."""
        known = {row["name"] for row in self.query("SELECT name FROM runs WHERE parent IS NULL")}
        root = self.home / "runs"
        if not root.is_dir():
            return []
        before = time.time() - older_than_s
        return [path for path in root.iterdir() if path.name not in known and self._abandoned(path, before)]

    def _abandoned(self, path: Path, before: float) -> bool:
        try:
            if path.stat().st_mtime >= before:
                return False
            if not path.is_dir():
                return True
            lock = self.lock(path.name)
        except (OSError, StoreError):  # removed meanwhile
            return False
        if lock is None:  # a submit that is still copying, however long, holds it
            return False
        os.close(lock)
        return True

    def folder(self, name: str) -> RunFolder:
        """The folder of a run; of a step, inside that of its pipeline."""
        root = self.root_name(name)
        folder = RunFolder(self.home / "runs" / root)
        return folder if root == name else folder.step(name[len(root) + 1 :])

    def root_name(self, name: str) -> str:
        """The run that a user started, of which this one is a part or which it is itself."""
        root, dot, _ = name.partition(".")
        # Runs of older versions had names with dots, of up to 63 characters.
        if not dot or (len(name) <= 63 and "/" not in name and (self.home / "runs" / name).is_dir()):
            return name
        return root

    @property
    def cache(self) -> Path:
        """A folder for things that can be made again."""
        return self.home / "cache"

    def lock(self, name: str) -> int | None:
        """Take the lock of the run's supervisor, which is its root's: a descriptor that holds it; None: a supervisor lives.

        The lock goes with the descriptor through a fork, and is free the moment its last holder dies.
        """
        with self.errors():
            fd = os.open(self.folder(self.root_name(name)).lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        return fd
