"""The connection to SQLite: opened late, made again after a fork, every write one transaction, every fault a StoreError."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import StoreError
from runner.store.schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BUSY_S = 60
"""How long a writer waits for others. 50 submits at once on two cores need about one second."""

Value = str | int | float | None

_STORES: weakref.WeakSet[Database] = weakref.WeakSet()


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


class Database:
    """The tables of the store in one folder, 0700.

    Raises:
        StoreError: from every method: disk full, no permission, written by a newer runner.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or default_home()
        self._db: sqlite3.Connection | None = None
        self._pid = 0
        self._turn = threading.RLock()  # a notebook submits in one thread and waits in another
        self._later: dict[object, tuple[str, Sequence[Value]]] = {}
        _STORES.add(self)

    def close(self) -> None:
        """Close the connection; the next call opens a new one. For a fork, see `close_all`."""
        # First forgotten, then closed: Ctrl-C in between must not leave a closed connection to the next call.
        db, self._db = self._db, None
        if db is not None and self._pid == os.getpid():
            db.close()

    def __del__(self) -> None:
        """A connection refers to itself (its statement cache), so without this it would live on, unseen by `close_all`."""
        self.close()

    def connect(self) -> sqlite3.Connection:
        """The open connection of this process."""
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
            if version > len(MIGRATIONS):
                db.close()
                raise StoreError(
                    f"the run store {self.home} was written by a newer runner (schema {version})",
                    "upgrade runner, or set RUNNER_HOME to another folder",
                )
            if version < len(MIGRATIONS):
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
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
        finally:
            os.close(fd)

    def query(self, sql: str, *values: Value) -> Sequence[sqlite3.Row]:
        """The rows of a SELECT."""
        with self._turn, self.errors():
            return self.connect().execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside, and all that was put off by `later` before it, or nothing."""
        with self._turn, self.errors():
            db = self.connect()
            db.execute("BEGIN IMMEDIATE")
            try:
                for sql, values in self._later.values():
                    db.execute(sql, values)
                yield db
                db.execute("COMMIT")
                self._later.clear()
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def later(self, key: object, sql: str, *values: Value) -> None:
        """Put a write off to the next transaction; a later one of the same key takes its place."""
        self._later.pop(key, None)  # the order of writes is that of the calls
        self._later[key] = (sql, values)

    def flush(self) -> None:
        """Write what was put off."""
        if self._later:
            with self.transaction():
                pass

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
