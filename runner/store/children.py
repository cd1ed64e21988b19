"""The steps of pipelines, and the trials of sweeps: rows with a parent. What is asked often costs the same for thousands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner.model import Status
from runner.store.database import Database
from runner.store.rows import COLUMNS, Progress, dumped, run_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from runner.model import Outcome, Step
    from runner.plan import PlanStep
    from runner.store.rows import RunRow

TERMINAL = tuple(status.value for status in Status if status.terminal)
LIVE_SQL = f"status NOT IN ({', '.join('?' * len(TERMINAL))})"
_MOVING = tuple(status.value for status in Status if not status.terminal and status is not Status.NOT_STARTED)
_MOVING_SQL = f"status IN ({', '.join('?' * len(_MOVING))})"

_INSERT = (
    "INSERT INTO runs (name, experiment, title, description, tags, backend, image, image_name, step, status, created,"
    " parent, kind, path) VALUES (?, ?, ?, '', '{}', ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Children(Database):
    """Runs that are parts of another."""

    def children(self, run: RunRow) -> Sequence[RunRow]:
        """The steps of a pipeline in the order of its plan, and after them the trials of its sweeps."""
        sql = f"SELECT {COLUMNS} FROM runs WHERE parent = ? ORDER BY id"  # noqa: S608 - fixed parts
        return [run_row(row) for row in self.query(sql, run.id)]

    def begun(self, run: RunRow) -> Sequence[RunRow]:
        """Of `children` those that have left NotStarted, those that ended first as they ended."""
        sql = (
            f"SELECT {COLUMNS} FROM runs WHERE parent = ? AND (status IN ({', '.join('?' * len(TERMINAL))})"  # noqa: S608
            f" OR {_MOVING_SQL}) ORDER BY finished IS NULL, finished, id"
        )
        return [run_row(row) for row in self.query(sql, run.id, *TERMINAL, *_MOVING)]

    def counts(self, run: RunRow, *, trials: bool = False) -> Mapping[Status, int]:
        """How many steps stand where; or how many trials, of those that have begun."""
        rows = self.query(
            "SELECT status, count(*) AS n FROM runs WHERE parent = ? AND (kind = 'trial') = ? GROUP BY status",
            run.id,
            trials,
        )
        return {Status(row["status"]): row["n"] for row in rows}

    def moving(self, run: RunRow) -> Sequence[Progress]:
        """The steps that have begun and not ended, in the order of the plan."""
        return [
            _progress(row)
            for row in self.query(
                f"SELECT path, name, status, attempts, kind FROM runs WHERE parent = ? AND {_MOVING_SQL} ORDER BY id",  # noqa: S608
                run.id,
                *_MOVING,
            )
        ]

    def ended(self, run: RunRow, since: float) -> Sequence[Progress]:
        """The steps that ended at `since` (seconds since the epoch) or later, as they ended."""
        return [
            _progress(row)
            for row in self.query(
                "SELECT path, name, status, attempts, kind FROM runs WHERE parent = ? AND finished >= ?"
                " ORDER BY finished, id",
                run.id, since,
            )
        ]  # fmt: skip

    def by_start(self, run: RunRow) -> Sequence[Progress]:
        """The steps that have begun, in the order in which they did."""
        return [
            _progress(row)
            for row in self.query(
                "SELECT path, name, status, attempts, kind FROM runs WHERE parent = ? AND attempts > 0"
                " ORDER BY (SELECT submitted FROM attempts WHERE run = runs.id AND number = 1), id",
                run.id,
            )
        ]  # fmt: skip

    def cancels(self, run: RunRow) -> Mapping[str, str]:
        """Who asked for what to be canceled, of the run ("") and its steps: path → who. Asked at every tick."""
        rows = self.query(
            "SELECT '' AS path, cancel_by FROM runs WHERE id = ? AND cancel_by IS NOT NULL UNION ALL"
            " SELECT path, cancel_by FROM runs WHERE parent = ? AND parent IS NOT NULL AND cancel_by IS NOT NULL",
            run.id, run.id,
        )  # fmt: skip
        return {row["path"]: row["cancel_by"] for row in rows}

    def add_child(self, run: RunRow, path: str, step: Step, *, kind: str = "trial", title: str | None = None) -> RunRow:
        """A part that the plan did not know of. Once only: a second call finds the first one's row."""
        values = _values(run, path, step, title or path, kind=kind, image_name=run.image_name)
        with self.transaction() as db:
            db.execute(_INSERT.replace("INSERT", "INSERT OR IGNORE", 1), values)
        sql = f"SELECT {COLUMNS} FROM runs WHERE name = ?"  # noqa: S608 - fixed parts
        return run_row(self.query(sql, f"{run.name}.{path}")[0])

    def end_steps(self, run: RunRow, ends: Iterable[tuple[str, Outcome]]) -> None:
        """Record at once how steps ended that were never started: their paths, and how. The first end stands."""
        now = time.time()
        with self.transaction() as db:
            db.executemany(
                f"UPDATE runs SET status = ?, outcome = ?, finished = ?, note = '' WHERE name = ? AND {LIVE_SQL}",  # noqa: S608
                (
                    (outcome.status.value, dumped(outcome), now, f"{run.name}.{path}", *TERMINAL)
                    for path, outcome in ends
                ),
            )

    def end_children(self, run: RunRow, outcome: Outcome) -> None:
        """Record one end for every step that has not ended."""
        with self.transaction() as db:
            db.execute(
                f"UPDATE runs SET status = ?, outcome = ?, finished = ?, note = '' WHERE parent = ? AND {LIVE_SQL}",  # noqa: S608
                (outcome.status.value, dumped(outcome), time.time(), run.id, *TERMINAL),
            )


def insert_steps(
    db: sqlite3.Connection, run: RunRow, steps: Iterable[PlanStep], image_names: Mapping[str, str]
) -> None:
    """The rows of a plan's steps, NotStarted."""
    db.executemany(
        _INSERT,
        (
            _values(run, each.name, each.step, each.display_name or each.name, kind="step",
                    image_name=image_names.get(each.step.image or ""))
            for each in steps
        ),
    )  # fmt: skip


def _values(run: RunRow, path: str, step: Step, title: str, *, kind: str, image_name: str | None) -> tuple[object, ...]:
    return (
        f"{run.name}.{path}", run.experiment, title, run.backend, step.image, image_name, dumped(step),
        Status.NOT_STARTED.value, time.time(), run.id, kind, path,
    )  # fmt: skip


def _progress(row: sqlite3.Row) -> Progress:
    return Progress(row["path"], row["name"], Status(row["status"]), row["attempts"], row["kind"] == "trial")
