"""One run as Python code has it: looked at, waited for, canceled, downloaded. `from runner import Run` shows it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runner import artifacts, logs, steplogs
from runner.errors import CapabilityError, ConflictError, NotFoundError, UsageError
from runner.spec import values
from runner.store import Store, aside, output_folder
from runner.supervisor import ensure
from runner.sweeps.summary import logged, sweep_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.backends.base import PlanBackend
    from runner.model import Outcome, Status
    from runner.store import RunRow
    from runner.tracking import Point

_POLL_S = 0.05


class Run:
    """One execution of a script. Every property is read afresh from the run store."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.name = name

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.status.value})"

    @property
    def row(self) -> RunRow:
        """All that the store holds of it."""
        return self._store.get(self.name)

    @property
    def status(self) -> Status:
        """Where it stands now."""
        return self.row.status

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it has not."""
        return self.row.outcome

    def to_json(self) -> dict[str, Any]:
        """The documented shape of a run; see docs/json.md."""
        return self.row.to_json()

    def wait(self, timeout: float | None = None) -> Outcome:
        """Wait for the end. Gives the run a supervisor where its own has died.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds. It goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        looked = 0.0
        while True:
            row = self.row
            if row.outcome is not None:
                return row.outcome
            if time.monotonic() - looked > 1:
                ensure(self._store, row)
                looked = time.monotonic()
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} has not ended after {timeout:g} s ({row.status})")
            time.sleep(_POLL_S)

    def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        attempt: int | None = None,
        step: str | None = None,
    ) -> Iterator[bytes]:
        """The script's output, byte for byte; of a pipeline the lines of all its steps, each with `[step] ` before it.

        Args:
            follow: go on until the run has ended.
            tail: only the last so many lines. since: only what was written after that time (seconds since the epoch).
            attempt: of that attempt (from 1); else of all when following, of the last when not.
            step: of that step of a pipeline alone.
        """
        row = self.row
        ensure(self._store, row)
        if step is not None:
            yield from self.step(step).logs(follow=follow, tail=tail, since=since, attempt=attempt)
            return
        if row.composed:
            if attempt is not None:
                raise UsageError(f"{self.name} is a pipeline: its steps have attempts", "name one with --step")
            if follow:
                yield from steplogs.Follower(self._store, row, tail=tail, since=since)
            else:
                yield from steplogs.read(self._store, row, tail=tail, since=since)
            return
        if attempt is not None and not 1 <= attempt <= max(1, row.attempts):
            raise NotFoundError(f"{self.name} has no attempt {attempt}", f"it has {row.attempts}")
        if follow:
            yield from logs.Follower(self._store, row, attempt=attempt, tail=tail, since=since)
            return
        folder = self._store.folder(self.name).attempt(attempt or max(1, row.attempts))
        yield from logs.read(folder.log, tail=tail, since=since, index=folder.log_index)

    def step(self, path: str) -> Run:
        """One step of a pipeline, which is a run too.

        Raises:
            NotFoundError: it has none of that name.
        """
        return Run(self._store, self._store.child(self.row, path).name)

    def steps(self) -> Sequence[Run]:
        """The steps of a pipeline in the order of its plan, then the trials of its sweeps; of a script none."""
        return [Run(self._store, row.name) for row in self._store.children(self.row)]

    def cancel(self, by: str | None = None) -> bool:
        """Ask it to end: SIGTERM, and SIGKILL after the grace. Returns at once; False if it had ended already.

        Raises:
            CapabilityError: it is a step of a whole that a service elsewhere runs, which cancels nothing less.
        """
        row = self.row
        if row.parent is not None and self._store.folder(row.parent).read_target() is not None:
            raise CapabilityError(
                f"{row.name} is a step of {row.parent}, and {row.backend} cancels that as a whole only",
                f"runner cancel {row.parent}",
            )
        asked = self._store.request_cancel(row, by or os.environ.get("USER") or "user")
        if asked:
            ensure(self._store, row)
        return asked

    def outputs(self) -> Sequence[tuple[str, int]]:
        """(path, bytes) of everything that the last attempt left; of a pipeline, of its own outputs."""
        row = self.row
        if (kept := self._kept(row)) is not None:
            return artifacts.listing(kept)
        return [
            (f"{name}/{path}", size)
            for name, folder in self._pipeline_outputs(row).items()
            for path, size in artifacts.listing(folder)
        ]

    def metrics(self) -> Mapping[str, Sequence[Point]]:
        """What the last attempt logged by MLflow or in R: metric → its points, each with value, step and time."""
        return logged(self._store, self.row).main.metrics

    def download(self, to: str | Path, output: str | None = None) -> Sequence[str]:
        """Copy what the script left into the folder `to`: everything, or one named output. The paths written.

        Raises:
            ConflictError: the run has not ended.
            NotFoundError: no such output.
        """
        row = self.row
        if not row.status.terminal:
            raise ConflictError(f"{self.name} has not ended ({row.status})", f"first: runner wait {self.name}")
        to = Path(to)
        if to.exists() and not to.is_dir():
            raise ConflictError(f"{to} is not a folder", "choose another one with --to")
        try:
            self._bring_left(row)
            return self._copy_out(row, to, output)
        except OSError as error:
            raise ConflictError(
                f"cannot write {error.filename or to}: {error.strerror or error}", "choose another folder with --to"
            ) from error

    def _bring_left(self, row: RunRow) -> None:
        """First bring what was left elsewhere, since it is large; it stays in the run's folder then."""
        from runner.backends import open_backend
        from runner.backends.base import LEFT
        from runner.composer import task_key
        from runner.snapshot import COLLECTED

        kept, root = self._kept(row), self._store.root_of(row)
        target = self._store.folder(root.name).read_target()
        left = row.outcome is not None and any(LEFT in warning for warning in row.outcome.warnings)
        if kept is None or target is None or not left:
            return
        places = {name: kept / output_folder(name) for name in row.step.outputs}
        places |= {name: kept / name for name in COLLECTED}
        with aside(kept.parent) as folder:
            names = [
                name for name, place in places.items() if not artifacts.plain_folder(place) or not any(place.iterdir())
            ]
            if not names:
                return
            backend = cast("PlanBackend", open_backend(root.backend, self._store, target))
            try:
                key = task_key(self._store.id, root.name, max(1, root.attempts))
                handle = backend.handle_of(key, row.path)
                for name in backend.download(handle, names, folder)[0]:
                    _moved(folder / name, places[name])
            finally:
                backend.close()

    def _copy_out(self, row: RunRow, to: Path, output: str | None) -> Sequence[str]:
        if output is not None:
            return artifacts.copy_out(self._output(row, values.identifier(output, "--output")), to)
        if (kept := self._kept(row)) is not None:
            return artifacts.copy_out(kept, to)
        return [
            f"{name}/{path}"
            for name, folder in self._pipeline_outputs(row).items()
            for path in artifacts.copy_out(folder, to / name)
        ]

    def _output(self, row: RunRow, name: str) -> Path:
        if (kept := self._kept(row)) is None:
            found = self._pipeline_outputs(row)
        else:
            found = {path.name: path for path in kept.iterdir()} if kept.is_dir() else {}
            found |= {
                each: kept / output_folder(each) for each in row.step.outputs if (kept / output_folder(each)).is_dir()
            }
        if name not in found or not found[name].is_dir():
            have = ", ".join(sorted(each for each, path in found.items() if path.is_dir())) or "none"
            raise NotFoundError(f"{self.name} has no output {name!r}", f"it has: {have}")
        return found[name]

    def _pipeline_outputs(self, row: RunRow) -> dict[str, Path]:
        """The folder of each output of a pipeline: it lies with the step that wrote it."""
        found = {}
        for name, up in self._store.plan(row).outputs.items():
            step = self._store.child(row, up.step)
            found[name] = self._store.folder(step.name).attempt(max(1, step.attempts)).output(up.output)
        return found

    def delete(self) -> None:
        """Remove the run with its log and outputs.

        Raises:
            ConflictError: it has not ended.
        """
        self._store.delete(self.row)

    def _kept(self, row: RunRow) -> Path | None:
        """The folder of all that it left; a sweep's is that of its only step. None: a pipeline's lies with its steps."""
        if row.kind == "pipeline":
            return None
        row = sweep_row(self._store, row) or row
        return self._store.folder(row.name).attempt(max(1, row.attempts)).artifacts


def get(reference: str, home: Path | None = None) -> Run:
    """The run of that name, unique beginning of a name, or `@last`.

    Raises:
        NotFoundError: none, or more than one.
    """
    store = Store(home)
    return Run(store, store.resolve(reference).name)


def _moved(source: Path, place: Path) -> None:
    """All of a folder at once, in the place of one that is empty: part of an output would be taken for all of it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    source.replace(place)
