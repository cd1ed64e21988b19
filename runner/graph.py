"""A plan drawn: as a text tree, as Mermaid, as Graphviz's DOT. Pure.

Names come from other people's files. In every drawing a node has an id of ours (`s0`), and a name stands only in a label,
where each character that could mean something is escaped; so no name can end a label and begin a statement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from runner.plan import Plan, PlanStep, SweepPlan

FORMATS = ("text", "mermaid", "dot")

_MANY = 4
"""So many names of one kind stand in a line; a step that joins 200 others says how many there are."""

_COLOURS = {"Completed": "#d7f0dd", "Failed": "#f7d4d4", "Canceled": "#f7ecc8", "Skipped": "#e8e8e8",
            "Running": "#d5e5f8"}  # fmt: skip
"""Status → the fill of its steps. The status stands in the label too."""


def draw(plan: Plan, form: str, statuses: Mapping[str, str] | None = None) -> str:
    """The plan in one of FORMATS.

    Args:
        statuses: step → where it stands (`Completed`, `Failed · OutOfMemory`), for the plan of a run.
    """
    lines = {"text": _text, "mermaid": _mermaid, "dot": _dot}[form](plan, statuses or {})
    return "\n".join(lines)


# -- what all of them draw --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Group:
    """The steps of one nested pipeline, under their names within it; the top has no name."""

    members: dict[str, PlanStep | _Group] = field(default_factory=dict)


def _grouped(plan: Plan) -> _Group:
    """The steps as the tree that their dotted names are, each level in an order in which needs come first."""
    top = _Group()
    for step in plan.steps:
        *outer, name = step.name.split(".")
        group = top
        for part in outer:
            found = group.members.setdefault(part, _Group())
            # A step and a group of one name cannot be: a node of a pipeline is the one or the other.
            group = found if isinstance(found, _Group) else top
        group.members[name] = step
    _sort(top)
    return top


def _sort(group: _Group) -> set[str]:
    """Order the members of a group by what they need of each other; the names of the steps in it.

    Steps of a nested pipeline may lie apart in the plan, with steps of others between them.
    """
    inside = {
        name: _sort(member) if isinstance(member, _Group) else {member.name} for name, member in group.members.items()
    }
    home = {step: name for name, steps in inside.items() for step in steps}
    waits = {name: {home[need] for need in _needs(member) if need in home} - {name}
             for name, member in group.members.items()}  # fmt: skip
    ordered: dict[str, PlanStep | _Group] = {}
    while waits:
        ready = next((name for name, needs in waits.items() if needs <= ordered.keys()), next(iter(waits)))
        ordered[ready] = group.members[ready]
        del waits[ready]
    group.members = ordered
    return set(home)


def _needs(member: PlanStep | _Group) -> frozenset[str]:
    if isinstance(member, _Group):
        return frozenset().union(*(_needs(each) for each in member.members.values()))
    return member.needs


def _sweep(sweep: SweepPlan) -> str:
    trials = sweep.limits.max_total_trials
    count = f"{trials} trials, " if trials else ""
    return f"sweep: {count}{sweep.sampling.kind}, {sweep.objective.goal} {sweep.objective.metric}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MANY
    return ", ".join(names[:_MANY]) + (f" and {more} more" if more > 0 else "")


def _flows(step: PlanStep) -> dict[str, list[str]]:
    """The steps that this one takes from → what flows (`model`, or `model as start` where the input is called so)."""
    flows: dict[str, list[str]] = {}
    for name, source in step.upstream.items():
        flow = name if name == source.output else f"{source.output} as {name}"
        flows.setdefault(source.step, []).append(flow)
    return flows


def _printable(text: str) -> str:
    """One line of visible characters: a name may hold what moves a terminal's cursor."""
    return "".join(character if character.isprintable() else "�" for character in text)


# -- text -------------------------------------------------------------------------------------------------------------


def _text(plan: Plan, statuses: Mapping[str, str]) -> Iterator[str]:
    rows = list(_rows(_grouped(plan), statuses, 0))
    name = max((len(row[0]) for row in rows), default=0)
    status = max((len(row[1]) for row in rows), default=0)
    for row in rows:
        parts = (row[0].ljust(name), row[1].ljust(status) if status else "", *row[2:])
        yield "  ".join(part for part in parts if part).rstrip()
    if plan.outputs:
        yield ""
        for output, source in plan.outputs.items():
            yield _printable(f"output {output} ← {source.step}.{source.output}")


def _rows(group: _Group, statuses: Mapping[str, str], depth: int) -> Iterator[tuple[str, ...]]:
    """(name, status, what it takes, what it leaves, remarks) of each line; a nested pipeline has a line of its own."""
    for name, member in group.members.items():
        shown = "  " * depth + _printable(name)
        if isinstance(member, _Group):
            yield f"{shown}/", ""
            yield from _rows(member, statuses, depth + 1)
            continue
        takes = [f"{name}: {source.step}.{source.output}" for name, source in member.upstream.items()]
        takes += [f"{name}: {path}" for name, path in member.step.inputs.items()]
        parts = [
            f"← {_some(takes)}" if takes else "",
            f"→ {_some(list(member.step.outputs))}" * bool(member.step.outputs),
        ]
        parts.append(f"[{_sweep(member.sweep)}]" if member.sweep else "")
        parts.append("" if member.reusable else "[not deterministic]")
        yield shown, *(_printable(part) for part in (statuses.get(member.name, ""), *filter(None, parts)))


