"""Lays what an earlier run left into the place of a step that need not run."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from runner.store import remove_tree

if TYPE_CHECKING:
    from pathlib import Path

    from runner.store import RunRow, Store


def take_over(store: Store, earlier: RunRow, run: RunRow) -> None:
    """Give `run` the outputs and the log of `earlier`, as links to the same bytes where the file system has them.

    Every run stands by itself: either may be deleted. May be called again after a kill.
    """
    source = store.folder(earlier.name).attempt(max(1, earlier.attempts))
    target = store.folder(run.name).attempt(1)
    with store.errors():
        remove_tree(target.root)
        target.root.mkdir(parents=True)
        target.artifacts.mkdir()
        link_tree(source.artifacts, target.artifacts)
        link_tree(source.tracking, target.tracking)
        if source.log.exists():
            _link(source.log, target.log)


def link_tree(source: Path, target: Path) -> None:
    """Lay a folder's files into another (made), as links where the file system has them. Missing is a no-op."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=_link, dirs_exist_ok=True)


def _link(source: Path | str, target: Path | str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or too many links
        shutil.copy2(source, target, follow_symlinks=False)
