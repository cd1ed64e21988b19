"""How things look: tables, one line per thing that happened, errors with a hint. No logic, no state of runs.

stdout is the result, stderr the talk. Colour only on a terminal, never the only carrier of a meaning, NO_COLOR honoured.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TextIO
from unicodedata import combining, east_asian_width

from runner.model import Reason, Status
from runner.spec.values import human_size, human_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.errors import RunnerError
    from runner.model import Outcome
    from runner.store import RunRow

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}
_OF_STATUS = {
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELED: "yellow",
    Status.SKIPPED: "yellow",
    Status.NOT_RESPONDING: "yellow",
}


STDOUT = "standard output"
"""The `filename` of an OSError that says that the result cannot be written."""


def result(text: str = "") -> None:
    """A line of the result, to stdout.

    Raises:
        OSError: of STDOUT: the disk behind it is full. BrokenPipeError: its reader has seen enough.
    """
    with _stdout():
        print(text)


def result_bytes(block: bytes, stream: BinaryIO | None = None) -> None:
    """Bytes of the script's log, as they are and at once, to stdout (or the binary `stream`); raises as `result`."""
    with _stdout():
        target = stream or sys.stdout.buffer
        target.write(block)
        target.flush()


@contextmanager
def _stdout() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = STDOUT
        raise


def result_json(data: object) -> None:
    """The result as JSON, to stdout; non-ASCII as it is, where the stream can carry it."""
    result(json.dumps(data, indent=2, ensure_ascii=(sys.stdout.encoding or "").lower() != "utf-8"))


_MOVING_S = 5.0
"""Without a terminal, a sign of movement is written at most so often: enough for a log that somebody watches."""

_moved = {"at": 0.0, "shown": False}


def say(kind: str, text: str) -> None:
    """A line of the talk, to stderr: `image    churn-r  sha256:41c9…`.

    A text that ends in ` …` is movement, not an event: on a terminal it is overwritten by what follows.
    """
    label = paint(f"{kind:<8}", "dim", sys.stderr)
    line = f"{label} {text}" if kind else text
    if kind and text.endswith(" …"):
        _move(line)
        return
    start = "\r\x1b[K" if _moved["shown"] else ""
    _moved["shown"] = False
    print(start + line, file=sys.stderr, flush=True)


def _move(line: str) -> None:
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        print("\r\x1b[K" + line[: width + 8 if "\x1b[" in line else width - 1], end="", file=sys.stderr, flush=True)
        _moved["shown"] = True
    elif time.monotonic() - _moved["at"] >= _MOVING_S:
        print(line, file=sys.stderr, flush=True)
        _moved["at"] = time.monotonic()


def error(problem: RunnerError) -> None:
    """An error: what failed, then one indented line per hint."""
    first, *rest = problem.message.split("\n")
    print(f"{paint('error:', 'red', sys.stderr)} {first}", file=sys.stderr)
    for line in (*rest, *problem.hints):
        print(f"  {line}", file=sys.stderr)


def paint(text: str, colour: str | None, stream: TextIO | None = None) -> str:
    """The text in a colour, where the stream is a terminal and NO_COLOR is not set."""
    if colour is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    if not (stream or sys.stdout).isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def printable(text: str) -> str:
    """Text that a script or a file's name brought, without what would move the cursor or colour the terminal."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\\\)?|[@-Z\\^_])")


def last_state(line: str) -> str:
    """What a terminal would show of a line at its end: without colours, and of a progress bar only where it stands."""
    plain = _ESCAPES.sub("", line).expandtabs().rstrip("\r")
    return printable(plain.rpartition("\r")[2])


def shortened(name: str, width: int) -> str:
    """The name, without its middle where it is longer: both ends of a step's name tell it from others."""
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"


