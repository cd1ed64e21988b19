"""The runs of the store.

A run is accepted by the insert of its row, which comes after its folder is complete. A folder without a row is what a
killed submit left behind; `prune` removes it. Every write is one transaction, so a kill at any moment leaves no half
state. Connections belong to one process: a fork opens its own.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from runner.errors import ConflictError, StoreError
from runner.model import Status, Step
from runner.store.attempts import Attempts
from runner.store.children import LIVE_SQL, TERMINAL, Children, insert_steps
from runner.store.folders import remove_tree, write_aside
from runner.store.pipelines import Pipelines
from runner.store.places import Places
from runner.store.reusable import Reusable
from runner.store.rows import COLUMNS, dumped, run_row
from runner.store.search import Search

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.model import Outcome
    from runner.plan import Plan
    from runner.store.rows import RunRow


class Store(Places, Search, Children, Attempts, Reusable, Pipelines):
    """The run store in one folder, 0700.

    Raises:
        StoreError: from every method: disk full, no permission, written by a newer runner.
    """

    def accept(
        self,
        name: str,
        *,
        step: Step | None = None,
        backend: str,
        image: str | None,
        image_name: str | None,
        experiment: str,
        title: str,
        description: str,
        tags: Mapping[str, str],
        plan: Plan | None = None,
        kind: str = "script",
        image_names: Mapping[str, str] | None = None,
        target: Mapping[str, str] | None = None,
    ) -> RunRow:
        """Record the run, with all the steps of its plan. From here on it exists, and will end.

        Args:
            plan: of a pipeline or sweep (`kind`), instead of a step. image_names: image id → what to call it, of steps.
            target: of a run elsewhere; see `RunFolder.target`.

        Raises:
            ConflictError: the name is taken.
        """
        if target is not None:
            with self.errors():
                write_aside(self.folder(name).target, json.dumps(dict(target)).encode())
        if plan is not None:
            with self.errors():
                write_aside(self.folder(name).plan, dumped(plan).encode())
        values = (name, experiment, title, description, json.dumps(dict(tags)), backend, image, image_name,
                  dumped(step or Step(name=name, argv=())), Status.QUEUED.value, time.time(), kind)  # fmt: skip
        try:
            with self.transaction() as db:
                db.execute(
                    "INSERT INTO runs (name, experiment, title, description, tags, backend, image, image_name, step,"
                    " status, created, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    values,
                )
                if plan is not None:
                    row = db.execute(f"SELECT {COLUMNS} FROM runs WHERE name = ?", (name,)).fetchone()  # noqa: S608
                    insert_steps(db, run_row(row), plan.steps, image_names or {})
        except sqlite3.IntegrityError:
            raise ConflictError(f"there is a run named {name!r} already") from None
        return self.get(name)

    def plan(self, run: RunRow) -> Plan:
        """What a pipeline or sweep consists of, as it was accepted.

        Raises:
            StoreError: it cannot be read any more.
        """
        from runner.plan import Plan

        with self.errors():
            text = self.folder(run.name).plan.read_bytes()
        try:
            return Plan.from_json(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"the plan of {run.name} is damaged: {error}", "submit it again; another version of runner wrote it?"
            ) from error

    def list(
        self,
        *,
        status: Status | None = None,
        experiment: str | None = None,
        limit: int | None = None,
        steps: bool = False,
    ) -> Sequence[RunRow]:
        """Runs, newest first; with `steps` those that are parts of another too."""
        where, values = ["1" if steps else "parent IS NULL"], list[str | int]()
        if status is not None:
            where.append("status = ?")
            values.append(status.value)
        if experiment is not None:
            where.append("experiment = ?")
            values.append(experiment)
        values.append(-1 if limit is None else limit)
        return [
            run_row(row)
            for row in self.query(
                f"SELECT {COLUMNS} FROM runs WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?",  # noqa: S608 - fixed parts
                *values,
            )
        ]

    def live(self) -> Sequence[RunRow]:
        """Runs that have not ended, oldest first; not their steps."""
        sql = f"SELECT {COLUMNS} FROM runs WHERE parent IS NULL AND {LIVE_SQL} ORDER BY id"  # noqa: S608 - fixed parts
        return [run_row(row) for row in self.query(sql, *TERMINAL)]

    def experiments(self) -> Sequence[tuple[str, int, int, float]]:
        """(name, runs, runs that failed, time of the newest) of each experiment, newest first."""
        return [
            (row["experiment"], row["n"], row["failed"], row["newest"])
            for row in self.query(
                "SELECT experiment, count(*) AS n, sum(status = 'Failed') AS failed, max(created) AS newest"
                " FROM runs WHERE parent IS NULL GROUP BY experiment ORDER BY newest DESC"
            )
        ]

    def set_status(
        self, run: RunRow, status: Status, *, note: str = "", started: float | None = None, soon: bool = False
    ) -> None:
        """Record where a live run stands. A run that has ended is left as it is. soon: with the next transaction."""
        sql = (
            "UPDATE runs SET status = ?, note = ?, started = coalesce(started, ?)"  # noqa: S608 - fixed parts
            f" WHERE id = ? AND {LIVE_SQL}"
        )
        self.later((run.id, started is not None), sql, status.value, note, started, run.id, *TERMINAL)
        if not soon:
            self.flush()

    def end(self, run: RunRow, outcome: Outcome, *, attempts: int, reused_from: str | None = None) -> None:
        """Record the end. The first one recorded stands."""
        with self.transaction() as db:
            db.execute(
                "UPDATE runs SET status = ?, outcome = ?, attempts = ?, finished = ?, note = '', reused_from = ?"  # noqa: S608
                f" WHERE id = ? AND {LIVE_SQL}",
                (outcome.status.value, dumped(outcome), attempts, time.time(), reused_from, run.id, *TERMINAL),
            )

    def request_cancel(self, run: RunRow, by: str) -> bool:
        """Record that `by` wants the run to end; whether it was still live. The first request stands."""
        with self.transaction() as db:
            cursor = db.execute(
                "UPDATE runs SET cancel_by = coalesce(cancel_by, ?), canceled_at = coalesce(canceled_at, ?)"  # noqa: S608
                f" WHERE id = ? AND {LIVE_SQL}",
                (by, time.time(), run.id, *TERMINAL),
            )
            return cursor.rowcount == 1

    def delete(self, run: RunRow) -> None:
        """Remove an ended run with all its bytes. The row goes first: a kill in between leaves only a stray folder.

        Raises:
            ConflictError: it has not ended.
        """
        if run.parent is not None:
            raise ConflictError(
                f"{run.name} is a step, and goes with the whole of {run.parent}", f"runner delete {run.parent}"
            )
        if not run.status.terminal:
            raise ConflictError(f"{run.name} has not ended ({run.status})", f"first: runner cancel {run.name}")
        with self.transaction() as db:
            db.execute("DELETE FROM runs WHERE id = ?", (run.id,))
        remove_tree(self.folder(run.name).root)

    def fact(self, key: str) -> Any:
        """A remembered fact (of an image, of the store itself), or None. Facts can be lost without harm."""
        rows = self.query("SELECT value FROM facts WHERE key = ?", key)
        return json.loads(rows[0]["value"]) if rows else None

    def remember(self, key: str, value: object) -> None:
        """Remember a fact for `fact`."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?, ?)", (key, json.dumps(value)))

    @property
    def id(self) -> str:
        """A random name of this store, by which an engine's containers are told apart from another store's."""
        found = self.fact("store.id")
        if found is None:
            with self.transaction() as db:
                db.execute("INSERT OR IGNORE INTO facts (key, value) VALUES ('store.id', ?)",
                           (json.dumps(os.urandom(8).hex()),))  # fmt: skip
            found = self.fact("store.id")
        return str(found)
