"""What all drivers of one supervisor share, and what they ask of others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from runner.engine.trash import Trash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.backends.base import Backend
    from runner.engine.publish import Copying, Publisher
    from runner.model import Outcome, Step
    from runner.store import RunRow, Store

TICK_S = 0.2
"""How long a request to cancel may go unseen. Ends and log lines do not wait for it."""

STOPPED_BY = "pipeline"
"""Who cancels the steps that still run when another has failed."""


class Driver(Protocol):
    """Brings one run, or one part of it, to its end. It never blocks for longer than one call of the backend."""

    outcome: Outcome | None

    def advance(self) -> float:
        """Do what can be done now; seconds until there is something to do again at the latest."""

    def cancel(self, by: str) -> None:
        """Ask for the end; the first request stands."""


class Cancels:
    """Who has asked for what to be canceled, by one query for a run and all its steps."""

    def __init__(self, store: Store, root: RunRow) -> None:
        self._store, self._root = store, root
        self.by: Mapping[str, str] = {}
        """Path of the step ("" is the run itself) → who."""

    def refresh(self) -> None:
        """Ask the store."""
        self.by = self._store.cancels(self._root)

    def of(self, run: RunRow) -> str | None:
        """Who wants this run or the whole of which it is a part to end, as far as is known."""
        return self.by.get(run.path or "") or self.by.get("")


@dataclass(slots=True)
class Context:
    """One supervisor's store, backend, publisher, and secrets (None: lost with the process that held them)."""

    store: Store
    backend: Backend
    root: RunRow
    secrets: Mapping[str, str] | None
    publisher: Publisher
    cancels: Cancels = field(init=False)
    trash: Trash = field(default_factory=Trash)

    def __post_init__(self) -> None:
        self.cancels = Cancels(self.store, self.root)

    def secrets_of(self, step: Step) -> Mapping[str, str] | None:
        """The secrets that a step names; None when they are known no more."""
        if not step.secrets:
            return {}
        if self.secrets is None or not set(step.secrets) <= set(self.secrets):
            return None
        return {name: self.secrets[name] for name in step.secrets}

    def publish(self, run: RunRow, step: Step, number: int) -> Copying:
        """Begin to copy what attempt `number` of a step left to where it was asked for."""
        kept = self.store.folder(run.name).attempt(number)
        sources = {name: kept.output(name) / (name if name in step.files else "") for name in step.publish}
        targets = {name: target.replace("${{name}}", run.name) for name, target in step.publish.items()}
        return self.publisher.start(sources, targets, step.limits.grace_s)
