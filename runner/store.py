"""The run store: SQLite for state, one folder per run for bytes. The only module that knows tables and paths.

A run is accepted by the insert of its row, which comes after its folder is complete. A folder without a row is what a
killed submit left behind; `prune` removes it. Every write is one transaction, so a kill at any moment leaves no half
state. Connections belong to one process: a fork opens its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import stat
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import ConflictError, NotFoundError, StoreError
from runner.model import Outcome, Status, Step
from runner.names import fresh_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MIGRATIONS = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        experiment TEXT NOT NULL,
        title TEXT NOT NULL,
        description TEXT NOT NULL,
        tags TEXT NOT NULL,
        backend TEXT NOT NULL,
        image TEXT,
        image_name TEXT,
        step TEXT NOT NULL,
        status TEXT NOT NULL,
        note TEXT NOT NULL DEFAULT '',
        outcome TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        created REAL NOT NULL,
        started REAL,
        finished REAL,
        cancel_by TEXT,
        canceled_at REAL
    );
    CREATE INDEX runs_by_status ON runs (status);
    CREATE INDEX runs_by_experiment ON runs (experiment);
    CREATE TABLE attempts (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        handle TEXT,
        submitted REAL NOT NULL,
        started REAL,
        outcome TEXT,
        PRIMARY KEY (run, number)
    );
    CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    """,
)
"""One script per schema version; `PRAGMA user_version` counts how many were applied. Only ever append."""

_BUSY_S = 60
"""How long a writer waits for others. 50 submits at once on two cores need about one second."""

_STRAY_S = 60.0
"""A folder without a row may belong to a submit that is still copying; one that was not touched for so long does not."""

_TERMINAL = tuple(status.value for status in Status if status.terminal)
_LIVE_SQL = f"status NOT IN ({', '.join('?' * len(_TERMINAL))})"


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as the store holds it. Times are seconds since the epoch."""

    id: int
    name: str
    experiment: str
    title: str
    description: str
    tags: dict[str, str]
    backend: str
    image: str | None
    image_name: str | None
    step: Step
    status: Status
    note: str
    outcome: Outcome | None
    attempts: int
    created: float
    started: float | None
    finished: float | None
    cancel_by: str | None
    canceled_at: float | None

    def to_json(self) -> dict[str, Any]:
        """The documented shape of a run in every `--json` output; see docs/json.md."""
        outcome = self.outcome
        return {
            "name": self.name,
            "status": self.status.value,
            "reason": outcome.reason.value if outcome else None,
            "exit_code": outcome.exit_code if outcome else None,
            "signal": outcome.signal if outcome else None,
            "core_dumped": outcome.core_dumped if outcome else False,
            "message": outcome.message if outcome else self.note,
            "warnings": list(outcome.warnings) if outcome else [],
            "oom_kills": outcome.oom_kills if outcome else 0,
            "cancel": outcome.to_json()["cancel"] if outcome else None,
            "origin": outcome.origin.value if outcome else None,
            "retryable": outcome.retryable if outcome else None,
            "process_exit": outcome.process_exit if outcome else None,
            "attempts": self.attempts,
            "created": iso(self.created),
            "started": iso(self.started),
            "finished": iso(self.finished),
            "elapsed_s": outcome.elapsed_s if outcome else None,
            "max_rss_bytes": outcome.max_rss_bytes if outcome else None,
            "user_s": outcome.user_s if outcome else None,
            "sys_s": outcome.sys_s if outcome else None,
            "title": self.title,
            "experiment": self.experiment,
            "description": self.description,
            "tags": self.tags,
            "backend": self.backend,
            "image": self.image,
            "image_name": self.image_name,
            "argv": list(self.step.argv),
        }


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt of a run; `number` counts from 1. `outcome` is set once record, log and outputs are safe."""

    number: int
    handle: str | None
    submitted: float
    started: float | None
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Every path of one run. Written aside, then renamed; nothing else invents a path in here."""

    root: Path

    @property
    def code(self) -> Path:
        """The snapshot of the user's code, never written to after acceptance."""
        return self.root / "code"

    @property
    def lock(self) -> Path:
        """Held (flock) by the run's supervisor for as long as it lives."""
        return self.root / "lock"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor itself had to say; empty when all went well."""
        return self.root / "supervisor.log"

    def attempt(self, number: int) -> AttemptFolder:
        """The folder of attempt `number` (from 1)."""
        return AttemptFolder(self.root / "attempts" / str(number))


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """Every path of one attempt."""

    root: Path

    @property
    def box(self) -> Path:
        """What the script sees while it runs; removed once outputs and record are safe."""
        return self.root / "box"

    @property
    def log(self) -> Path:
        """The script's stdout and stderr, byte for byte."""
        return self.root / "log"

    @property
    def log_index(self) -> Path:
        """(time, size) pairs of the log, for `--since`."""
        return self.root / "log.index"

    @property
    def record(self) -> Path:
        """The bootstrapper's record, as it was at the end."""
        return self.root / "status.json"

    @property
    def artifacts(self) -> Path:
        """What the script left: `outputs/`, `logs/` and one folder per named output."""
        return self.root / "artifacts"


