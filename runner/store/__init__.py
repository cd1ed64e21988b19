"""The run store: SQLite for state, one folder per run for bytes. The only package that knows tables and paths."""

from __future__ import annotations

from runner.store.database import close_all, default_home
from runner.store.folders import (
    DEEPEST,
    AttemptFolder,
    RunFolder,
    aside,
    open_up,
    output_folder,
    remove_tree,
    write_aside,
)
from runner.store.pipelines import PipelineRow
from runner.store.rows import AttemptRow, Progress, RunRow, iso
from runner.store.store import Store

__all__ = [
    "DEEPEST", "AttemptFolder", "AttemptRow", "PipelineRow", "Progress", "RunFolder", "RunRow", "Store", "aside",
    "close_all", "default_home", "iso", "open_up", "output_folder", "remove_tree", "write_aside",
]  # fmt: skip
