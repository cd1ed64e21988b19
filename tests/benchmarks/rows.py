"""Rows of the benchmark tables, and how two commands are timed side by side."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

RUNNER = [sys.executable, "-m", "runner"]
ROUNDS = 15


@dataclass(frozen=True)
class Row:
    """One line of the table. `ours` and `rival` in milliseconds, unless `unit` says otherwise."""

    what: str
    ours: float
    rival_name: str
    rival: float | None
    aim: str
    holds: bool
    unit: str = "ms"

    def cells(self) -> list[str]:
        ratio = "" if self.rival is None else f"{self.ours / self.rival:.2f}"
        rival = "" if self.rival is None else f"{self.rival_name}: {self.rival:.0f} {self.unit}"
        return [self.what, f"{self.ours:.0f} {self.unit}", rival, ratio, self.aim, "yes" if self.holds else "**no**"]


def seconds(argv: Sequence[str]) -> float:
    """How long a command takes, as a whole process."""
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def pair(ours: Sequence[str], rival: Sequence[str], rounds: int = ROUNDS) -> tuple[float, float]:
    """Medians in milliseconds of both, run in turn after one warm-up each."""
    a, b = [], []
    for number in range(rounds + 1):
        first, second = seconds(ours), seconds(rival)
        if number:
            a.append(first * 1000)
            b.append(second * 1000)
    return statistics.median(a), statistics.median(b)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = ["what", "runner", "rival", "ratio", "aim", "holds"]
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row.cells()) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
