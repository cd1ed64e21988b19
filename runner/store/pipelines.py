"""Registered pipelines: each version a row that never changes; the code of all of them in a folder, by its content."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.store.database import Database
from runner.store.rows import iso

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class PipelineRow:
    """One version of a registered pipeline; versions count from 1. job: JSON of `runner.job_json`."""

    name: str
    version: int
    description: str
    job: str
    created: float

    def to_json(self) -> dict[str, Any]:
        """The documented shape in every `--json` output, without the job itself."""
        return {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "created": iso(self.created),
        }


class Pipelines(Database):
    """The table of registered pipelines."""

    @property
    def pipeline_files(self) -> Path:
        """The folder of their code: one folder for each content, called by its digest."""
        return self.home / "pipelines"

    def add_pipeline(self, name: str, *, description: str, job: str) -> tuple[PipelineRow, bool]:
        """Keep a job as the newest version; (the version, False) when the newest says the same already."""
        with self.transaction() as db:
            newest = db.execute(
                "SELECT * FROM pipelines WHERE name = ? ORDER BY version DESC LIMIT 1", (name,)
            ).fetchone()
            if newest is not None and (newest["job"], newest["description"]) == (job, description):
                return _row(newest), False
            row = PipelineRow(name, newest["version"] + 1 if newest else 1, description, job, time.time())
            db.execute(
                "INSERT INTO pipelines (name, version, description, job, created) VALUES (?, ?, ?, ?, ?)",
                (row.name, row.version, row.description, row.job, row.created),
            )
        return row, True

    def pipelines(self, name: str | None = None) -> Sequence[PipelineRow]:
        """Of one pipeline all versions, newest first; without a name the newest version of each, by name."""
        if name is not None:
            return [
                _row(row) for row in self.query("SELECT * FROM pipelines WHERE name = ? ORDER BY version DESC", name)
            ]
        newest = "SELECT name, max(version) AS version FROM pipelines GROUP BY name"
        sql = f"SELECT pipelines.* FROM pipelines JOIN ({newest}) USING (name, version) ORDER BY name"  # noqa: S608 - fixed
        return [_row(row) for row in self.query(sql)]


def _row(row: sqlite3.Row) -> PipelineRow:
    return PipelineRow(**dict(row))
