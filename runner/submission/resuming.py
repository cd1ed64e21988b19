"""A new run of an old plan, which takes over what completed; and what a submitted pipeline takes over with `--from`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner import reuse
from runner.errors import CapabilityError, ConflictError, NotFoundError, UsageError
from runner.model import Status
from runner.snapshot import Snapshot
from runner.submission.accepting import CodeFolder, Prepared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.plan import Plan
    from runner.store import RunRow, Store


def resumed(store: Store, run: RunRow, from_step: str | None, secrets: Mapping[str, str]) -> Prepared:
    """The plan of an ended run once more.

    Args:
        from_step: runs anew with all that depends on it; None: what did not complete runs.
        secrets: values by name; those of the plan are needed again.

    Raises:
        ConflictError: it has not ended, or there is nothing to run.
        NotFoundError: it has no such step.
        UsageError: it is no pipeline, or the value of a secret is missing.
        CapabilityError: it ran elsewhere, where only what that service itself kept can be taken over.
    """
    run = store.root_of(run)
    if store.folder(run.name).read_target() is not None:
        raise CapabilityError(
            f"{run.name} ran on {run.backend}, which takes nothing over from an earlier run that runner names",
            "submit it again: it reuses steps by itself that are deterministic and have not changed",
        )
    if not run.composed:
        raise UsageError(
            f"{run.name} is one script, and has no steps to go on from", "submit it again: runner submit SCRIPT"
        )
    if not run.status.terminal:
        raise ConflictError(f"{run.name} has not ended ({run.status})", f"first: runner cancel {run.name}")
    plan = store.plan(run)
    taken = reuse.taken_over(plan, earlier(store, run), from_step)
    if len(taken) == len(plan.steps):
        raise ConflictError(
            f"{run.name} has completed: nothing is left to run", f"runner resume {run.name} --from STEP"
        )
    folder = store.folder(run.name)
    codes = {key: _code(folder.code_of(key)) for key in plan.code}
    return Prepared(
        title=run.title,
        step=run.step,
        backend=run.backend,
        image_names={row.image: row.image_name for row in store.children(run) if row.image and row.image_name},
        kind=run.kind,
        codes=codes,
        experiment=run.experiment,
        plan=_begun(plan, taken, from_step),
        description=run.description,
        tags=run.tags,
        secrets=_secrets(plan, taken, secrets),
    )


def begun_at(store: Store, plan: Plan, *, experiment: str, title: str, from_step: str) -> Plan:
    """The plan of `submit --from`: what is not run is taken from the last run of that experiment and title.

    Raises:
        NotFoundError: there is no such run, or the plan has no such step.
        ConflictError: something that is needed had not completed; names it.
    """
    for run in store.list(experiment=experiment):
        if run.composed and run.title == title and run.status.terminal:
            return _begun(plan, reuse.taken_over(plan, earlier(store, run), from_step), from_step)
    raise NotFoundError(
        f"--from {from_step}: no run of {title} in the experiment {experiment} has ended before", "leave out --from"
    )


def _begun(plan: Plan, taken: Mapping[str, str], from_step: str | None) -> Plan:
    """Who names a step wants it to run, not to be reused."""
    return replace(plan, taken=taken, force_rerun=plan.force_rerun or from_step is not None)


def earlier(store: Store, run: RunRow) -> Mapping[str, reuse.Earlier]:
    """The steps of a run, and which of their outputs are there."""
    found = {}
    for row in store.children(run):
        if row.kind != "step" or row.path is None:
            continue
        kept = store.folder(row.name).attempt(max(1, row.attempts))
        there = {name for name in row.step.outputs if row.status is Status.COMPLETED and kept.output(name).exists()}
        found[row.path] = reuse.Earlier(row.name, row.status, frozenset(there))
    return found


def _secrets(plan: Plan, taken: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str]:
    wanted = {name for step in plan.steps if step.name not in taken for name in step.step.secrets}
    if missing := sorted(wanted - given.keys()):
        raise UsageError(
            f"the value of the secret {missing[0]} is needed again, since runner keeps none",
            f"set the variable {missing[0]}",
        )
    return {name: given[name] for name in wanted}


def _code(folder: Path | None) -> CodeFolder:
    """All of a folder that a run has taken along; nothing is left out a second time."""
    assert folder is not None  # noqa: S101 - it has a key
    found = Snapshot()
    for place, names, files in os.walk(folder):
        for name in sorted((*names, *files)):
            path = Path(place, name)
            relative = str(path.relative_to(folder))
            if path.is_symlink():
                found.links[relative] = str(path.readlink())
            elif path.is_dir():
                found.folders.append(relative)
            else:
                found.files.append(relative)
    return CodeFolder(folder, found)
