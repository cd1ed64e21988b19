"""What several contract tests look at: runs through a worker process, processes by what they hold open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import NotFoundError
from runner.store import Store
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runner.store import RunRow

ROOT = Path(__file__).resolve().parents[2]
Row = dict[str, Any]


class Worker:
    """A process that submits and waits through the Python API, on one backend."""

    def __init__(self, backend: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("worker.py")), backend],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def ask(self, **asked: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the worker has died"
        said = json.loads(line)
        if "error" in said:
            raise AssertionError(said["error"])
        return said["ok"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@dataclass(frozen=True)
class Api:
    """Runs in one store on one backend. `where`: the options of `submit` that choose it."""

    worker: Worker
    home: Path
    where: dict[str, str]

    def submit(
        self, script: Path, *args: str, cancel: bool = False, environ: dict[str, str] | None = None, **options: object
    ) -> str:
        """Submit; the run's name. cancel: ask for its end in the same breath."""
        name = self.worker.ask(
            op="submit", home=str(self.home), script=str(script), args=args, cancel=cancel, environ=environ or {},
            options={**self.where, **options},
        )  # fmt: skip
        return str(name)

    def ended(self, name: str, timeout: float = 120) -> Row:
        """Wait for the end; the row as `--json` shows it."""
        row: Row = self.worker.ask(op="wait", home=str(self.home), name=name, timeout=timeout * PATIENCE)
        return row

    def row(self, name: str) -> Row:
        row: Row = self.worker.ask(op="row", home=str(self.home), name=name)
        return row

    def run(self, script: Path, *args: str, **options: Any) -> Row:
        """Submit and wait for the end."""
        return self.ended(self.submit(script, *args, **options))

    def all(self, script: Path, arguments: Iterable[str], *, at_once: int = 2, **options: Any) -> list[Row]:
        """One run for each argument, a few at a time; the rows in the order of the arguments."""
        rows: list[Row] = []
        names: list[str] = []
        for argument in arguments:
            names.append(self.submit(script, argument, **options))
            if len(names) - len(rows) >= at_once:
                rows.append(self.ended(names[len(rows)]))
        return rows + [self.ended(name) for name in names[len(rows) :]]

    def attempt(self, name: str, number: int = 1) -> Path:
        """The folder of an attempt."""
        return self.home / "runs" / name / "attempts" / str(number)

    def artifacts(self, name: str, number: int = 1) -> Path:
        return self.attempt(name, number) / "artifacts"

    def log(self, name: str, number: int = 1) -> bytes:
        """The log's bytes; empty while there is none."""
        path = self.attempt(name, number) / "log"
        return path.read_bytes() if path.exists() else b""


@dataclass(frozen=True)
class Gate:
    """Holds a script until the test has seen what it wants to see: by a file in an input that the script sees as it is
    here. On a backend elsewhere inputs are copies, so there the script goes on by itself after some seconds.

    inputs: what to submit with. text: lines of Python that wait; they need nothing imported.
    """

    folder: Path
    remote: bool

    @property
    def inputs(self) -> dict[str, str]:
        return {} if self.remote else {"gate": str(self.folder)}

    @property
    def text(self) -> str:
        return (
            "import os as _os, time as _time\n"
            "_folder, _end = _os.environ.get('RUNNER_INPUT_GATE'), _time.monotonic() + 6\n"
            "while not _os.path.exists(_folder + '/go') if _folder else _time.monotonic() < _end: _time.sleep(0.01)\n"
        )

    @property
    def options(self) -> list[str]:
        """For the command line."""
        return [part for name, path in self.inputs.items() for part in ("--input", f"{name}={path}")]

    def open(self) -> None:
        (self.folder / "go").touch()


def holders(path: Path) -> list[int]:
    """Processes that have the file open."""
    found = []
    for pid in pids():
        with suppress(OSError):
            if any(_leads_to(entry, path) for entry in Path(f"/proc/{pid}/fd").iterdir()):
                found.append(pid)
    return found


def _leads_to(link: Path, path: Path) -> bool:
    try:
        return link.readlink() == path
    except OSError:  # closed meanwhile
        return False


def supervisors(home: Path, name: str) -> list[int]:
    """The processes that hold the run's lock: its supervisor, or whoever is about to start one."""
    return holders(home / "runs" / name / "lock")


def pids() -> Iterator[int]:
    """All processes of this machine."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def running_with(text: str) -> list[int]:
    """Living processes (not zombies) whose command line or environment holds the text."""
    found = []
    for pid in pids():
        with suppress(OSError):
            folder = Path("/proc", str(pid))
            if text.encode() in (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes():
                state = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found.append(pid)
    return found


def stored(home: Path, name: str) -> RunRow | None:
    """The run as the store holds it now, or None. Looks only: a command would start a supervisor."""
    store = Store(home)
    try:
        return store.get(name)
    except NotFoundError:
        return None
    finally:
        store.close()


def steps(home: Path, name: str) -> dict[str, RunRow]:
    """The steps of a pipeline (and the trials of its sweeps) as the store holds them now, by their names in it."""
    store = Store(home)
    try:
        return {str(row.path): row for row in store.children(store.get(name))}
    finally:
        store.close()


def no_secrets_left(home: Path) -> bool:
    """Whether the folder of secrets holds nothing of this store's runs."""
    root = Path(f"/dev/shm/runner-{os.getuid()}")
    store = Store(home)
    own = store.id
    store.close()
    return not root.exists() or not [entry for entry in root.iterdir() if entry.name.startswith(own)]
