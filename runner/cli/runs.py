"""Commands on runs: status, wait, list, experiments, cancel, download, delete, prune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner import console
from runner.cli import workspaces
from runner.cli.opening import JSON, RUN, open_run
from runner.errors import UsageError
from runner.model import Status
from runner.spec import values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.store import RunRow, Store


def status(run: Annotated[str, RUN], json: Annotated[bool, JSON] = False) -> None:
    """Where a run stands, in one line."""
    store, row = open_run(run)
    if json:
        console.result_json(row.to_json())
    else:
        note = row.outcome.message if row.outcome else row.note
        console.result(f"{row.name}  {console.status_text(row)}{_steps(store, row)}" + (f"  {note}" if note else ""))


def wait(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names, unique beginnings, or @last.")],
    json: Annotated[bool, JSON] = False,
) -> int:
    """Wait for runs to end. Exits as the first of them, in the order given, that did not end with 0."""
    from runner.run import Run

    opened = [open_run(reference) for reference in runs]
    code = 0
    ended = []
    for store, row in opened:
        outcome = Run(store, row.name).wait()
        code = code or outcome.process_exit
        ended.append(store.get(row.name))
        if not json:
            console.result(f"{row.name}  {console.status_text(ended[-1])}" + _after(outcome.message))
    if json:
        console.result_json([row.to_json() for row in ended])
    return code


def _steps(store: Store, row: RunRow) -> str:
    """`  3/7 steps` of a pipeline that has not ended; of a sweep the trials that have begun."""
    if not row.composed or row.status.terminal:
        return ""
    done, count = progress(store, row)
    return f"  {done}/{count} {'trials' if row.kind == 'sweep' else 'steps'}"


def progress(store: Store, row: RunRow) -> tuple[int, int]:
    """(steps that have ended, steps) of a pipeline; of a sweep by itself its trials, of those that have begun."""
    counts = store.counts(row, trials=row.kind == "sweep")
    return sum(n for status, n in counts.items() if status.terminal), sum(counts.values())


def _after(text: str) -> str:
    return f"  {text}" if text else ""


def list_(
    *,
    status: Annotated[str | None, typer.Option(metavar="S", help="Only runs of this status: Running, Failed …")] = None,
    experiment: Annotated[str | None, typer.Option(metavar="E", help="Only runs of this experiment.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many, newest first.")] = 20,
    steps: Annotated[bool, typer.Option("--steps", help="The steps of pipelines too.")] = False,
    backend: Annotated[
        str | None, typer.Option(metavar="BACKEND", help="azureml: the jobs of the workspace, whoever submitted them.")
    ] = None,
    workspace: Annotated[str | None, workspaces.WORKSPACE] = None,
    resource_group: Annotated[str | None, workspaces.RESOURCE_GROUP] = None,
    subscription: Annotated[str | None, workspaces.SUBSCRIPTION] = None,
    auth: Annotated[str | None, workspaces.AUTH] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Runs, newest first."""
    asked = workspaces.said(workspace, resource_group, subscription, auth)
    if workspaces.asked_of(backend, asked):
        from runner.cli import elsewhere

        elsewhere.jobs(asked, elsewhere.Wanted(status, experiment, limit, steps), json=json)
        return
    from runner.store import Store

    store = Store()
    rows = store.list(
        status=None if status is None else _status(status), experiment=experiment, limit=limit, steps=steps
    )
    if any(not row.status.terminal for row in rows):
        from runner.supervisor import ensure

        for row in rows:
            ensure(store, row)
    if json:
        console.result_json([row.to_json() for row in rows])
        return
    if not rows:
        console.say("", "no runs" if status or experiment else "no runs yet; start one: runner submit SCRIPT")
        return
    _table(store, rows)


