"""What the engine itself costs a step: pipelines of no-op steps, composed, recorded and driven on a backend in memory.

Each size runs in a process of its own, so that its peak memory is its own: `python -m tests.benchmarks.scheduling STEPS`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.pipelines import pipeline
from tests.benchmarks.rows import Row

if TYPE_CHECKING:
    from runner.submission.accepting import Prepared

NOTE = (
    "No-op steps in a chain, on a backend in memory: from the YAML file to the last step's recorded "
    "end. Microseconds a step and KiB a step, each size in a process of its own; the rival is the same with 100 steps."
)
SIZES = (100, 1000, 10_000)


def measure(steps: int, folder: Path) -> dict[str, float]:
    """Seconds of each part, and bytes of peak memory before and after."""
    from runner.engine.loop import Engine
    from runner.store import Store
    from runner.submission import job
    from tests.plans import MemoryBackend, accept, published_by_nobody

    path = pipeline(folder / "job.yml", steps, chain=True)
    store = Store(folder / "home")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    loaded, config = job.loaded(path, (), store, os.environ)
    prepared: Prepared = job.prepare(job.JobRequest(loaded, config, backend="process"), store, lambda *_: None)
    composed = time.perf_counter()
    assert prepared.plan is not None
    row, lock = accept(store, prepared.plan)
    accepted = time.perf_counter()
    outcome = Engine(store, row, MemoryBackend(), {}, published_by_nobody).drive()
    ended = time.perf_counter()
    os.close(lock)
    assert outcome.process_exit == 0, outcome
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "compose": composed - began, "accept": accepted - composed, "drive": ended - accepted, "before": before,
        "after": after,
    }  # fmt: skip


def rows() -> list[Row]:
    """Time and memory a step of each size against the smallest."""
    found = {steps: _apart(steps) for steps in SIZES}
    small = SIZES[0]
    made = []
    for steps in SIZES[1:]:
        ours, base = (_total(found[size]) * 1e6 / size for size in (steps, small))
        made.append(Row(f"compose and schedule {steps:,} steps, a step", ours, "100 steps", base, "≤ 1.2",
                        ours / base <= 1.2, unit="µs"))  # fmt: skip
    mib, base = ((found[size]["after"] - found[size]["before"]) / size for size in (SIZES[-1], SIZES[1]))
    made.append(
        Row(f"memory of {SIZES[-1]:,} steps, a step", mib, "1,000 steps", base, "≤ 1.2", mib / base <= 1.2, unit="KiB")
    )
    return made


def _total(measured: dict[str, float]) -> float:
    return measured["compose"] + measured["accept"] + measured["drive"]


def _apart(steps: int) -> dict[str, float]:
    argv = [sys.executable, "-m", "tests.benchmarks.scheduling", str(steps)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=900)
    measured: dict[str, float] = json.loads(done.stdout)
    print(steps, measured, file=sys.stderr)
    return measured


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        print(json.dumps(measure(int(sys.argv[1]), Path(name))))
