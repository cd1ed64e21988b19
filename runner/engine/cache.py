"""Which steps need not run: their keys, what is found under them, and what is remembered of those that ran.

Files are read in threads: the digest of what a step left, and of the user's inputs, while other steps go on. The store is
asked and written by the caller's thread alone, with the transactions that are made anyway.
"""

from __future__ import annotations

import errno
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from runner import reuse
from runner.digests import Digests
from runner.engine import taking
from runner.errors import NotFoundError
from runner.model import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.model import Outcome, Step
    from runner.plan import Plan, PlanStep
    from runner.store import AttemptFolder, RunRow, Store

Fields = dict[str, str]
_P = ParamSpec("_P")
_T = TypeVar("_T")

_THREADS = 2
"""Tasks wait only for tasks that were given earlier, and those are begun earlier: no number of threads is too small."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What stands for a step: the earlier run, and the digests of its outputs, where they are known."""

    earlier: RunRow
    outputs: Mapping[str, str] | None

    @property
    def origin(self) -> str:
        """The run that made it, however often it has been reused since."""
        return self.earlier.reused_from or self.earlier.name


class StepCache:
    """What one supervisor knows of the steps of its plan.

    Args:
        isolates: the backend keeps scripts from writing to their inputs, but for those that say so.
    """

    def __init__(self, store: Store, root: RunRow, plan: Plan, *, isolates: bool) -> None:
        self._store, self._root, self._plan = store, root, plan
        self._digests = Digests(store.cache / "digests")
        self._threads: ThreadPoolExecutor | None = None
        self._steps = {step.name: step for step in plan.steps}
        self._exposed = _exposed(plan, isolates=isolates)
        # Asked once each: thousands of equal steps would make the store look through each other's rows.
        self._any: dict[str, bool] = {}
        self._candidates: dict[str, list[Taken]] = {}
        self._outputs: dict[str, Future[Mapping[str, str]]] = {}
        self._begun: dict[str, Future[Fields]] = {}
        self._ended: list[tuple[RunRow, PlanStep, Future[tuple[Fields, str | None, Mapping[str, str] | None]]]] = []

    # -- before a step ----------------------------------------------------------------------------------------------

    def taken(self, plan_step: PlanStep) -> Taken | None:
        """What a resumed pipeline takes over for this step; it may have been deleted meanwhile."""
        name = self._plan.taken.get(plan_step.name)
        if name is None:
            return None
        try:
            return self._taken(self._store.get(name))
        except NotFoundError:
            return None

    def _taken(self, row: RunRow) -> Taken:
        return Taken(row, self._store.output_digests(row))

    def begin(self, plan_step: PlanStep, step: Step) -> Future[Fields] | None:
        """Begin to read the step's inputs; the fields to look for, or None when there is nothing to wait for."""
        found = self._begun[plan_step.name] = self._fields(plan_step, step)
        if reuse.obstacle(plan_step, force_rerun=self._plan.force_rerun) is not None:
            return None
        own = reuse.beginning(reuse.fields(plan_step, self._code(plan_step), {}))
        if own not in self._any:
            self._any[own] = self._store.any_cached(own, self._root)
        return found if self._any[own] else None

    def find(self, fields: Fields) -> list[Taken]:
        """Earlier runs of exactly these fields, newest first."""
        key = reuse.key(fields)
        if key not in self._candidates:
            self._candidates[key] = [self._taken(row) for row in self._store.cached(key, self._root)]
        return self._candidates[key]

    def take(self, row: RunRow, plan_step: PlanStep, found: list[Taken], *, strict: bool) -> Future[Taken | None]:
        """Lay the first of these that is whole into the step's folder."""
        target = self._store.folder(row.name).attempt(1)
        pairs = [(self._attempt(each.earlier), each) for each in found]
        return self._submit(self._first, pairs, target, self._exposed.get(plan_step.name, ()), strict)

    def _first(
        self, found: list[tuple[AttemptFolder, Taken]], target: AttemptFolder, copied: tuple[str, ...], strict: bool
    ) -> Taken | None:
        for source, each in found:
            if taking.take_over(source, target, each.origin, copied=copied, strict=strict):
                return each
        return None

    # -- after a step -----------------------------------------------------------------------------------------------

    def took(self, row: RunRow, plan_step: PlanStep, taken: Taken, fields: Fields | None) -> None:
        """Remember a step that an earlier run stands for. fields: None: it was taken over whatever they are."""
        known: Mapping[str, str] | None = taken.outputs
        if fields is None:
            fields = dict(self._store.fields_of(taken.earlier) or {})
            key = None
        else:
            key = reuse.key(fields)
        self._store.remember_step(row, fields=fields, key=key, outputs=known)
        if known is not None:
            self._outputs[plan_step.name] = _done(known)

    def ended(self, row: RunRow, plan_step: PlanStep, step: Step, outcome: Outcome, number: int) -> None:
        """Begin to read what a step that ran has left, for those that need it and for later runs."""
        attempt = self._store.folder(row.name).attempt(number)
        completed = outcome.status is Status.COMPLETED
        if completed:
            left: Mapping[str, taking.Entry] | None = None
            with suppress(OSError):  # Listed before any other step can begin, since one might write to it.
                left = taking.listing(attempt.artifacts)
            self._outputs[plan_step.name] = self._submit(_left, attempt, left, tuple(plan_step.step.outputs))
        if completed or outcome.status is Status.FAILED:
            before = self._begun.pop(plan_step.name, None)
            after = self._fields(plan_step, step)
            outputs = self._outputs[plan_step.name] if completed else None
            given = self._exposed_to(plan_step)
            ended = self._submit(_judged, before, after, outputs, given, reuse.obstacle(plan_step) is None)
            self._ended.append((row, plan_step, ended))

    def settle(self) -> bool:
        """Remember what has been read by now; whether that is all. A pipeline ends after this."""
        left = []
        for row, plan_step, ended in self._ended:
            if not ended.done():
                left.append((row, plan_step, ended))
            elif ended.exception() is None:  # else its files cannot be read: it is not reused, and that is all
                fields, key, outputs = ended.result()
                self._store.remember_step(row, fields=fields, key=key, outputs=outputs)
        self._ended = left
        return not left

    # -- reading ----------------------------------------------------------------------------------------------------

    def _fields(self, plan_step: PlanStep, step: Step) -> Future[Fields]:
        upstream = {name: (self._outputs_of(up.step), up.output) for name, up in plan_step.upstream.items()}
        given = {name: step.inputs[name] for name in plan_step.step.inputs}
        if not upstream and not given:
            return _done(reuse.fields(plan_step, self._code(plan_step), {}))
        return self._submit(self._read, plan_step, given, upstream)

    def _read(
        self,
        plan_step: PlanStep,
        given: Mapping[str, str],
        upstream: Mapping[str, tuple[Future[Mapping[str, str]], str]],
    ) -> Fields:
        inputs = {name: outputs.result()[output] for name, (outputs, output) in upstream.items()}
        for name, path in given.items():
            inputs[name] = reuse.content(self._digests.of(Path(path)), None if Path(path).is_dir() else Path(path).name)
        return reuse.fields(plan_step, self._code(plan_step), inputs)

    def _outputs_of(self, name: str) -> Future[Mapping[str, str]]:
        """The digests of a step that completed; after a restart of ours from the store, or read once more."""
        found = self._outputs.get(name)
        if found is None:
            row = self._store.child(self._root, name)
            known = self._store.output_digests(row)
            outputs, attempt = tuple(self._steps[name].step.outputs), self._attempt(row)
            found = _done(known) if known is not None else self._submit(_left, attempt, None, outputs)
            self._outputs[name] = found
        return found

    def _exposed_to(self, plan_step: PlanStep) -> list[AttemptFolder]:
        """What others left for the step, where a step could have written to it."""
        found = {up.step for up in plan_step.upstream.values() if up.output in self._exposed.get(up.step, ())}
        return [self._attempt(self._store.child(self._root, name)) for name in found]

    def _attempt(self, row: RunRow) -> AttemptFolder:
        return self._store.folder(row.name).attempt(max(1, row.attempts))

    def _code(self, plan_step: PlanStep) -> str | None:
        return None if plan_step.code is None else self._plan.code.get(plan_step.code, plan_step.code)

    def _submit(self, task: Callable[_P, _T], /, *args: _P.args, **options: _P.kwargs) -> Future[_T]:
        self._threads = self._threads or ThreadPoolExecutor(_THREADS, "reuse")
        return self._threads.submit(task, *args, **options)


