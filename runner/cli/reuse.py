"""`runner why` and `runner resume`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated

import typer

from runner import console

if TYPE_CHECKING:
    from runner.store import Store
    from runner.submission.accepting import Prepared
    from runner.why import Explanation

_RUN = typer.Argument(metavar="RUN", help="A pipeline's run, or RUN.STEP: a name, its unique beginning, or @last.")
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")


def why(
    run: Annotated[str, _RUN],
    step: Annotated[str | None, typer.Argument(metavar="STEP", help="Only this step.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Why each step ran or was reused. What differed from the nearest earlier run, field by field."""
    from runner import why as explaining
    from runner.store import Store

    store = Store()
    row = store.resolve(run)
    if step is not None:
        row = store.child(store.root_of(row), step)
    found = list(explaining.explain_all(store, row)) if row.composed else [explaining.explain(store, row)]
    if json:
        console.result_json([each.to_json() for each in found])
        return
    width = max(len(each.step) for each in found)
    for each in found:
        _show(each, width)


def _show(found: Explanation, width: int) -> None:
    console.result(console.printable(f"{found.step.ljust(width)}  {found.answer}"))
    names = max((len(each.field) for each in found.differences), default=0)
    for each in found.differences:
        before, after = (_said(text) for text in (each.before, each.after))
        console.result(console.printable(f"  {each.field.ljust(names)}  {before} → {after}"))


def _said(text: str | None) -> str:
    return "(none)" if text is None else _DIGEST.sub(r"\1…", text)


def resume(
    run: Annotated[str, _RUN],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Run this step anew, and what depends on it.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay, show the log, exit as the pipeline did.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; start nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the run as JSON.")] = False,
) -> int:
    """Run a pipeline again from where it failed. What completed is taken over; secrets come from the environment."""
    from runner.cli.carry import Show, carry_out
    from runner.submission.resuming import resumed

    def prepare(store: Store) -> Prepared:
        found = resumed(store, store.resolve(run), from_, os.environ)
        if found.plan is not None:
            steps, taken = len(found.plan.steps), len(found.plan.taken)
            console.say(
                "resume", f"{steps - taken} of {steps} steps run" + ("; the others are taken over" if taken else "")
            )
        return found

    return carry_out(prepare, Show(wait=wait, dry_run=dry_run, json=json))
