"""Finds the run that a user means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import NotFoundError
from runner.store.database import Database
from runner.store.rows import COLUMNS, run_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from runner.store.rows import RunRow


class Search(Database):
    """Runs by their names."""

    def get(self, name: str) -> RunRow:
        """The run of exactly that name.

        Raises:
            NotFoundError: there is none.
        """
        rows = self._named(name)
        if not rows:
            raise NotFoundError(f"no run named {name!r}")
        return run_row(rows[0])

    def resolve(self, reference: str) -> RunRow:
        """The run that a user means: its name, a unique beginning of it, `@last`, or one of these, a dot and a step.

        Raises:
            NotFoundError: none, or more than one, fits.
        """
        if rows := self._named(reference):
            return run_row(rows[0])
        if reference == "@last":
            return self._last()
        rows = self._beginning(reference) if reference else []
        if len(rows) == 1:
            return run_row(rows[0])
        if rows:
            names = ", ".join(row["name"] for row in rows[:5])
            raise NotFoundError(f"{reference!r} is the beginning of more than one run: {names}", "type more of it")
        root, dot, path = reference.partition(".")
        if dot and root:
            return self.child(self.resolve(root), path)
        raise self._no_such(reference)

    def child(self, run: RunRow, path: str) -> RunRow:
        """The step of that name of a pipeline.

        Raises:
            NotFoundError: it has none of that name.
        """
        rows = self._named(f"{run.name}.{path}")
        if rows:
            return run_row(rows[0])
        import difflib

        paths = [row["path"] for row in self.query("SELECT path FROM runs WHERE parent = ? LIMIT 500", run.id)]
        if not paths:
            raise NotFoundError(f"{run.name} has no steps: it is one script", f"see it: runner show {run.name}")
        near = difflib.get_close_matches(path, paths, n=1)
        hints = [f"did you mean {near[0]}?"] if near else []
        raise NotFoundError(f"{run.name} has no step {path!r}", *hints, f"see its steps: runner show {run.name}")

    def root_of(self, run: RunRow) -> RunRow:
        """The pipeline that a step belongs to; any other run itself."""
        return run if run.parent is None else self.get(run.parent)

    def _named(self, name: str) -> Sequence[sqlite3.Row]:
        return self.query(f"SELECT {COLUMNS} FROM runs WHERE name = ?", name)  # noqa: S608 - fixed parts

    def _beginning(self, text: str) -> Sequence[sqlite3.Row]:
        # A range, not LIKE: `_` and `%` in what the user typed are just characters.
        return self.query(
            f"SELECT {COLUMNS} FROM runs WHERE name >= ? AND name < ? AND parent IS NULL ORDER BY id DESC LIMIT 6",  # noqa: S608
            text,
            text + chr(0x10FFFF),
        )

    def _last(self) -> RunRow:
        rows = self.query(f"SELECT {COLUMNS} FROM runs WHERE parent IS NULL ORDER BY id DESC LIMIT 1")  # noqa: S608
        if not rows:
            raise NotFoundError("there are no runs yet", "start one: runner submit SCRIPT")
        return run_row(rows[0])

    def _no_such(self, reference: str) -> NotFoundError:
        import difflib

        recent = [
            row["name"] for row in self.query("SELECT name FROM runs WHERE parent IS NULL ORDER BY id DESC LIMIT 500")
        ]
        near = difflib.get_close_matches(reference, recent, n=1)
        hints = [f"did you mean {near[0]}?"] if near else []
        return NotFoundError(f"no run named {reference!r}", *hints, "see them: runner list")