def _table(store: Store, rows: Sequence[RunRow]) -> None:
    """A column of steps only where there are any."""
    some = any(row.composed for row in rows)
    console.table(
        ("NAME", "STATUS", *(("STEPS",) if some else ()), "SCRIPT", "BACKEND", "EXPERIMENT", "CREATED", "TOOK"),
        [
            (row.name, console.status_text(row), *((_count(store, row),) if some else ()), row.title, row.backend,
             row.experiment, console.local_time(row.created), console.elapsed(row))
            for row in rows
        ],
        [console.status_colour(row.status) for row in rows],
    )  # fmt: skip


def _count(store: Store, row: RunRow) -> str:
    return "{}/{}".format(*progress(store, row)) if row.composed else ""


def _status(text: str) -> Status:
    for known in Status:
        if known.value.lower() == text.lower():
            return known
    raise UsageError(f"{text!r} is not a status", f"expected one of: {', '.join(Status)}")


def experiments(json: Annotated[bool, JSON] = False) -> None:
    """Groups of runs, the one with the newest run first."""
    from runner.store import Store, iso

    found = Store().experiments()
    if json:
        console.result_json(
            [{"name": name, "runs": n, "failed": failed, "newest": iso(newest)} for name, n, failed, newest in found]
        )
        return
    if not found:
        console.say("", "no experiments yet; a run belongs to its code folder's name, or to --experiment")
        return
    console.table(
        ("EXPERIMENT", "RUNS", "FAILED", "NEWEST"),
        [(name, str(n), str(failed), console.local_time(newest)) for name, n, failed, newest in found],
    )


def cancel(run: Annotated[str, RUN], json: Annotated[bool, JSON] = False) -> None:
    """Ask a run to end. SIGTERM to the script, SIGKILL after its grace; returns at once."""
    from runner.run import Run

    store, row = open_run(run)
    asked = Run(store, row.name).cancel()
    row = store.get(row.name)
    if json:
        console.result_json(row.to_json())
    elif asked:
        console.result(f"{row.name}  asked to end{_grace(row)}.  see: runner wait {row.name}")
    else:
        console.result(f"{row.name}  had ended already: {console.status_text(row)}")


def _grace(row: RunRow) -> str:
    """How that goes; elsewhere the time between SIGTERM and SIGKILL is the service's."""
    if row.composed:
        return " with all its steps"
    return f" (grace {row.step.limits.grace_s:g} s)" if row.step.remote is None else ""


def download(
    run: Annotated[str, RUN],
    output: Annotated[str | None, typer.Option(metavar="NAME", help="Only this output.")] = None,
    step: Annotated[str | None, typer.Option(metavar="STEP", help="Of a pipeline: what this step left.")] = None,
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write to (default: ./RUN).")] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Copy what a run left: outputs/, logs/ and named outputs. Of failed runs too; of a pipeline its outputs."""
    from runner.run import Run

    store, row = open_run(run if step is None else f"{run}.{step}")
    target = to or Path(row.name)
    written = Run(store, row.name).download(target, output)
    if json:
        console.result_json({"folder": str(target), "files": list(written)})
        return
    for path in written[:50]:
        console.result(console.printable(str(target / path)))
    if len(written) > 50:
        console.say("", f"and {len(written) - 50} more in {target}")
    if not written:
        left = "no files in ./outputs, ./logs or a named output"
        console.say("", f"{row.name} " + ("has no outputs of its own: --step STEP" if row.composed else f"left {left}"))


def delete(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names, unique beginnings, or @last.")],
) -> None:
    """Remove ended runs with their logs and outputs."""
    opened = [open_run(reference) for reference in runs]
    for store, row in opened:
        store.delete(row)
        console.result(f"{row.name}  deleted")


def prune(
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Also delete runs that ended longer ago: 30d; 0: all."),
    ] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Remove what nothing needs any more. Folders of killed submits, containers of ended runs; on request old runs."""
    from runner.cleanup import prune as prune_store
    from runner.store import Store

    removed = prune_store(
        Store(), None if older_than is None else values.duration(older_than, "--older-than", zero=True)
    )
    if json:
        console.result_json(removed)
        return
    for kind, names in removed.items():
        for name in names:
            console.result(f"{kind}  {name}  removed")
    if not any(removed.values()):
        console.say("", "nothing to remove")
