"""What the user sees from the decision on: until the run is accepted or, with --wait, has ended."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import console
from runner.model import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.model import Outcome
    from runner.store import RunRow, Store
    from runner.submission.accepting import Prepared


@dataclass(frozen=True, slots=True)
class Show:
    """What the user wants to see of it."""

    wait: bool
    dry_run: bool
    json: bool


def carry_out(prepare: Callable[[Store], Prepared], show: Show) -> int:
    """Decide, then start (or with --dry-run show) what was decided; with --wait stay until the end."""
    from runner.store import Store
    from runner.submission.accepting import accept, handed_over
    from runner.supervisor import ensure

    store = Store()
    try:
        prepared = prepare(store)
        if show.dry_run:
            _preview(prepared, store, json=show.json)
            return 0
        run, gone = accept(prepared, store)
        run = handed_over(store, run, gone, console.say)
    except KeyboardInterrupt as stop:
        if not stop.args:
            console.say("", "\ninterrupted; nothing was submitted")
        else:
            ensure(store, store.get(stop.args[0]))
            console.say("", f"\ninterrupted; {stop.args[0]} was submitted and goes on")
        return 130
    if not show.wait and not _never_began(run):
        os.close(gone)
        _accepted(run, json=show.json)
        return 0
    return _stay(store, run, gone, json=show.json)


def _preview(prepared: Prepared, store: Store, *, json: bool) -> None:
    from runner.submission.accepting import preview

    if prepared.target is not None and not json:
        from runner.spec.jobwriter import written

        console.result(written(preview(prepared, store)["request"]).rstrip())
    elif prepared.plan is None or json:
        console.result_json(preview(prepared, store))
    else:
        from runner.graph import draw

        console.result(draw(prepared.plan, "text").rstrip())


def _never_began(run: RunRow) -> bool:
    """The service elsewhere would not have it; that is told like the end of a run that was waited for."""
    return run.outcome is not None and run.outcome.reason is Reason.START_FAILED


def _accepted(run: RunRow, *, json: bool) -> None:
    if json:
        console.result_json(run.to_json())
    elif sys.stdout.isatty():
        console.result(f"{run.name}  {run.status.value} on {run.backend}")
    else:
        console.result(run.name)
    if not json:
        console.say("", f"follow: runner logs -f {run.name}     cancel: runner cancel {run.name}")


def _stay(store: Store, run: RunRow, gone: int, *, json: bool) -> int:
    """Show the log until the run has ended. With --json the log goes to stderr: stdout is the result."""
    sink = sys.stderr.buffer if json else None
    try:
        console.say("run", run.name)
        # Before the wait, in which there is time for it.
        from runner.logs import Follower
        from runner.run import Run

        if run.composed:
            from runner.cli import board

            board.follow(store, run, gone=gone, json=json)
        else:
            for block in Follower(store, run, gone=gone):
                console.result_bytes(block, sink)
    except KeyboardInterrupt:
        console.say(
            "", f"\n{run.name} goes on.  follow: runner logs -f {run.name}     cancel: runner cancel {run.name}"
        )
        return 130
    ended = store.get(run.name)
    outcome = ended.outcome
    assert outcome is not None  # noqa: S101 - the follower stops at the end
    if json:
        console.result_json(ended.to_json())
    else:
        files = [path.removeprefix("outputs/") for path, _ in Run(store, run.name).outputs()]
        _closing(store, ended, outcome, files)
    return outcome.process_exit


def _closing(store: Store, run: RunRow, outcome: Outcome, files: list[str]) -> None:
    console.say("", console.closing_line(outcome, files))
    if outcome.message:
        console.say("", f"  {outcome.message}")
    for warning in outcome.warnings:
        console.say("", f"  warning: {warning}")
    if outcome.process_exit != 0:
        from runner.cli.show import cause

        ended = cause(store, run) or run
        if advice := console.advice(ended, ended.outcome or outcome):
            console.say("", f"  try: {advice}")
        console.say("", f"  log: runner logs {ended.name}")
    elif files:
        console.say("", f"runner download {run.name}")
