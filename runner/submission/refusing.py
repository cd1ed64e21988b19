"""All that is in the way of a job on a backend, as one error: by line, and things with the same way out together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import CapabilityError, RunnerError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.job import Job, Problem


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing in the way: `text` with its place in it, the ways out, and file and line to sort by."""

    text: str
    ways: tuple[str, ...]
    file: str = ""
    line: int = 0


def of_error(error: RunnerError) -> Fault:
    """What was raised about one thing."""
    if isinstance(error, SpecError):
        return Fault(error.message, error.hints, error.file or "", error.line or 0)
    return Fault(error.message, error.hints)


def of_problem(problem: Problem) -> Fault:
    """What the job's reader found."""
    return of_error(problem.where.error(problem.reason, problem.way_out))


def refusal(job: Job, backend: str, faults: Iterable[Fault]) -> CapabilityError:
    """The error that tells them all, each once."""
    count, lines = listed(faults)
    called = job.file.name if job.file else "the job"
    things = "1 thing" if count == 1 else f"{count} things"
    return CapabilityError(f"{things} in {called} cannot run on {backend}; nothing was started", *lines)


def listed(faults: Iterable[Fault]) -> tuple[int, list[str]]:
    """How many there are, and the lines that tell each once."""
    by_ways: dict[tuple[str, ...], list[str]] = {}
    found = sorted(dict.fromkeys(faults), key=lambda fault: (fault.file, fault.line))
    for fault in found:
        by_ways.setdefault(fault.ways, []).append(fault.text)
    return len(found), [line for ways, texts in by_ways.items() for line in (*texts, *(f"  → {way}" for way in ways))]