def _left(
    attempt: AttemptFolder, before: Mapping[str, taking.Entry] | None, outputs: tuple[str, ...]
) -> Mapping[str, str]:
    """Read what a step left, and keep the listing of it.

    Args:
        before: the listing as it was when the step ended; None: nobody made one.

    Raises:
        OSError: somebody has written to it since then, or it cannot be read.
    """
    before = taking.listing(attempt.artifacts) if before is None else before
    plain = Digests(None)
    found = {name: plain.of(attempt.output(name)) for name in outputs if attempt.output(name).exists()}
    if taking.listing(attempt.artifacts) != before:
        raise OSError(errno.ESTALE, "it was written to after its step had ended", str(attempt.artifacts))
    taking.write_listing(attempt, before)
    return found


def _judged(
    before: Future[Fields] | None,
    after: Future[Fields],
    outputs: Future[Mapping[str, str]] | None,
    given: list[AttemptFolder],
    reusable: bool,
) -> tuple[Fields, str | None, Mapping[str, str] | None]:
    """The fields, the key if the step may be reused, and its outputs. Inputs that changed while it ran decided nothing.

    given: what other steps left for it, which this or a further step may have written to.
    """
    fields = after.result()
    left = None if outputs is None else outputs.result()
    same = before is not None and before.result() == fields and all(map(taking.untouched, given))
    return fields, reuse.key(fields) if reusable and same and left is not None else None, left


def _exposed(plan: Plan, *, isolates: bool) -> dict[str, tuple[str, ...]]:
    """The outputs of each step that another step could write to, by its right or because nothing keeps it from it."""
    found: dict[str, tuple[str, ...]] = {}
    for step in plan.steps:
        for name, up in step.upstream.items():
            if not isolates or name in step.step.writable:
                found[up.step] = (*found.get(up.step, ()), up.output)
    return found


def _done(value: _T) -> Future[_T]:
    future: Future[_T] = Future()
    future.set_result(value)
    return future
