"""The end of every submission: what was decided, recorded as a run with its code, and given a supervisor."""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from runner import composer, snapshot
from runner.backends import open_backend
from runner.backends.base import UPLOADING, Box
from runner.errors import ConflictError
from runner.spec.values import human_size
from runner.supervisor import ensure, launch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from runner.backends.base import Backend
    from runner.model import Step
    from runner.plan import Plan
    from runner.store import RunRow, Store

    Say = Callable[[str, str], None]

WHOLE = ""
"""The name of the code folder of a run that is one step."""

_LOOK_S = 0.05
_LARGE_B = 32 << 20
"""Of an upload of so many bytes people are told how far it has come."""


@dataclass(frozen=True, slots=True)
class CodeFolder:
    """A folder of the user's, and what of it belongs to the code."""

    folder: Path
    snapshot: snapshot.Snapshot


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything decided, and nothing started.

    step: what is run; of a pipeline (plan) it only says what the whole is called. codes: the folders to take along, by the
    names that the plan's steps use; WHOLE for a run of one step. image_names: image id → what to call it. name: None: made
    up. target: of a backend elsewhere: see `open_backend`.
    """

    title: str
    step: Step
    backend: str
    image_names: Mapping[str, str]
    codes: Mapping[str, CodeFolder]
    experiment: str
    plan: Plan | None = None
    kind: str = "script"
    name: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: Mapping[str, str] | None = None


def accept(prepared: Prepared, store: Store, name: str | None = None) -> tuple[RunRow, int]:
    """Copy the code, record the run, start its supervisor: (the run, a descriptor that tells the supervisor's end).

    A kill at any moment leaves either an accepted run, which will end, or nothing that counts.

    Raises:
        RunnerError: nothing was accepted.
        KeyboardInterrupt: with the run's name as its argument when it had been accepted already.
    """
    name, folder = store.reserve(name or prepared.name)
    lock = store.lock(name)
    if lock is None:
        raise ConflictError(f"the run {name} is being made by another process")
    accepted = False
    try:
        with store.errors():
            folder.code.mkdir()
            for key, code in prepared.codes.items():
                snapshot.copy(code.folder, code.snapshot, folder.code / key)
        run = store.accept(
            name, step=prepared.step, backend=prepared.backend, image=prepared.step.image,
            image_name=prepared.image_names.get(prepared.step.image or ""), experiment=_text(prepared.experiment),
            title=_text(prepared.title), description=_text(prepared.description), tags=prepared.tags,
            plan=prepared.plan, kind=prepared.kind, image_names=prepared.image_names,
            target=prepared.target,
        )  # fmt: skip
        accepted = True
        return run, launch(store, run, lock, dict(prepared.secrets))
    except BaseException as error:
        if not accepted:
            os.close(lock)
        # Ctrl-C may come between the commit and our knowing of it: only the store can tell, and its word is final.
        if not store.has(name):
            store.discard(name)
        elif isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(name) from None
        raise


def handed_over(store: Store, run: RunRow, gone: int, say: Say) -> RunRow:
    """Wait until the service elsewhere has the run, so that this machine may be switched off; or until the run has ended.

    Args:
        gone: tells the end of the run's supervisor, as from `accept`; another is started if it dies.

    Raises:
        KeyboardInterrupt: with the run's name as its argument; it goes on.
    """
    if store.folder(run.name).read_target() is None:
        return run
    say("submit", "code, data and job are on their way …")
    tenths = 0
    try:
        while True:
            row = store.get(run.name)
            attempts = store.attempts(row)
            if row.status.terminal:
                return row
            tenths = _tell_uploads(store.folder(run.name).attempt(1).box, tenths, say)
            if attempts and attempts[0].handle is not None:
                say("submit", f"accepted as {attempts[0].handle}")
                return row
            if select.select([gone], [], [], _LOOK_S)[0]:
                ensure(store, row)
                time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(run.name) from None


def _tell_uploads(box: Path, tenths: int, say: Say) -> int:
    """Say how much of a large upload is there, at each tenth of it that is new; how many tenths those are."""
    try:
        done, total = (int(number) for number in (box / UPLOADING).read_text("ascii").split())
    except (OSError, ValueError):
        return tenths
    if total < _LARGE_B or done * 10 // total <= tenths:
        return tenths
    say("upload", f"{human_size(done)} of {human_size(total)}")
    return done * 10 // total


def preview(prepared: Prepared, store: Store) -> dict[str, Any]:
    """What submitting would do: the plan or step, and exactly what the backend would be sent. Nothing is started.

    A plan has `requests`, one for each step; on a backend elsewhere, and where there is one step, it is one `request`.
    """
    backend = open_backend(prepared.backend, store, prepared.target)
    try:
        if prepared.plan is not None and backend.capabilities.remote:
            rendered = dict(_whole(backend, prepared, prepared.plan, store))
        else:
            code = prepared.codes[WHOLE].folder if prepared.plan is None and WHOLE in prepared.codes else None
            rendered = {
                step.name: render(backend, step, store, prepared.name, experiment=prepared.experiment, code=code)
                for step in _steps(prepared)
            }
    finally:
        backend.close()
    codes = {
        key: {"folder": str(each.folder), "files": len(each.snapshot.files), "bytes": each.snapshot.size}
        for key, each in prepared.codes.items()
    }
    head: dict[str, Any] = {"backend": prepared.backend}
    if prepared.plan is not None:
        requests = {"request" if backend.capabilities.remote else "requests": rendered}
        return {**head, "code": codes, "plan": prepared.plan.to_json(), **requests}
    return {
        **head,
        "image": prepared.step.image,
        "image_name": prepared.image_names.get(prepared.step.image or ""),
        "code": codes.get(WHOLE),
        "step": prepared.step.to_json(),
        "request": rendered[prepared.step.name],
    }


def _steps(prepared: Prepared) -> Iterator[Step]:
    if prepared.plan is None:
        yield prepared.step
        return
    for each in prepared.plan.steps:
        # Where an upstream step will have put its output is not known yet; that it is its output is.
        expected = {name: f"/upstream/{source.step}/{source.output}" for name, source in each.upstream.items()}
        step = composer.open_step(each)
        yield replace(step, name=each.name, inputs={**step.inputs, **expected})


def _whole(backend: Backend, prepared: Prepared, plan: Plan, store: Store) -> Mapping[str, object]:
    """What a backend elsewhere would be sent for the whole plan."""
    name = prepared.name or "dry-run"
    codes = {key: each.folder for key, each in prepared.codes.items()}
    task = composer.compose_whole(
        plan, run=name, experiment=prepared.experiment, store_id=store.id, folder=store.folder(name),
        layout=lambda box, step: backend.layout(box, step.inputs, step.outputs, step.files),
        code=lambda key: None if key is None else codes[key], single_sweep=prepared.kind == "sweep",
    )  # fmt: skip
    return backend.render(task)


def render(
    backend: Backend, step: Step, store: Store, name: str | None, *, experiment: str = "", code: Path | None = None
) -> Mapping[str, object]:
    """What the backend would be sent for the first attempt. code: see `Task.code`."""
    folder = store.folder(name or "dry-run").attempt(1)
    box = Box(folder.box)
    task = composer.compose_task(
        step, run=name or "dry-run", experiment=experiment, number=1, store_id=store.id,
        secrets=dict.fromkeys(step.secrets, ""), box=box, log=folder.log,
        layout=backend.layout(box, step.inputs, step.outputs, step.files), code=code,
    )  # fmt: skip
    return backend.render(task)


def _text(value: str) -> str:
    """As text that SQLite takes: a file's name may hold bytes that are none."""
    return os.fsencode(value).decode("utf-8", "replace")
