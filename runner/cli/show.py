"""runner show"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

from runner import console
from runner.cli import tracked
from runner.cli.opening import JSON, RUN, open_run
from runner.model import Status
from runner.spec import values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.model import Outcome
    from runner.store import RunRow, Store


def show(run: Annotated[str, RUN], json: Annotated[bool, JSON] = False) -> None:
    """How a run ended, its last lines, what it left, what to do. Of a pipeline also how each step ended."""
    store, row = open_run(run)
    if json:
        console.result_json(_data(store, row))
        return
    head = [row.name, console.paint(console.status_text(row), console.status_colour(row.status)), row.title,
            row.backend, console.elapsed(row)]  # fmt: skip
    console.result("   ".join(part for part in head if part))
    if row.kind == "sweep":
        from runner.sweeps.summary import sweep_row

        _show_end(store, sweep_row(store, row) or row)
    elif row.composed:
        _show_steps(store, row)
    else:
        _show_end(store, row)
    tracked.show_trials(store, row)
    _show_facts(store, row)


def _data(store: Store, row: RunRow) -> dict[str, Any]:
    from runner.run import Run

    data = row.to_json()
    data |= tracked.data(store, row)
    outputs = [{"path": path, "bytes": size} for path, size in Run(store, row.name).outputs()]
    if row.composed:
        return {**data, "outputs": outputs, "steps": [each.to_json() for each in store.children(row)]}
    data["attempt_list"] = [
        {"number": attempt.number, "outcome": attempt.outcome.to_json() if attempt.outcome else None}
        for attempt in store.attempts(row)
    ]
    data["outputs"] = outputs
    data["log"] = str(store.folder(row.name).attempt(max(1, row.attempts)).log)
    return data


def _show_steps(store: Store, row: RunRow) -> None:
    steps = [each for each in store.children(row) if each.kind != "trial"]
    message = row.outcome.message if row.outcome else row.note
    if message:
        console.result(f"  {message}")
    console.table(
        ("  STEP", "STATUS", "TOOK", "NOTE"),
        [(f"  {each.path}", console.status_text(each), console.elapsed(each), _note(each)) for each in steps],
        [console.status_colour(each.status) for each in steps],
    )
    failed = cause(store, row)
    if failed is None or failed.outcome is None:
        return
    if failed.outcome.message and failed.outcome.message not in (message or ""):
        console.result(f"  {failed.path}: {failed.outcome.message}")
    _show_last_lines(store, failed)
    _show_way_on(failed, failed.outcome)


def _note(step: RunRow) -> str:
    if step.reused_from:
        return f"reused from {step.reused_from}"
    return f"{step.attempts} attempts" if step.attempts > 1 else ""


def cause(store: Store, run: RunRow) -> RunRow | None:
    """The step of a pipeline that failed first; of a sweep a trial, since it has no log itself. None: `run` by itself."""
    from runner.sweeps.summary import sweep_row

    if not run.composed and sweep_row(store, run) is None:
        return None
    parts = store.children(store.root_of(run))
    failed = [each for each in parts if each.status is Status.FAILED and each.kind == "step"]
    step = run if run.kind == "step" else min(failed, key=lambda each: each.finished or 0.0, default=None)
    if step is None:
        return None
    trials = [each for each in parts if each.kind == "trial" and each.name.startswith(f"{step.name}.")]
    return next((each for each in trials if each.status is Status.FAILED), trials[0] if trials else step)


def _show_end(store: Store, row: RunRow) -> None:
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
    told = cause(store, row) or row
    _show_last_lines(store, told)
    _show_way_on(told, told.outcome or outcome)


def _show_way_on(row: RunRow, outcome: Outcome) -> None:
    advice = console.advice(row, outcome)
    console.result("  " + (f"try: {advice}        " if advice else "") + f"log: runner logs {row.name}")


def _show_last_lines(store: Store, row: RunRow) -> None:
    from runner.logs import last_lines

    if lines := last_lines(store.folder(row.name).attempt(max(1, row.attempts)).log, 8):
        console.result("  last lines:")
        for line in lines:
            console.result(f"    {line}")


def _image(row: RunRow) -> str:
    """Its name and its id; of an image elsewhere the name is all there is."""
    if row.image_name and row.image and row.image.startswith("sha256:"):
        return f"{row.image_name} {row.image[:19]}"
    return row.image_name or (row.image or "")


def _command(argv: Sequence[str]) -> str:
    """As one would type it: a line for bash as it is, else words with the quotes that they need."""
    return argv[2] if tuple(argv[:2]) == ("bash", "-c") and len(argv) == 3 else shlex.join(argv)


def _elsewhere(store: Store, row: RunRow) -> list[tuple[str, str]]:
    """Of a run on a service: where there, on what, and what to ask that service for."""
    root = store.root_of(row)
    target = store.folder(root.name).read_target()
    if target is None:
        return []
    compute = row.step.remote.compute if row.step.remote is not None else None
    facts = [("workspace", f"{target.get('workspace', '')} in {target.get('resource_group', '')}")]
    facts += [("compute", compute or "serverless")] if not row.composed else []
    begun = row.status not in {Status.NOT_STARTED, Status.SKIPPED} and row.reused_from is None
    facts += [("page", f"runner open {row.name}")] if begun else []
    return facts


def _show_facts(store: Store, row: RunRow) -> None:
    from runner.run import Run

    facts = [
        ("experiment", row.experiment),
        ("description", row.description),
        ("tags", ", ".join(f"{key}={value}" for key, value in row.tags.items())),
        *_elsewhere(store, row),
        ("image", _image(row)),
        ("command", "" if row.composed else _command(row.step.argv)),
        ("created", console.local_time(row.created)),
        ("finished", console.local_time(row.finished)),
        ("attempts", str(row.attempts) if row.attempts > 1 else ""),
        ("reused", f"from {row.reused_from}" if row.reused_from else ""),
    ]
    outcome = row.outcome
    if outcome is not None and outcome.max_rss_bytes:
        cpu = (outcome.user_s or 0) + (outcome.sys_s or 0)
        facts.append(("used", f"peak {values.human_size(outcome.max_rss_bytes)}, CPU {values.human_time(cpu)}"))
    for name, value in facts:
        for number, line in enumerate(value.splitlines()):
            console.result(f"  {'' if number else name:<12}{console.printable(line)}")
    tracked.show(store, row)
    files = Run(store, row.name).outputs()
    for path, size in files[:20]:
        console.result(f"  {'output':<12}{console.printable(path)}  {values.human_size(size)}")
    if len(files) > 20:
        console.result(f"  {'':<12}and {len(files) - 20} more")
