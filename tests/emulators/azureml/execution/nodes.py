"""The nodes of each compute: who runs holds one, the others are queued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from tests.emulators.azureml.execution.signals import Signals
from tests.emulators.azureml.state import State

_SERVERLESS = 16
_POLL_S = 0.05


class Nodes:
    """How many a compute has is read anew each time, so that scaling one counts at once."""

    def __init__(self, state: State) -> None:
        self._state, self._lock = state, Lock()
        self._taken: Counter[str | None] = Counter()

    @contextmanager
    def held(self, compute: str | None, count: int, signals: Signals, *, at_once: bool = False) -> Iterator[bool]:
        """Whether they were had: not if something was asked of the run while it waited. at_once: it runs there already."""
        while not self._take(compute, count, at_once=at_once):
            if signals.wait(_POLL_S) in ("cancel", "shutdown"):
                yield False
                return
        try:
            yield True
        finally:
            with self._lock:
                self._taken[compute] -= count

    def _take(self, compute: str | None, count: int, *, at_once: bool) -> bool:
        with self._lock:
            # A job that wants more nodes than there are would wait for ever; it gets all of them.
            if at_once or self._taken[compute] + min(count, self.size(compute)) <= self.size(compute):
                self._taken[compute] += count
                return True
            return False

    def size(self, compute: str | None) -> int:
        doc = self._state.get("compute", compute) if compute else None
        if doc is None:
            return _SERVERLESS
        if doc["properties"].get("computeType") == "ComputeInstance":
            return 1
        scale = (doc["properties"].get("properties") or {}).get("scaleSettings") or {}
        return int(scale.get("maxNodeCount") or 1)