_STORES: weakref.WeakSet[Store] = weakref.WeakSet()


def close_all() -> None:
    """Close the connections of every store of this process, which must be done before a fork.

    SQLite keeps one table of locks per process and file: a child that inherits it, by whichever connection, waits for
    ever for locks that nobody holds.
    """
    for store in list(_STORES):
        store.close()


def default_home() -> Path:
    """RUNNER_HOME, else the user's data folder by the XDG convention."""
    if home := os.environ.get("RUNNER_HOME"):
        return Path(home).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data and data.startswith("/") else Path.home() / ".local" / "share") / "runner"


class Store:
    """The run store in one folder, 0700.

    Raises:
        StoreError: from every method: disk full, no permission, written by a newer runner.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or default_home()
        self._db: sqlite3.Connection | None = None
        self._pid = 0
        self._turn = threading.RLock()  # a notebook submits in one thread and waits in another
        _STORES.add(self)

    # -- runs ---------------------------------------------------------------------------------------------------

    def reserve(self, name: str | None) -> tuple[str, RunFolder]:
        """Make the folder of a new run: under `name`, or under a fresh name that nobody has.

        Raises:
            ConflictError: the name is taken.
        """
        self._connect()
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
        return bool(self._query("SELECT 1 FROM runs WHERE name = ?", name))

    def accept(
        self,
        name: str,
        *,
        step: Step,
        backend: str,
        image: str | None,
        image_name: str | None,
        experiment: str,
        title: str,
        description: str,
        tags: Mapping[str, str],
    ) -> RunRow:
        """Record the run. From here on it exists, and will end.

        Raises:
            ConflictError: the name is taken.
        """
        values = (name, experiment, title, description, json.dumps(dict(tags)), backend, image, image_name,
                  json.dumps(step.to_json()), Status.QUEUED.value, time.time())  # fmt: skip
        try:
            with self._transaction() as db:
                db.execute(
                    "INSERT INTO runs (name, experiment, title, description, tags, backend, image, image_name, step,"
                    " status, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    values,
                )
        except sqlite3.IntegrityError:
            raise ConflictError(f"there is a run named {name!r} already") from None
        return self.get(name)

    def get(self, name: str) -> RunRow:
        """The run of exactly that name.

        Raises:
            NotFoundError: there is none.
        """
        rows = self._query("SELECT * FROM runs WHERE name = ?", name)
        if not rows:
            raise NotFoundError(f"no run named {name!r}")
        return _run(rows[0])

    def resolve(self, reference: str) -> RunRow:
        """The run that a user means: its name, a unique beginning of it, or `@last`.

        Raises:
            NotFoundError: none, or more than one, fits.
        """
        if reference == "@last":
            rows = self._query("SELECT * FROM runs ORDER BY id DESC LIMIT 1")
            if not rows:
                raise NotFoundError("there are no runs yet", "start one: runner submit SCRIPT")
            return _run(rows[0])
        rows = self._query("SELECT * FROM runs WHERE name = ?", reference)
        if not rows and reference:
            # substr, not LIKE: `_` and `%` in what the user typed are just characters.
            rows = self._query(
                "SELECT * FROM runs WHERE substr(name, 1, ?) = ? ORDER BY id DESC LIMIT 6", len(reference), reference
            )
        if len(rows) == 1:
            return _run(rows[0])
        if rows:
            names = ", ".join(row["name"] for row in rows[:5])
            raise NotFoundError(f"{reference!r} is the beginning of more than one run: {names}", "type more of it")
        raise self._no_such(reference)

    def _no_such(self, reference: str) -> NotFoundError:
        import difflib

        recent = [row["name"] for row in self._query("SELECT name FROM runs ORDER BY id DESC LIMIT 500")]
        near = difflib.get_close_matches(reference, recent, n=1)
        hints = [f"did you mean {near[0]}?"] if near else []
        return NotFoundError(f"no run named {reference!r}", *hints, "see them: runner list")

    def list(
        self, *, status: Status | None = None, experiment: str | None = None, limit: int | None = None
    ) -> Sequence[RunRow]:
        """Runs, newest first."""
        where, values = ["1"], list[str | int]()
        if status is not None:
            where.append("status = ?")
            values.append(status.value)
        if experiment is not None:
            where.append("experiment = ?")
            values.append(experiment)
        values.append(-1 if limit is None else limit)
        return [
            _run(row)
            for row in self._query(
                f"SELECT * FROM runs WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?",  # noqa: S608 - fixed parts
                *values,
            )
        ]

    def live(self) -> Sequence[RunRow]:
        """Runs that have not ended, oldest first."""
        sql = f"SELECT * FROM runs WHERE {_LIVE_SQL} ORDER BY id"  # noqa: S608 - fixed parts
        return [_run(row) for row in self._query(sql, *_TERMINAL)]

    def experiments(self) -> Sequence[tuple[str, int, int, float]]:
        """(name, runs, runs that failed, time of the newest) of each experiment, newest first."""
        return [
            (row["experiment"], row["n"], row["failed"], row["newest"])
            for row in self._query(
                "SELECT experiment, count(*) AS n, sum(status = 'Failed') AS failed, max(created) AS newest"
                " FROM runs GROUP BY experiment ORDER BY newest DESC"
            )
        ]

    def set_status(self, run: RunRow, status: Status, *, note: str = "", started: float | None = None) -> None:
        """Record where a live run stands. A run that has ended is left as it is."""
        with self._transaction() as db:
            db.execute(
                "UPDATE runs SET status = ?, note = ?, started = coalesce(started, ?)"  # noqa: S608 - fixed parts
                f" WHERE id = ? AND {_LIVE_SQL}",
                (status.value, note, started, run.id, *_TERMINAL),
            )

    def end(self, run: RunRow, outcome: Outcome, *, attempts: int) -> None:
        """Record the end. The first one recorded stands."""
        with self._transaction() as db:
            db.execute(
                "UPDATE runs SET status = ?, outcome = ?, attempts = ?, finished = ?, note = ''"  # noqa: S608
                f" WHERE id = ? AND {_LIVE_SQL}",
                (outcome.status.value, json.dumps(outcome.to_json()), attempts, time.time(), run.id, *_TERMINAL),
            )

    def request_cancel(self, run: RunRow, by: str) -> bool:
        """Record that `by` wants the run to end; whether it was still live. The first request stands."""
        with self._transaction() as db:
            cursor = db.execute(
                "UPDATE runs SET cancel_by = coalesce(cancel_by, ?), canceled_at = coalesce(canceled_at, ?)"  # noqa: S608
                f" WHERE id = ? AND {_LIVE_SQL}",
                (by, time.time(), run.id, *_TERMINAL),
            )
            return cursor.rowcount == 1

    def cancel_by(self, run: RunRow) -> str | None:
        """Who asked for the run to be canceled, if anybody did. Cheap: a supervisor asks five times a second."""
        rows = self._query("SELECT cancel_by FROM runs WHERE id = ?", run.id)
        return rows[0]["cancel_by"] if rows else None

    def delete(self, run: RunRow) -> None:
        """Remove an ended run with all its bytes. The row goes first: a kill in between leaves only a stray folder.

        Raises:
            ConflictError: it has not ended.
        """
        if not run.status.terminal:
            raise ConflictError(f"{run.name} has not ended ({run.status})", f"first: runner cancel {run.name}")
        with self._transaction() as db:
            db.execute("DELETE FROM runs WHERE id = ?", (run.id,))
        remove_tree(self.folder(run.name).root)

    def strays(self, older_than_s: float = 3600) -> Sequence[Path]:
        """Folders of runs that were never accepted (a submit was killed), older than the given seconds."""
        known = {row["name"] for row in self._query("SELECT name FROM runs")}
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

    # -- attempts -----------------------------------------------------------------------------------------------

    def begin_attempt(self, run: RunRow, number: int) -> None:
        """Record that attempt `number` is about to be submitted."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO attempts (run, number, submitted) VALUES (?, ?, ?)",
                       (run.id, number, time.time()))  # fmt: skip
            db.execute("UPDATE runs SET attempts = ? WHERE id = ?", (number, run.id))

    def set_handle(self, run: RunRow, number: int, handle: str) -> None:
        """Record what the backend calls the attempt."""
        with self._transaction() as db:
            db.execute("UPDATE attempts SET handle = ? WHERE run = ? AND number = ?", (handle, run.id, number))

    def end_attempt(self, run: RunRow, number: int, outcome: Outcome) -> None:
        """Record how the attempt ended. Record, log and outputs must be safe before."""
        with self._transaction() as db:
            db.execute(
                "UPDATE attempts SET outcome = ? WHERE run = ? AND number = ?",
                (json.dumps(outcome.to_json()), run.id, number),
            )

    def attempts(self, run: RunRow) -> Sequence[AttemptRow]:
        """The attempts of a run, first to last."""
        return [
            AttemptRow(row["number"], row["handle"], row["submitted"], row["started"], _outcome(row["outcome"]))
            for row in self._query("SELECT * FROM attempts WHERE run = ? ORDER BY number", run.id)
        ]

    # -- facts --------------------------------------------------------------------------------------------------

    def fact(self, key: str) -> Any:
        """A remembered fact (of an image, of the store itself), or None. Facts can be lost without harm."""
        rows = self._query("SELECT value FROM facts WHERE key = ?", key)
        return json.loads(rows[0]["value"]) if rows else None

    def remember(self, key: str, value: object) -> None:
        """Remember a fact for `fact`."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?, ?)", (key, json.dumps(value)))

    @property
    def id(self) -> str:
        """A random name of this store, by which an engine's containers are told apart from another store's."""
        found = self.fact("store.id")
        if found is None:
            with self._transaction() as db:
                db.execute("INSERT OR IGNORE INTO facts (key, value) VALUES ('store.id', ?)",
                           (json.dumps(os.urandom(8).hex()),))  # fmt: skip
            found = self.fact("store.id")
        return str(found)

    # -- files --------------------------------------------------------------------------------------------------

    def folder(self, name: str) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.home / "runs" / name)

    @property
    def cache(self) -> Path:
        """A folder for things that can be made again."""
        return self.home / "cache"

    def lock(self, name: str) -> int | None:
        """Take the run's supervisor lock: an open file descriptor that holds it, or None when a supervisor lives.

        The lock goes with the descriptor through a fork, and is free the moment its last holder dies.
        """
        with self.errors():
            fd = os.open(self.folder(name).lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        return fd

    def close(self) -> None:
        """Close the connection; the next call opens a new one. For a fork, see `close_all`."""
        # First forgotten, then closed: Ctrl-C in between must not leave a closed connection to the next call.
        db, self._db = self._db, None
        if db is not None and self._pid == os.getpid():
            db.close()

    def __del__(self) -> None:
        """A connection refers to itself (its statement cache), so without this it would live on, unseen by `close_all`."""
        self.close()

    # -- SQLite -------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        if self._db is not None and self._pid == os.getpid():
            return self._db
        with self.errors():
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self.home / "runner.db"
            if not path.exists():
                path.touch(mode=0o600)
            db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA foreign_keys = ON")
            # A commit in WAL mode survives the death of any process with NORMAL; only a power cut can take the last one.
            db.execute("PRAGMA synchronous = NORMAL")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(_MIGRATIONS):
                db.close()
                raise StoreError(
                    f"the run store {self.home} was written by a newer runner (schema {version})",
                    "upgrade runner, or set RUNNER_HOME to another folder",
                )
            if version < len(_MIGRATIONS):
                self._migrate(db)
        self._db, self._pid = db, os.getpid()
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        """Bring the schema up to date; 50 processes may try at once, so under a lock of its own."""
        fd = os.open(self.home / "migrate.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            db.execute("PRAGMA journal_mode = WAL")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            for number, script in enumerate(_MIGRATIONS[version:], version + 1):
                db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
        finally:
            os.close(fd)

    def _query(self, sql: str, *values: str | int) -> Sequence[sqlite3.Row]:
        with self._turn, self.errors():
            return self._connect().execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._turn, self.errors():
            db = self._connect()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Whatever goes wrong with files and tables of the store inside is a StoreError that says what to do."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise StoreError(f"the run store {self.home} cannot be used: {error}", *_fix(str(error))) from error
        except OSError as error:
            raise StoreError(
                f"the run store {self.home} cannot be used: {error.strerror or error}", *_fix(error.strerror or "")
            ) from error


def _fix(text: str) -> tuple[str, ...]:
    lower = text.lower()
    if "full" in lower or "no space" in lower:
        return ("free some space (runner prune removes old runs), or set RUNNER_HOME to a folder with room",)
    if "malformed" in lower or "not a database" in lower:
        return ("the file is damaged: move runner.db away to start afresh; the runs' folders stay as they are",)
    return ("set RUNNER_HOME to a folder that you can write to",)


def _run(row: sqlite3.Row) -> RunRow:
    values = dict(row)
    values["tags"] = json.loads(values["tags"])
    values["step"] = Step.from_json(json.loads(values["step"]))
    values["status"] = Status(values["status"])
    values["outcome"] = _outcome(values["outcome"])
    return RunRow(**values)


def _outcome(text: str | None) -> Outcome | None:
    return None if text is None else Outcome.from_json(json.loads(text))


def iso(when: float | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, or None."""
    if when is None:
        return None
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def remove_tree(root: Path) -> None:
    """Remove a folder with all that a script may have left in it, folders without permissions too. Missing is a no-op."""
    try:
        shutil.rmtree(root)
    except OSError:
        open_up(root)
        shutil.rmtree(root, ignore_errors=True)


def open_up(root: Path) -> None:
    """Give the owner access to a folder and everything below it; links are not followed."""
    with suppress(OSError):
        if not root.is_symlink():
            root.chmod(root.stat().st_mode | 0o700)
        for folder, names, files in os.walk(root):
            for name in (*names, *files):
                path = Path(folder, name)
                mode = path.lstat().st_mode
                wanted = 0o700 if stat.S_ISDIR(mode) else 0o400
                if mode & wanted != wanted and not stat.S_ISLNK(mode):
                    path.chmod(stat.S_IMODE(mode) | wanted)


def write_aside(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that readers see the old or the new content, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
