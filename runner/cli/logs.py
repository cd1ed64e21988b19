"""runner logs"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import typer

from runner import console
from runner.cli.opening import RUN, open_run
from runner.errors import SpecError
from runner.spec import values


def logs(  # noqa: PLR0917 - the signature is the command line
    run: Annotated[str, RUN],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last so many lines.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="T", help="Only what came after: 10m (ago), or 2026-06-01T12:00.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of this attempt (default: the last).")
    ] = None,
    step: Annotated[str | None, typer.Option(metavar="STEP", help="Of a pipeline: of this step alone.")] = None,
) -> None:
    """The script's output, byte for byte. Of a pipeline the lines of all steps, each with its step before it."""
    from runner.run import Run

    store, row = open_run(run)
    moment = None if since is None else _moment(since)
    try:
        for block in Run(store, row.name).logs(follow=follow, tail=tail, since=moment, attempt=attempt, step=step):
            console.result_bytes(block)
    except KeyboardInterrupt:
        if follow:
            console.say("", f"\n{row.name} goes on.")
        raise


def _moment(text: str) -> float:
    """`10m` ago, or a point in time (local, unless it says otherwise)."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - values.duration(text, "--since")
    except SpecError:
        raise SpecError(
            f"{text!r} is not a time", "expected how long ago (90, 10m, 2h) or a moment (2026-06-01T12:00)",
            key="--since",
        ) from None  # fmt: skip
