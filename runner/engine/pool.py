"""What may run at once: processors, memory and instances of each compute."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.plan import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.model import Limits

_NONE = Pool()


@dataclass(slots=True)
class _Use:
    cpus: float = 0.0
    memory: int = 0
    steps: int = 0


class Pools:
    """Accounts of what the running steps may use. A step without limits counts as one processor and no memory."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        self._used: dict[str | None, _Use] = {}
        self._cpus = float(len(os.sched_getaffinity(0)))
        self._memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def take(self, compute: str | None, limits: Limits, *, force: bool = False) -> bool:
        """Enter a step if there is room. One that is larger than the whole gets it once nothing else runs there.

        Args:
            force: the step runs already.
        """
        used = self._used.setdefault(compute, _Use())
        cpus, memory = _needs(limits)
        if used.steps and not force and not self._fits(compute, used, cpus, memory):
            return False
        used.cpus, used.memory, used.steps = used.cpus + cpus, used.memory + memory, used.steps + 1
        return True

    def free(self, compute: str | None, limits: Limits) -> None:
        """The step that `take` entered has ended."""
        used = self._used[compute]
        cpus, memory = _needs(limits)
        used.cpus, used.memory, used.steps = used.cpus - cpus, used.memory - memory, used.steps - 1

    def _fits(self, compute: str | None, used: _Use, cpus: float, memory: int) -> bool:
        pool = _NONE if compute is None else self._pools.get(compute, _NONE)
        most = self._cpus if pool.cpus is None else pool.cpus
        room = self._memory if pool.memory_bytes is None else pool.memory_bytes
        if pool.instances is not None and used.steps >= pool.instances:
            return False
        # A billionth: tenths of processors do not add up exactly.
        return used.cpus + cpus <= most + 1e-9 and used.memory + memory <= room


def _needs(limits: Limits) -> tuple[float, int]:
    return (1.0 if limits.cpus is None else limits.cpus), limits.memory_bytes or 0
