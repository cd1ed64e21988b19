"""What a step costs runner itself: plans of steps that run nothing, on a backend in memory.

python -m tests.benchmarks.scheduling_noop [STEPS ...]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from runner.engine.loop import Engine
from runner.model import Step
from runner.plan import Plan, PlanStep, Upstream
from runner.store import Store
from tests.plans import MemoryBackend, accept, published_by_nobody


def plan_of(count: int) -> Plan:
    """Chains of ten steps, each of which begins at a step of another."""
    return Plan(
        tuple(
            PlanStep(
                f"s{number}",
                Step(f"s{number}", ("true",), outputs={"out": None}),
                {"before": Upstream(f"s{number - 1 if number % 10 else max(0, number - 7)}", "out")} if number else {},
            )
            for number in range(count)
        )
    )


def measure(count: int) -> str:
    """One line: steps, ms to accept them, µs a step to drive them (wall and processor), MiB at most."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "home")
        plan = plan_of(count)
        began = time.perf_counter()
        run, _ = accept(store, plan, backend="memory")
        accepted = time.perf_counter()
        used = time.process_time()
        outcome = Engine(store, run, MemoryBackend(), {}, published_by_nobody).drive()
        took, used = time.perf_counter() - accepted, time.process_time() - used
        store.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return (
        f"{count:>6} steps  accept {(accepted - began) * 1e3:6.0f} ms  {took / count * 1e6:6.0f} µs/step"
        f"  processor {used / count * 1e6:6.0f} µs/step  {peak} MiB  {outcome.reason}"
    )


if __name__ == "__main__":
    for given in sys.argv[1:] or ("100", "1000", "10000"):
        print(measure(int(given)), flush=True)
