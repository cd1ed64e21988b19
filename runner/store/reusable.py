"""What may be reused: the steps that completed, by the digest of all that decided what they left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from runner.model import Status
from runner.store.database import Database
from runner.store.rows import COLUMNS, run_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.store.rows import RunRow

_CANDIDATES = 5
"""So many runs with the same key are looked at; the files of the newest are there, as a rule."""
_COMPARED = 200


class Reusable(Database):
    """Keys, fields and output digests of steps."""

    def cached(self, key: str, root: RunRow) -> Sequence[RunRow]:
        """The steps of other pipelines than `root` that have this key and completed, newest first."""
        sql = (
            f"SELECT {COLUMNS} FROM runs WHERE cache_key = ? AND status = ? AND parent IS NOT ?"  # noqa: S608 - fixed parts
            " ORDER BY id DESC LIMIT ?"
        )
        return [run_row(row) for row in self.query(sql, key, Status.COMPLETED.value, root.id, _CANDIDATES)]

    def any_cached(self, beginning: str, root: RunRow) -> bool:
        """Whether a step of another pipeline than `root` has a key that begins so."""
        sql = "SELECT 1 FROM runs WHERE cache_key >= ? AND cache_key < ? AND parent IS NOT ? LIMIT 1"
        return bool(self.query(sql, beginning, beginning + "g", root.id))  # keys are hexadecimal

    def remember_step(
        self, run: RunRow, *, fields: Mapping[str, str], key: str | None, outputs: Mapping[str, str] | None
    ) -> None:
        """Put off to the next transaction: what decided the outputs of a step. key: None: it must not be reused."""
        self.later(
            ("reuse", run.id), "UPDATE runs SET cache_fields = ?, cache_key = ?, output_digests = ? WHERE id = ?",
            json.dumps(dict(fields)), key, None if outputs is None else json.dumps(dict(outputs)), run.id,
        )  # fmt: skip

    def fields_of(self, run: RunRow) -> Mapping[str, str] | None:
        """The fields that were remembered for a step; None: it never came so far."""
        return self._json("cache_fields", run)

    def output_digests(self, run: RunRow) -> Mapping[str, str] | None:
        """Output → digest of its content; None: not known."""
        return self._json("output_digests", run)

    def _json(self, column: str, run: RunRow) -> Mapping[str, str] | None:
        rows = self.query(f"SELECT {column} FROM runs WHERE id = ?", run.id)  # noqa: S608 - one of two
        text = rows[0][column] if rows else None
        return None if text is None else dict(json.loads(text))

    def like(self, run: RunRow) -> Iterator[tuple[str, Mapping[str, str]]]:
        """(name, fields) of earlier runs of the step, newest first: of this experiment and pipeline, if any."""
        ours = "SELECT experiment, title FROM runs WHERE id = (SELECT parent FROM runs WHERE id = ?)"
        base = (
            "SELECT runs.name, runs.cache_fields FROM runs JOIN runs AS whole ON whole.id = runs.parent"
            " WHERE runs.path = ? AND runs.id < ? AND runs.parent IS NOT (SELECT parent FROM runs WHERE id = ?)"
            " AND runs.cache_fields IS NOT NULL"
        )
        found = self.query(
            f"{base} AND (whole.experiment, whole.title) = ({ours}) ORDER BY runs.id DESC LIMIT ?",
            run.path, run.id, run.id, run.id, _COMPARED,
        ) or self.query(f"{base} ORDER BY runs.id DESC LIMIT ?", run.path, run.id, run.id, _COMPARED)  # fmt: skip
        for row in found:
            yield row["name"], json.loads(row["cache_fields"])