def clipped(text: str, width: int) -> str:
    """As much of the text as fits into so many columns of a terminal, where a Chinese character takes two."""
    if text.isascii():
        return text[:width]
    for index, char in enumerate(text):
        width -= 0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1
        if width < 0:
            return text[:index]
    return text


def table(header: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str | None] = ()) -> None:
    """Columns aligned by their longest cell; `colours` paints the STATUS of each row, else its second cell."""
    status = header.index("STATUS") if "STATUS" in header else 1
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    result(paint("  ".join(cell.ljust(width) for cell, width in zip(header, widths, strict=True)).rstrip(), "dim"))
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if colours:
            cells[status] = paint(cells[status], colours[number])
        result("  ".join(cells).rstrip())


def status_colour(status: Status) -> str | None:
    """The colour that goes with a status, if any."""
    return _OF_STATUS.get(status)


def status_text(run: RunRow) -> str:
    """`Completed`, `Failed · OutOfMemory`, `Running`: the reason only where it says more."""
    outcome = run.outcome
    if outcome is None or outcome.reason.value == run.status.value:
        return run.status.value
    return f"{run.status.value} · {outcome.reason.value}"


def elapsed(run: RunRow) -> str:
    """How long the script ran, or has been running; "" before it started."""
    if run.outcome is not None:
        return "" if run.outcome.elapsed_s is None else human_time(run.outcome.elapsed_s)
    return "" if run.started is None else human_time(max(0.0, time.time() - run.started))


def local_time(when: float | None) -> str:
    """Local time for people, to the second."""
    return "" if when is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def closing_line(outcome: Outcome, outputs: Sequence[str]) -> str:
    """`Completed in 12.4 s · peak 412 MiB · outputs: model.rds, plots/plot-001.png`."""
    status = outcome.status
    head = status.value if outcome.reason.value == status.value else f"{status.value} · {outcome.reason.value}"
    parts = [paint(head, status_colour(status), sys.stderr)]
    if outcome.elapsed_s is not None:
        parts[0] += f" in {human_time(outcome.elapsed_s)}"
    if outcome.max_rss_bytes:
        parts.append(f"peak {human_size(outcome.max_rss_bytes)}")
    if outputs:
        more = f" and {len(outputs) - 5} more" if len(outputs) > 5 else ""
        parts.append(f"outputs: {', '.join(printable(path) for path in outputs[:5])}{more}")
    return " · ".join(parts)


def advice(run: RunRow, outcome: Outcome) -> str | None:
    """What most likely cures this end, or None: an option, or of a job what to write in its file."""
    job = run.parent is not None or run.step.argv[:2] == ("bash", "-c")
    limits = run.step.limits
    memory = limits.memory_bytes
    match outcome.reason:
        case Reason.OUT_OF_MEMORY if run.backend == "azureml":
            return "a compute with more memory: runner compute list"
        case Reason.PLATFORM_ERROR if "(ImagePull" in outcome.message:
            return "runner doctor --backend azureml, which looks whether computes may pull from the registry"
        case Reason.OUT_OF_MEMORY:
            more = (
                f"{max(1, 2 * (memory or 2**30) // 2**30)}g"
                if memory is None or memory >= 2**29
                else f"{2 * memory >> 20}m"
            )
            return f'resources: {{docker_args: "--memory {more}"}} in its file' if job else f"--memory {more}"
        case Reason.TIMEOUT:
            longer = f"{2 * (limits.timeout_s or 60):g}"
            return f"limits: {{timeout: {longer}}} in its file" if job else f"--timeout {longer}s"
        case Reason.LOST | Reason.KILLED | Reason.INTERRUPTED | Reason.PREEMPTED:
            return "retry: {count: 2} in its file" if job else "--retries 2 (this cause is retried when asked)"
        case Reason.INTERPRETER_NOT_FOUND:
            return "name it in libs.yaml, then runner build"
        case Reason.STATUS_MISSING:
            return "look whether the script removes or replaces files outside its working directory"
        case _:
            return None
