"""Which steps of a plan wait, are ready, run or have ended. Pure; every call costs what it changes, not what there is."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from runner import verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.model import Outcome, Reason
    from runner.plan import PlanStep


class Progress:
    """The state of every step. Ready ones are ordered as in the plan, for each compute by itself."""

    def __init__(self, steps: Sequence[PlanStep]) -> None:
        self.left = len(steps)
        """Steps that have not ended."""
        self._steps = steps
        self._number = {each.name: number for number, each in enumerate(steps)}
        self._unmet = [len(each.needs) for each in steps]
        self._dependants: dict[str, list[int]] = {}
        self._waiting = bytearray(b"\1" * len(steps))
        self._reasons: dict[str, Reason] = {}
        self._heaps: dict[str | None, list[int]] = {}
        for number, each in enumerate(steps):
            for need in each.needs:
                self._dependants.setdefault(need, []).append(number)
            if not each.needs:
                self._push(number)

    @property
    def ready(self) -> bool:
        """Whether a step could be started if there were room."""
        return any(True for _ in self.computes())

    def computes(self) -> Iterator[str | None]:
        """The computes that have a ready step."""
        for compute, heap in list(self._heaps.items()):
            while heap and not self._waiting[heap[0]]:  # canceled or skipped meanwhile
                heapq.heappop(heap)
            if heap:
                yield compute

    def first(self, compute: str | None) -> PlanStep:
        """The ready step of a compute (of `computes`) that comes first in the plan."""
        return self._steps[self._heaps[compute][0]]

    def waits(self, name: str) -> bool:
        """Whether the step has neither been started nor ended."""
        return bool(self._waiting[self._number[name]])

    def met(self, name: str) -> bool:
        """Whether all that the step needs has completed."""
        return not self._unmet[self._number[name]]

    def start(self, name: str) -> None:
        """The step is started."""
        self._waiting[self._number[name]] = 0

    def end(self, name: str, reason: Reason) -> None:
        """The step has ended."""
        self._waiting[self._number[name]] = 0
        self._reasons[name] = reason
        self.left -= 1

    def release(self, name: str) -> None:
        """The step completed: those that waited for nothing else are ready."""
        for number in self._dependants.get(name, ()):
            self._unmet[number] -= 1
            if not self._unmet[number]:
                self._push(number)

    def skip_after(self, name: str) -> list[tuple[str, Outcome]]:
        """The step did not complete: all that needs it, directly or not, ends with it."""
        ends = []
        causes = [name]
        while causes:
            cause = causes.pop()
            for number in self._dependants.get(cause, ()):
                if self._waiting[number]:
                    each = self._steps[number]
                    outcome = verdict.skipped(cause, self._reasons[cause])
                    self.end(each.name, outcome.reason)
                    ends.append((each.name, outcome))
                    causes.append(each.name)
        return ends

    def end_rest(self, outcome: Outcome) -> list[tuple[str, Outcome]]:
        """End all steps that wait: those whose needs completed by `outcome`, and the others by what they need."""
        ends = []
        for number, each in enumerate(self._steps):
            if self._waiting[number]:
                self.end(each.name, outcome.reason)
                ends += [(each.name, outcome), *self.skip_after(each.name)]
        return ends

    def _push(self, number: int) -> None:
        heapq.heappush(self._heaps.setdefault(self._steps[number].compute, []), number)