# -- diagrams ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Language:
    """What tells the two diagram languages apart. label: lines of text → a quoted label."""

    step: Callable[[str, str, bool], str]
    data: Callable[[str, str], str]
    edge: Callable[[str, str, str], str]
    open: Callable[[str, str], str]
    close: str
    label: Callable[[Iterable[str]], str]


def _mermaid(plan: Plan, statuses: Mapping[str, str]) -> Iterator[str]:
    ids = {step.name: f"s{number}" for number, step in enumerate(plan.steps)}
    yield "flowchart TD"
    yield from _body(plan, statuses, ids, _MERMAID)
    for status, colour in _COLOURS.items():
        if fit := [ids[step] for step, text in statuses.items() if step in ids and text.startswith(status)]:
            yield f"  classDef {status} fill:{colour},stroke:#555,color:#111"
            yield f"  class {','.join(fit)} {status}"


def _dot(plan: Plan, statuses: Mapping[str, str]) -> Iterator[str]:
    ids = {step.name: f"s{number}" for number, step in enumerate(plan.steps)}
    yield "digraph plan {"
    yield "  node [shape=box, style=filled, fillcolor=white, fontname=sans]"
    yield "  edge [fontname=sans, fontsize=10]"
    yield from _body(plan, statuses, ids, _DOT)
    for step, text in statuses.items():
        colour = next((colour for status, colour in _COLOURS.items() if text.startswith(status)), None)
        if step in ids and colour:
            yield f'  {ids[step]} [fillcolor="{colour}"]'
    yield "}"


def _body(plan: Plan, statuses: Mapping[str, str], ids: Mapping[str, str], language: _Language) -> Iterator[str]:
    data = {path: f"d{number}" for number, path in enumerate(_data(plan))}
    yield from _nodes(_grouped(plan), statuses, ids, language, "g")
    for path, node in data.items():
        yield "  " + language.data(node, language.label([PurePosixPath(path).name or path]))
    for number, output in enumerate(plan.outputs):
        yield "  " + language.data(f"o{number}", language.label([f"output {output}"]))
    for step in plan.steps:
        for path in dict.fromkeys(step.step.inputs.values()):
            names = [name for name, each in step.step.inputs.items() if each == path]
            yield "  " + language.edge(data[path], ids[step.name], language.label([_some(names)]))
        for source, flows in _flows(step).items():
            yield "  " + language.edge(ids[source], ids[step.name], language.label([_some(flows)]))
    for number, origin in enumerate(plan.outputs.values()):
        yield "  " + language.edge(ids[origin.step], f"o{number}", language.label([origin.output]))


def _data(plan: Plan) -> Iterable[str]:
    return dict.fromkeys(path for step in plan.steps for path in step.step.inputs.values())


def _nodes(
    group: _Group, statuses: Mapping[str, str], ids: Mapping[str, str], language: _Language, prefix: str
) -> Iterator[str]:
    for number, (name, member) in enumerate(group.members.items()):
        if isinstance(member, _Group):
            yield "  " + language.open(f"{prefix}{number}", language.label([name]))
            yield from (f"  {line}" for line in _nodes(member, statuses, ids, language, f"{prefix}{number}_"))
            yield "  " + language.close
            continue
        lines = [name, *([_sweep(member.sweep)] if member.sweep else []), statuses.get(member.name, "")]
        label = language.label(line for line in lines if line)
        yield "  " + language.step(ids[member.name], label, member.sweep is not None)


def _mermaid_label(lines: Iterable[str]) -> str:
    """Mermaid knows no backslash; `#NUMBER;` is a character. All but plain ones are written so."""

    def safe(text: str) -> str:
        return "".join(each if each.isalnum() or each in " -_./:," else f"#{ord(each)};" for each in _printable(text))

    return '"' + "<br/>".join(safe(line) for line in lines) + '"'


def _dot_label(lines: Iterable[str]) -> str:
    """In DOT a backslash begins an escape, and `&` an HTML entity."""

    def safe(text: str) -> str:
        return _printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")

    return '"' + "\\n".join(safe(line) for line in lines) + '"'


_MERMAID = _Language(
    step=lambda node, label, sweep: f"{node}[[{label}]]" if sweep else f"{node}[{label}]",
    data=lambda node, label: f"{node}[({label})]",
    edge=lambda one, two, label: f"{one} -->|{label}| {two}",
    open=lambda node, label: f"subgraph {node}[{label}]",
    close="end",
    label=_mermaid_label,
)
_DOT = _Language(
    step=lambda node, label, sweep: f"{node} [label={label}{', peripheries=2' if sweep else ''}]",
    data=lambda node, label: f"{node} [label={label}, shape=cylinder]",
    edge=lambda one, two, label: f"{one} -> {two} [label={label}]",
    open=lambda node, label: f"subgraph cluster_{node} {{ label={label}",
    close="}",
    label=_dot_label,
)
