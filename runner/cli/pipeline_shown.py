"""How registered pipelines look, those of this machine and those of a workspace alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner import console

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Shown:
    """A registered pipeline as people see it.

    registered: local time. versions: the newest first. inputs: (name, type, what it is if nothing is said). outputs: (name,
    type). ways: what to do with it.
    """

    name: str
    version: str
    description: str
    registered: str
    versions: Sequence[str] = ()
    inputs: Sequence[tuple[str, str, str]] = ()
    outputs: Sequence[tuple[str, str]] = ()
    ways: Sequence[str] = field(default=())


def table(rows: Sequence[Shown]) -> None:
    """One line for each."""
    console.table(
        ("NAME", "VERSION", "REGISTERED", "DESCRIPTION"),
        [(row.name, row.version, row.registered, row.description) for row in rows],
    )


def whole(row: Shown) -> None:
    """Everything of one."""
    ends = [("input", *each) for each in row.inputs] + [("output", *each, "") for each in row.outputs]
    names, kinds = (max((len(each[place]) for each in ends), default=0) for place in (1, 2))
    lines = [
        f"{row.name}@{row.version}   {row.description}",
        f"  {'registered':<12}{row.registered}",
        f"  {'versions':<12}{', '.join(row.versions)}",
        *(f"  {what:<12}{name:<{names}}  {kind:<{kinds}}  {value}" for what, name, kind, value in ends),
        *(f"  {way}" for way in row.ways),
    ]
    for line in lines:
        console.result(console.printable(line).rstrip())


def value(given: object, *, optional: bool) -> str:
    """What an input is if nothing is said."""
    if given is None:
        return "optional" if optional else "required"
    return str(given)
