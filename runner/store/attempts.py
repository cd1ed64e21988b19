"""The attempts of a run. Each row is written before what it tells of can leave a trace outside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner.model import Status
from runner.store import rows
from runner.store.children import LIVE_SQL, TERMINAL
from runner.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.model import Outcome
    from runner.store.rows import AttemptRow, RunRow


class Attempts(Database):
    """The table of attempts."""

    def begin_attempt(self, run: RunRow, number: int) -> None:
        """Record that attempt `number` is about to be submitted."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO attempts (run, number, submitted) VALUES (?, ?, ?)",
                       (run.id, number, time.time()))  # fmt: skip
            # A step that has an attempt has begun: whoever looks for those sees it by its status.
            db.execute(
                "UPDATE runs SET attempts = ?, status = CASE status WHEN ? THEN ? ELSE status END WHERE id = ?",
                (number, Status.NOT_STARTED.value, Status.PREPARING.value, run.id),
            )

    def set_handle(self, run: RunRow, number: int, handle: str) -> None:
        """Record what the backend calls the attempt."""
        with self.transaction() as db:
            db.execute("UPDATE attempts SET handle = ? WHERE run = ? AND number = ?", (handle, run.id, number))

    def end_attempt(self, run: RunRow, number: int, outcome: Outcome) -> None:
        """Record how the attempt ended. Record, log and outputs must be safe before."""
        with self.transaction() as db:
            db.execute(
                "UPDATE attempts SET outcome = ? WHERE run = ? AND number = ?",
                (rows.dumped(outcome), run.id, number),
            )

    def end_last(self, run: RunRow, number: int, outcome: Outcome, started: float | None) -> None:
        """Record at once how the attempt ended and, with it, the run. What it holds is freed later; see `cleaned`.

        started: when the script began, where nobody saw it run.
        """
        text = rows.dumped(outcome)
        with self.transaction() as db:
            db.execute("UPDATE attempts SET outcome = ? WHERE run = ? AND number = ?", (text, run.id, number))
            db.execute(
                "UPDATE runs SET status = ?, outcome = ?, attempts = ?, finished = ?, note = '',"  # noqa: S608
                f" started = coalesce(started, ?) WHERE id = ? AND {LIVE_SQL}",
                (outcome.status.value, text, number, time.time(), started, run.id, *TERMINAL),
            )

    def cleaned(self, run: RunRow, number: int) -> None:
        """Note, with the next transaction, that the backend holds nothing of the attempt any more."""
        self.later(
            ("cleaned", run.id), "UPDATE attempts SET handle = NULL WHERE run = ? AND number = ?", run.id, number
        )

    def uncleaned(self, run: RunRow) -> Sequence[str]:
        """The handles of a pipeline's ended steps that may still be held by the backend."""
        found = self.query(
            "SELECT handle FROM runs JOIN attempts ON attempts.run = runs.id WHERE parent = ? AND handle IS NOT NULL"
            " AND attempts.outcome IS NOT NULL AND finished IS NOT NULL",
            run.id,
        )
        return [row["handle"] for row in found]

    def attempts(self, run: RunRow) -> Sequence[AttemptRow]:
        """The attempts of a run, first to last."""
        return [
            rows.AttemptRow(
                row["number"], row["handle"], row["submitted"], row["started"], rows.outcome(row["outcome"])
            )
            for row in self.query("SELECT * FROM attempts WHERE run = ? ORDER BY number", run.id)
        ]
