"""What reading large files costs: a renv.lock with whole DESCRIPTIONs, and a pipeline of 10,000 steps."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from runner.spec import jsondoc, yamldoc
from runner.spec.job import load
from tests.benchmarks.pipelines import pipeline
from tests.benchmarks.rows import ROUNDS, Row

NOTE = "In one process, in turn with the rival: processor time, since nothing here waits."


def rows(folder: Path) -> list[Row]:
    """JSON with positions against our YAML reader, which takes JSON too; a long pipeline against a short one."""
    folder.mkdir(exist_ok=True)
    gc.set_threshold(50_000, 20, 50)  # as the command does
    fields = {"Source": "Repository", "Repository": "CRAN", "Description": "x y z, [" * 200, "Imports": ["a", "b"] * 20}
    text = json.dumps({"R": {"Version": "4.2.2"}, "Packages": {f"pkg{n}": fields for n in range(300)}}, indent=2)
    ours, rival = _pair(lambda: jsondoc.parse(text, "renv.lock"), lambda: yamldoc.parse(text, "renv.lock"), ROUNDS)
    made = [Row("a renv.lock of 600 kB", ours, "as YAML", rival, "≤ 1", ours / rival <= 1)]
    many, few = (pipeline(folder / f"{steps}.yml", steps, chain=True) for steps in (10_000, 500))
    ours, rival = _pair(lambda: load(many), lambda: load(few), 3)
    ours, rival = ours / 10, rival / 0.5
    made.append(Row("a pipeline of 10,000 steps, a step", ours, "500 steps", rival, "≤ 1.2", ours / rival <= 1.2, "µs"))
    return made


def _pair(ours: Callable[[], object], rival: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Medians in milliseconds."""
    a, b = zip(*((_took(ours), _took(rival)) for _ in range(rounds)), strict=True)
    return statistics.median(a), statistics.median(b)


def _took(what: Callable[[], object]) -> float:
    began = time.process_time()
    what()
    return (time.process_time() - began) * 1000
