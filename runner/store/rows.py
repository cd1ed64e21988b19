"""What the store's tables hold, as frozen dataclasses."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runner.model import Outcome, Status, Step

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as the store holds it. Times are seconds since the epoch.

    kind: script, pipeline, sweep (the runs that users start), step, trial (parts of these). path: of a part its name in
    `parent`, whose name begins its own. reused_from: the run whose outputs were taken instead of running this one.
    """

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
    parent: str | None = None
    kind: str = "script"
    path: str | None = None
    reused_from: str | None = None

    @property
    def composed(self) -> bool:
        """Whether it is made of other runs."""
        return self.kind in {"pipeline", "sweep"}

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
            "argv": [] if self.composed else list(self.step.argv),
            "kind": self.kind,
            "parent": self.parent,
            "step": self.path,
            "reused_from": self.reused_from,
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step of a pipeline has come, without what it consists of: cheap to read, of thousands too."""

    path: str
    name: str
    status: Status
    attempts: int
    trial: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt of a run; `number` counts from 1. `outcome` is set once record, log and outputs are safe."""

    number: int
    handle: str | None
    submitted: float
    started: float | None
    outcome: Outcome | None


COLUMNS = (
    "id, name, experiment, title, description, tags, backend, image, image_name, step, status, note, outcome, attempts,"
    " created, started, finished, cancel_by, canceled_at, kind, path, reused_from"
)
"""Of the table of runs, what makes a `RunRow`."""


def run_row(row: sqlite3.Row) -> RunRow:
    """A row of `COLUMNS`."""
    values = dict(row)
    values["tags"] = json.loads(values["tags"])
    values["step"] = Step.from_json(json.loads(values["step"]))
    values["status"] = Status(values["status"])
    values["outcome"] = outcome(values["outcome"])
    if (path := values["path"]) is not None:
        values["parent"] = values["name"][: -len(path) - 1]
    return RunRow(**values)


def outcome(text: str | None) -> Outcome | None:
    """An outcome as it is stored."""
    return None if text is None else Outcome.from_json(json.loads(text))


def dumped(value: object) -> str:
    """Dataclasses as JSON: what `asdict` gives, and four times as fast, which thousands of steps feel."""
    return json.dumps(value, default=_members)


def _members(value: object) -> dict[str, object]:
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} is no plain data")
    return {each.name: getattr(value, each.name) for each in fields(value)}


def iso(when: float | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, or None."""
    if when is None:
        return None
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
