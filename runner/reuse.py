"""What makes two steps the same, so that one need not run again; and which steps a resumed run takes over. Pure.

The rule is Azure ML's (a deterministic component with the same code, command, environment, inputs and parameters), by
content: of an input counts what is in it, not where it came from. What may be used (limits, retries), and what things are
called (tags, display names, the step's own name), does not count. Of secrets only the names are known here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from runner.errors import ConflictError, NotFoundError
from runner.model import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runner.plan import Plan, PlanStep, SweepPlan

_VERSION = "runner reuse 1"
"""Part of every key: raised when what a step is given changes, so that nothing from before is reused."""

_LONG = 400
"""Longer texts are kept as their beginning and their digest; thousands of steps keep their fields."""

_KINDS = ("code", "command", "arguments", "image", "input", "parameter", "variable", "secret", "output", "sweep")
"""First words of the fields, in the order in which people look for what changed."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which two steps differ; None where one of them does not have it."""

    field: str
    before: str | None
    after: str | None


def fields(step: PlanStep, code: str | None, inputs: Mapping[str, str]) -> dict[str, str]:
    """All that decides what the step leaves: name → short text or digest.

    Args:
        code: the digest of its code folder; None: it has none.
        inputs: the content of every input, upstream ones too, by `content`.
    """
    task = step.step
    found = {
        "code": code or "none",
        **({"command": task.argv[2]} if task.argv[:2] == ("bash", "-c") else {"arguments": json.dumps(task.argv)}),
        "image": task.image or "none: this machine",
        **{f"input {name}": text for name, text in inputs.items()},
        **{f"parameter {name}": text for name, text in task.parameters.items()},
        **{f"variable {name}": text for name, text in task.env.items()},
        **{f"secret {name}": "given" for name in task.secrets},
        **{f"output {name}": "file" if name in task.files else f"folder {folder or ''}".strip()
           for name, folder in task.outputs.items()},
        **(dict(_sweep(step.sweep)) if step.sweep else {}),
    }  # fmt: skip
    return {name: _short(text) for name, text in sorted(found.items(), key=lambda item: _order(item[0]))}


def content(digest: str, file: str | None = None) -> str:
    """The text of an input for `fields`. file: its name where it is one file, since scripts look at extensions."""
    return f"{digest} {file}" if file else digest


def key(found: Mapping[str, str]) -> str:
    """One digest for all fields, which begins with `beginning`: two steps with the same are the same."""
    return beginning(found) + _digest(found)[:48]


def beginning(found: Mapping[str, str]) -> str:
    """How the key begins, whatever the inputs hold: a step of which no key begins so need not wait for their digests."""
    return _digest({name: text for name, text in found.items() if not name.startswith("input ")})[:16]


def _digest(found: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([_VERSION, sorted(found.items())]).encode()).hexdigest()


def obstacle(step: PlanStep, *, force_rerun: bool = False) -> str | None:
    """Why the step has to run, whatever ran before; None where it may be reused."""
    if step.step.writable:
        return f"it may write to its input {', '.join(step.step.writable)}"
    if not step.reusable:
        return "it is not deterministic (is_deterministic: false)"
    return "force_rerun was set" if force_rerun else None


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> Sequence[Difference]:
    """The fields that are not the same in both, in the order in which people look for them."""
    names = sorted(before.keys() | after.keys(), key=_order)
    return tuple(Difference(each, before.get(each), after.get(each)) for each in names
                 if before.get(each) != after.get(each))  # fmt: skip


def nearest(
    earlier: Iterable[tuple[str, Mapping[str, str]]], now: Mapping[str, str]
) -> tuple[str, Sequence[Difference]] | None:
    """Of the earlier runs (name, fields), newest first, the one that differs least: (its name, the differences)."""
    compared = ((name, difference(found, now)) for name, found in earlier)
    return min(compared, key=lambda pair: len(pair[1]), default=None)


def _sweep(sweep: SweepPlan) -> Iterator[tuple[str, str]]:
    for name, distribution in sweep.search_space.items():
        said = {member: value for member, value in asdict(distribution).items() if value not in (None, ())}
        yield f"sweep space {name}", _plain({member: said[member] for member in said if member != "where"})
    yield "sweep objective", f"{sweep.objective.goal} {sweep.objective.metric}"
    yield "sweep sampling", _plain(asdict(sweep.sampling))
    yield "sweep limits", _plain(asdict(sweep.limits))
    if sweep.early_termination:
        yield "sweep early termination", _plain(asdict(sweep.early_termination))


def _plain(data: object) -> str:
    return json.dumps(data, sort_keys=True)


def _short(text: str) -> str:
    if len(text) <= _LONG:
        return text
    return f"{text[: _LONG // 2]}… sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _order(field: str) -> tuple[int, str]:
    kind = field.partition(" ")[0]
    return (_KINDS.index(kind) if kind in _KINDS else len(_KINDS), field)


# -- what a resumed run takes over ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Earlier:
    """A step of an earlier run. outputs: those that are there, whole."""

    run: str
    status: Status
    outputs: frozenset[str]


def taken_over(plan: Plan, earlier: Mapping[str, Earlier], from_step: str | None = None) -> Mapping[str, str]:
    """The steps that need not run, with the run that each is taken over from.

    Without `from_step`: what completed, unless it depends on what did not. With it (a step, or a nested pipeline): that
    step and what depends on it run anew, and everything else is taken over.

    Raises:
        NotFoundError: the plan has no such step.
        ConflictError: with `from_step`: not everything else had completed.
    """
    there = {step.name: found.run for step in plan.steps if (found := _whole(step, earlier))}
    if from_step is None:
        anew = _with_dependents(plan, {step.name for step in plan.steps if step.name not in there})
        return {name: run for name, run in there.items() if name not in anew}
    anew = _with_dependents(plan, _meant(plan, from_step))
    missing = [step.name for step in plan.steps if step.name not in anew and step.name not in there]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ConflictError(
            f"cannot begin at {from_step}: what it does not run has not completed before: {shown}",
            "begin at an earlier step, or let runner find what has to run: leave out --from",
        )
    return {name: run for name, run in there.items() if name not in anew}


def _whole(step: PlanStep, earlier: Mapping[str, Earlier]) -> Earlier | None:
    """What the step can be taken over from: completed, with all the outputs that the plan wants of it now."""
    found = earlier.get(step.name)
    if found is None or found.status is not Status.COMPLETED or not found.outputs >= step.step.outputs.keys():
        return None
    return found


def _meant(plan: Plan, name: str) -> set[str]:
    found = {step.name for step in plan.steps if step.name == name or step.name.startswith(f"{name}.")}
    if found:
        return found
    from runner.spec.yamldoc import nearest as nearest_word

    known = [step.name for step in plan.steps]
    near = nearest_word(name, known)
    hint = f"did you mean {near}?" if near else f"there are: {', '.join(known[:20])}"
    raise NotFoundError(f"the pipeline has no step {name!r}", hint)


def _with_dependents(plan: Plan, names: set[str]) -> set[str]:
    """The steps and all that comes after them. One pass, since a plan is in an order in which needs come first."""
    found = set(names)
    for step in plan.steps:
        if step.needs & found:
            found.add(step.name)
    return found
