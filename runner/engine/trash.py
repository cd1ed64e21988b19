"""Removes the boxes of ended steps in threads: a disk takes 2 ms for a folder, and the next step need not wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.store import remove_tree

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

_AT_ONCE = 3


class Trash:
    """Folders that nothing needs any more."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []

    def put(self, folder: Path) -> None:
        """Remove the folder soon."""
        from concurrent.futures import ThreadPoolExecutor

        self._threads = self._threads or ThreadPoolExecutor(_AT_ONCE, "trash")
        if len(self._pending) > 100:
            self._pending = [each for each in self._pending if not each.done()]
        self._pending.append(self._threads.submit(remove_tree, folder))

    def empty(self) -> bool:
        """Whether everything is gone."""
        return all(each.done() for each in self._pending)
