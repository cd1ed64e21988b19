"""How commands name a run, and how they open it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from runner.store import RunRow, Store

RUN = typer.Argument(metavar="RUN", help="A run's name, its unique beginning, or @last; of a step: RUN.STEP.")
JSON = typer.Option("--json", help="Print JSON.")


def open_run(reference: str) -> tuple[Store, RunRow]:
    """The store and the run, which is given a supervisor if it is live and has none."""
    from runner.store import Store

    store = Store()
    run = store.resolve(reference)
    if not run.status.terminal:
        from runner.supervisor import ensure

        ensure(store, run)
        run = store.get(run.name)
    return store, run
