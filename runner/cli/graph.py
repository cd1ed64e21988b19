"""`runner graph`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner import console
from runner.errors import NotFoundError, UsageError
from runner.registered import PREFIX
from runner.spec import values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.job import Job
    from runner.plan import Plan


def graph(
    target: Annotated[str, typer.Argument(metavar="JOB.yml|RUN", help="A job file, pipeline:NAME, or a run.")],
    format_: Annotated[str, typer.Option("--format", metavar="F", help="text, mermaid or dot.")] = "text",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of a job: another value: inputs.lr=0.1.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Of a job: instead of runner.yaml.")] = None,
) -> None:
    """Draw a pipeline: what each step takes and leaves. Of a run, with where each step stands."""
    from runner.graph import FORMATS, draw
    from runner.store import Store
    from runner.submission.job import loaded

    if format_ not in FORMATS:
        raise UsageError(f"--format {format_}: there is no such drawing", f"expected one of: {', '.join(FORMATS)}")
    statuses: Mapping[str, str] = {}
    if target.startswith(PREFIX) or Path(target).suffix.lower() in {".yml", ".yaml"}:
        sets = [values.pair(text, "--set", what="KEY=VALUE", check=lambda key, _: key) for text in set_ or ()]
        job, _ = loaded(target, sets, Store(), os.environ, config)
        plan = _sketch(job)
    else:
        plan, statuses = _of_run(target)
    console.result(draw(plan, format_, statuses))


def _sketch(job: Job) -> Plan:
    """The plan of a job as far as it is known before images, code and data are: all that a drawing shows."""
    from runner.drafts import drafts
    from runner.model import Step
    from runner.plan import Plan, PlanStep

    found = drafts(job)
    return Plan(
        tuple(
            PlanStep(
                each.name,
                Step(
                    each.name, each.argv, inputs={name: given.data.uri for name, given in each.data.items()},
                    outputs=dict.fromkeys(each.command.outputs),
                ),
                each.upstream, reusable=each.command.deterministic, sweep=each.sweep,
            )
            for each in found.steps
        ),
        found.outputs,
    )  # fmt: skip


def _of_run(name: str) -> tuple[Plan, Mapping[str, str]]:
    from runner.store import Store

    store = Store()
    run = store.root_of(store.resolve(name))
    if not run.composed:
        raise NotFoundError(f"{run.name} is one script, and has no steps to draw", f"see it: runner show {run.name}")
    statuses = {
        row.path: f"{console.status_text(row)}{' (reused)' if row.reused_from else ''}"
        for row in store.children(run)
        if row.path is not None
    }
    return store.plan(run), statuses
