"""Why a step ran, or did not: what was remembered of it, compared with the nearest earlier run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from runner import reuse
from runner.errors import NotFoundError
from runner.model import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.reuse import Difference
    from runner.store import RunRow, Store


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one step.

    answer: one sentence. nearest: the earlier run that it is compared with. differences: what is not the same in it.
    """

    step: str
    run: str
    answer: str
    reused_from: str | None = None
    nearest: str | None = None
    differences: Sequence[Difference] = ()

    def to_json(self) -> dict[str, Any]:
        """The documented shape of `runner why --json`; see docs/reuse.md."""
        return asdict(self)


def explain_all(store: Store, root: RunRow) -> Iterator[Explanation]:
    """Of every step of a pipeline, in the order of its plan."""
    for row in store.children(root):
        if row.kind == "step":
            yield explain(store, row)


def explain(store: Store, row: RunRow) -> Explanation:
    """Why this step ran, or did not.

    Raises:
        NotFoundError: it is no step of a pipeline.
    """
    if row.parent is None or row.kind != "step":
        raise NotFoundError(
            f"{row.name} is no step of a pipeline: what is submitted by itself always runs",
            f"see: runner show {row.name}",
        )
    step = str(row.path)
    if row.reused_from is not None:
        plan = store.plan(store.root_of(row))
        how = "taken over from" if step in plan.taken else "reused from"
        return Explanation(step, row.name, f"{how} {row.reused_from}", row.reused_from)
    if row.status in {Status.NOT_STARTED, Status.SKIPPED} or row.attempts == 0:
        return Explanation(step, row.name, f"did not run: {row.status}")
    if row.step.remote is not None:
        return Explanation(step, row.name, "ran; the service itself decides there what is reused, and does not say why")
    fields = store.fields_of(row)
    if fields is None:
        known = "is not known yet" if not row.status.terminal else "was never read, since it did not come to its end"
        return Explanation(step, row.name, f"ran; what it was given {known}")
    nearest = reuse.nearest(store.like(row), fields)
    why = _obstacle(store, row)
    if nearest is None:
        return Explanation(step, row.name, f"ran: {why or 'there is no earlier run of it'}")
    name, differences = nearest
    if why is None:
        things = "1 thing differs" if len(differences) == 1 else f"{len(differences)} things differ"
        why = f"{things} from {name}" if differences else _same(name)
    elif not differences:
        why += f"; nothing differs from {name}"
    return Explanation(step, row.name, f"ran: {why}", None, name, differences)


def _obstacle(store: Store, row: RunRow) -> str | None:
    plan = store.plan(store.root_of(row))
    step = next(each for each in plan.steps if each.name == row.path)
    if plan.taken and plan.force_rerun:
        return "it was asked for with --from, or depends on what was"
    return reuse.obstacle(step, force_rerun=plan.force_rerun)


def _same(name: str) -> str:
    return f"nothing differs from {name}, but that did not complete before this began, or its files were changed since"
