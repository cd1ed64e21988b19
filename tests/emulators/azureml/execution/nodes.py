"""The nodes of each compute: who runs holds one, the others are queued."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from tests.emulators.azureml.execution.signals import Signals
from tests.emulators.azureml.state import State

_SERVERLESS = 16
_POLL_S = 0.25


class Nodes:
    """How many a compute has is read anew each time, so that scaling one counts at once."""

    def __init__(self, state: State) -> None:
        self._state, self._changed = state, Condition()
        self._taken: Counter[str | None] = Counter()
        self._queues: dict[str | None, deque[Signals]] = {}

    @contextmanager
    def held(self, compute: str | None, count: int, signals: Signals, *, at_once: bool = False) -> Iterator[bool]:
        """Whether they were had: not if something was asked of the run while it waited. at_once: it runs there already."""
        had = at_once or self._had(compute, count, signals)
        if at_once:
            self._add(compute, count)
        try:
            yield had
        finally:
            if had:
                self._add(compute, -count)

    def _had(self, compute: str | None, count: int, signals: Signals) -> bool:
        """In the order of asking, one queue for each compute."""
        with self._changed:
            queue = self._queues.setdefault(compute, deque())
            queue.append(signals)
            while signals.asked not in ("cancel", "shutdown"):
                if queue[0] is signals and self._fits(compute, count):
                    self._taken[compute] += count
                    queue.popleft()
                    self._changed.notify_all()
                    return True
                self._changed.wait(_POLL_S)
            queue.remove(signals)
            self._changed.notify_all()
            return False

    def _fits(self, compute: str | None, count: int) -> bool:
        """A job that wants more nodes than there are would wait for ever; it gets all of them."""
        size = self.size(compute)
        return self._taken[compute] + min(count, size) <= size

    def _add(self, compute: str | None, count: int) -> None:
        with self._changed:
            self._taken[compute] += count
            self._changed.notify_all()

    def size(self, compute: str | None) -> int:
        doc = self._state.get("compute", compute) if compute else None
        if doc is None:
            return _SERVERLESS
        if doc["properties"].get("computeType") == "ComputeInstance":
            return 1
        scale = (doc["properties"].get("properties") or {}).get("scaleSettings") or {}
        return int(scale.get("maxNodeCount") or 1)
