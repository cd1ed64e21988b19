"""Commands on runs: logs, status, wait, show, list, experiments, cancel, download, delete, prune."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner import console
from runner.errors import SpecError, UsageError
from runner.model import Status
from runner.spec import values

if TYPE_CHECKING:
    from runner.store import RunRow, Store

_RUN = typer.Argument(metavar="RUN", help="A run's name, its unique beginning, or @last.")
_JSON = typer.Option("--json", help="Print JSON.")


def _open(reference: str) -> tuple[Store, RunRow]:
    """The store and the run, which is given a supervisor if it is live and has none."""
    from runner.store import Store

    store = Store()
    run = store.resolve(reference)
    if not run.status.terminal:
        from runner.supervisor import ensure

        ensure(store, run)
        run = store.get(run.name)
    return store, run


def logs(
    run: Annotated[str, _RUN],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last so many lines.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="T", help="Only what came after: 10m (ago), or 2026-06-01T12:00.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of this attempt (default: the last).")
    ] = None,
) -> None:
    """The script's output, byte for byte."""
    from runner.api import Run

    store, row = _open(run)
    moment = None if since is None else _moment(since)
    try:
        for block in Run(store, row.name).logs(follow=follow, tail=tail, since=moment, attempt=attempt):
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


def status(run: Annotated[str, _RUN], json: Annotated[bool, _JSON] = False) -> None:
    """Where a run stands, in one line."""
    _, row = _open(run)
    if json:
        console.result_json(row.to_json())
    else:
        note = row.outcome.message if row.outcome else row.note
        console.result(f"{row.name}  {console.status_text(row)}" + (f"  {note}" if note else ""))


def wait(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names, unique beginnings, or @last.")],
    json: Annotated[bool, _JSON] = False,
) -> int:
    """Wait for runs to end. Exits as the first of them, in the order given, that did not end with 0."""
    from runner.api import Run

    opened = [_open(reference) for reference in runs]
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


def _after(text: str) -> str:
    return f"  {text}" if text else ""


def show(run: Annotated[str, _RUN], json: Annotated[bool, _JSON] = False) -> None:
    """How a run ended, its last lines, what it left, what to do."""
    from runner.api import Run

    store, row = _open(run)
    if json:
        data = row.to_json()
        data["attempt_list"] = [
            {"number": attempt.number, "outcome": attempt.outcome.to_json() if attempt.outcome else None}
            for attempt in store.attempts(row)
        ]
        data["outputs"] = [{"path": path, "bytes": size} for path, size in Run(store, row.name).outputs()]
        data["log"] = str(store.folder(row.name).attempt(max(1, row.attempts)).log)
        console.result_json(data)
        return
    head = [row.name, console.paint(console.status_text(row), console.status_colour(row.status)), row.title,
            row.backend, console.elapsed(row)]  # fmt: skip
    console.result("   ".join(part for part in head if part))
    _show_end(store, row)
    _show_facts(store, row)


def _show_end(store: Store, row: RunRow) -> None:
    from runner.logs import last_lines

    outcome = row.outcome
    if outcome is None:
        if row.note:
            console.result(f"  {row.note}")
        return
    if outcome.message:
        console.result(f"  {outcome.message}")
    for warning in outcome.warnings:
        console.result(f"  warning: {warning}")
    if outcome.process_exit == 0:
        return
    if lines := last_lines(store.folder(row.name).attempt(max(1, row.attempts)).log, 8):
        console.result("  last lines:")
        for line in lines:
            console.result(f"    {line}")
    limits = row.step.limits
    advice = console.advice(outcome, limits.memory_bytes, limits.timeout_s)
    console.result("  " + (f"try: {advice}        " if advice else "") + f"log: runner logs {row.name}")


def _show_facts(store: Store, row: RunRow) -> None:
    from runner.api import Run

    facts = [
        ("experiment", row.experiment),
        ("description", row.description),
        ("tags", ", ".join(f"{key}={value}" for key, value in row.tags.items())),
        ("image", " ".join(part for part in (row.image_name, (row.image or "")[:19]) if part)),
        ("command", " ".join(row.step.argv)),
        ("created", console.local_time(row.created)),
        ("finished", console.local_time(row.finished)),
        ("attempts", str(row.attempts) if row.attempts > 1 else ""),
    ]
    outcome = row.outcome
    if outcome is not None and outcome.max_rss_bytes:
        cpu = (outcome.user_s or 0) + (outcome.sys_s or 0)
        facts.append(("used", f"peak {values.human_size(outcome.max_rss_bytes)}, CPU {values.human_time(cpu)}"))
    for name, value in facts:
        if value:
            console.result(f"  {name:<12}{console.printable(value)}")
    files = Run(store, row.name).outputs()
    for path, size in files[:20]:
        console.result(f"  {'output':<12}{console.printable(path)}  {values.human_size(size)}")
    if len(files) > 20:
        console.result(f"  {'':<12}and {len(files) - 20} more")


def list_(
    status: Annotated[str | None, typer.Option(metavar="S", help="Only runs of this status: Running, Failed …")] = None,
    experiment: Annotated[str | None, typer.Option(metavar="E", help="Only runs of this experiment.")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many, newest first.")] = 20,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Runs, newest first."""
    from runner.store import Store

    store = Store()
    rows = store.list(status=None if status is None else _status(status), experiment=experiment, limit=limit)
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
    console.table(
        ("NAME", "STATUS", "SCRIPT", "BACKEND", "EXPERIMENT", "CREATED", "TOOK"),
        [
            (row.name, console.status_text(row), row.title, row.backend, row.experiment,
             console.local_time(row.created), console.elapsed(row))
            for row in rows
        ],
        [console.status_colour(row.status) for row in rows],
    )  # fmt: skip


def _status(text: str) -> Status:
    for known in Status:
        if known.value.lower() == text.lower():
            return known
    raise UsageError(f"{text!r} is not a status", f"expected one of: {', '.join(Status)}")


def experiments(json: Annotated[bool, _JSON] = False) -> None:
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


def cancel(run: Annotated[str, _RUN], json: Annotated[bool, _JSON] = False) -> None:
    """Ask a run to end. SIGTERM to the script, SIGKILL after its grace; returns at once."""
    from runner.api import Run

    store, row = _open(run)
    asked = Run(store, row.name).cancel()
    row = store.get(row.name)
    if json:
        console.result_json(row.to_json())
    elif asked:
        console.result(f"{row.name}  asked to end (grace {row.step.limits.grace_s:g} s).  see: runner wait {row.name}")
    else:
        console.result(f"{row.name}  had ended already: {console.status_text(row)}")


def download(
    run: Annotated[str, _RUN],
    output: Annotated[str | None, typer.Option(metavar="NAME", help="Only this output.")] = None,
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write to (default: ./RUN).")] = None,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Copy what a run left: outputs/, logs/ and named outputs. Of failed runs too."""
    from runner.api import Run

    store, row = _open(run)
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
        console.say("", f"{row.name} left no files in ./outputs, ./logs or a named output")


def delete(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names, unique beginnings, or @last.")],
) -> None:
    """Remove ended runs with their logs and outputs."""
    opened = [_open(reference) for reference in runs]
    for store, row in opened:
        store.delete(row)
        console.result(f"{row.name}  deleted")


def prune(
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Also delete runs that ended longer ago: 30d; 0: all."),
    ] = None,
    json: Annotated[bool, _JSON] = False,
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
