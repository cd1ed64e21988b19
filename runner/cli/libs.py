"""`runner libs diff`: why it works here and not in the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.builder.stock.diff import Comparison, Difference, Side
    from runner.builder.stock.inventory import Inventory

_SIDE = "A libs file, a lock, an image (name, NAME:TAG or id), or `local`: this machine."
_AT_MOST = 40
"""So many rows of what nobody declared are shown without --all."""


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=_SIDE)],
    b: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    all_: Annotated[
        bool, typer.Option("--all", help="Every difference, also of system packages nobody declared.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """How the libraries of two things differ: libs files, locks, images, this machine. Exits 1 if they do."""
    from runner.builder.stock.diff import compare
    from runner.builder.stock.sides import open_side

    found = compare(open_side(a), open_side(b))
    for side in (found.a, found.b):
        for note in side.notes:
            console.say("note", note)
    if json:
        console.result_json(_json_of(found))
    elif not found.differences:
        console.result(f"no difference in {found.compared} packages")
    else:
        _print(found, every=all_)
    return 1 if found.differences else 0


def _json_of(found: Comparison) -> dict[str, Any]:
    return {
        "same": not found.differences,
        "compared": found.compared,
        "a": _side_json(found.a),
        "b": _side_json(found.b),
        "differences": [each.to_json() for each in found.differences],
    }


def _side_json(side: Inventory) -> dict[str, Any]:
    return {
        "name": side.shown, "source": side.source, "python": side.python, "r": side.r,
        "packages": {kind: len(of) for kind, of in side.packages.items()}, "notes": [*side.notes],
    }  # fmt: skip


def _print(found: Comparison, *, every: bool) -> None:
    shown, hidden = _chosen(found.differences, every=every)
    if shown:
        console.table(
            ("KIND", "PACKAGE", found.a.shown, found.b.shown, ""),
            [(_kind(each), each.name, _cell(each, each.a), _cell(each, each.b), _remark(each)) for each in shown],
            ["red" if each.what in {"constraint", "missing"} else "yellow" for each in shown],
        )
    for kind in dict.fromkeys(each.kind for each in hidden):
        of_kind = [each for each in hidden if each.kind == kind]
        console.result(f"{kind}: {_summary(of_kind, found)}  (--all lists them)")


def _chosen(every_one: Sequence[Difference], *, every: bool) -> tuple[list[Difference], list[Difference]]:
    """(shown, only counted). Shown is what scripts can tell: the interpreters, what is declared, and Python and R packages
    where both sides have any. Debian's and what is on one side only is a matter of how the machine was made."""
    if every:
        return list(every_one), []
    shown = [each for each in every_one if each.declared or each.kind in {"python", "r-version"}]
    others = [each for each in every_one if each not in shown and each.kind != "apt" and not each.alone]
    shown += others[:_AT_MOST]
    return shown, [each for each in every_one if each not in shown]


def _kind(each: Difference) -> str:
    return "" if each.kind in {"python", "r-version"} else each.kind


def _cell(each: Difference, side: Side) -> str:
    if side.version is not None:
        return (side.version or "any") + (f" ({side.via})" if side.via else "")
    if side.ask is not None and each.what in {"constraint", "asked", "missing"}:
        return _wish(each, side.ask)
    return "-"


def _wish(each: Difference, ask: str) -> str:
    """`asks for ==2.2.*`, without the name, which stands beside it."""
    rest = ask[len(each.name) :] if ask.lower().startswith(each.name.lower()) else ask
    return f"asks for {rest.strip() or 'any'}"


def _remark(each: Difference) -> str:
    if each.what != "constraint":
        return "declared" if each.declared else ""
    return "; ".join(f"{version} does not fit {ask}" for version, ask in each.broken)


def _summary(of_kind: Sequence[Difference], found: Comparison) -> str:
    only_a = sum(1 for each in of_kind if each.what == "missing" and each.b.version is None)
    only_b = sum(1 for each in of_kind if each.what == "missing" and each.a.version is None)
    other = len(of_kind) - only_a - only_b
    parts = [f"{other} of another version"] * bool(other)
    parts += [f"{only_a} only in {found.a.shown}"] * bool(only_a) + [f"{only_b} only in {found.b.shown}"] * bool(only_b)
    return ", ".join(parts)
