"""Two inventories → how they differ: "why does it work here and not in the image?". Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from packaging.version import InvalidVersion, Version

from runner.spec import rversion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.builder.stock.asked import Ask
    from runner.builder.stock.inventory import Found, Inventory
    from runner.spec.lock import LockedKind

What = Literal["missing", "version", "constraint", "asked"]
_ORDER: tuple[LockedKind, ...] = ("pip", "conda", "r", "apt")
"""Python and R packages first: they are what scripts name."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a difference. version: None where it is missing, or only asked for. ask: what its libs file says.
    via: the manager that brought it, where that is another than the difference's."""

    version: str | None = None
    ask: str | None = None
    via: LockedKind | None = None

    def to_json(self) -> dict[str, str | None]:
        """As documented in docs/json.md."""
        return {"version": self.version, "ask": self.ask, "via": self.via}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same.

    kind: `python` and `r-version` are the interpreters. what: `missing` on one side; another `version`; a version that does
    not fit a `constraint` of the other side's libs file; `asked` for differently, both versions not known. declared: a
    libs file names it. alone: the kind is on one side only, so that all of it differs. broken: (version, item that it does
    not fit).
    """

    kind: LockedKind | Literal["python", "r-version"]
    name: str
    what: What
    a: Side
    b: Side
    declared: bool = False
    alone: bool = False
    broken: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As documented in docs/json.md."""
        return {
            "kind": self.kind, "name": self.name, "what": self.what, "declared": self.declared,
            "a": self.a.to_json(), "b": self.b.to_json(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """a, b: the sides. differences: interpreters first, then what is declared, then the rest. compared: how many were."""

    a: Inventory
    b: Inventory
    differences: tuple[Difference, ...]
    compared: int


def compare(a: Inventory, b: Inventory) -> Comparison:
    """How two inventories differ; what only one of them can know is no difference."""
    found = list(_interpreters(a, b))
    compared = 0
    matched: set[tuple[str, LockedKind, str]] = set()
    for kind in _ORDER:
        names = {*a.of(kind), *b.of(kind), *a.asks.get(kind, ()), *b.asks.get(kind, ())}
        alone = _alone(kind, a, b)
        for name in sorted(names):
            if _told_before(kind, name, a, b, matched):
                continue
            left, right = a.find(kind, name), b.find(kind, name)
            matched |= {(side, each.kind, name) for side, each in (("a", left), ("b", right)) if each}
            compared += 1
            if difference := _difference(kind, name, (a, left), (b, right), alone=alone):
                found.append(difference)
    found.sort(key=_weight)
    return Comparison(a, b, tuple(found), compared)


def _weight(each: Difference) -> tuple[bool, bool, int, bool]:
    """Interpreters, then what is declared, then the kinds; what is there in two versions before what is missing."""
    row = next((number for number, kind in enumerate(_ORDER) if kind == each.kind), -1)
    return row >= 0, not each.declared, row, each.what == "missing"


def _alone(kind: LockedKind, a: Inventory, b: Inventory) -> bool:
    return bool(a.of(kind)) != bool(b.of(kind))


def _told_before(
    kind: LockedKind, name: str, a: Inventory, b: Inventory, matched: set[tuple[str, LockedKind, str]]
) -> bool:
    """Debian's R packages are compared as R's; conda's `numpy` was compared with pip's."""
    if kind == "apt" and name.startswith(("r-cran-", "r-bioc-")):
        return True
    here = [(side, kind, name) for side, each in (("a", a), ("b", b)) if name in each.of(kind)]
    return bool(here) and all(each in matched for each in here)


def _interpreters(a: Inventory, b: Inventory) -> Iterator[Difference]:
    left, right = Side(a.python, a.python_ask or None), Side(b.python, b.python_ask or None)
    broken = tuple(
        (other.python, f"python: {one.python_ask}")
        for one, other in ((a, b), (b, a))
        if one.python_ask and other.python and not _is(other.python, one.python_ask)
    )
    declared = bool(a.python_ask or b.python_ask)
    if broken or (a.python is not None and b.python is not None and a.python != b.python):
        what: What = "constraint" if broken else "version" if a.python and b.python else "missing"
        yield Difference("python", "Python", what, _or_missing(left), _or_missing(right), declared, broken=broken)
    if a.r is not None and b.r is not None and a.r != b.r:
        what = "version" if a.r and b.r else "missing"
        yield Difference("r-version", "R", what, _or_missing(Side(a.r)), _or_missing(Side(b.r)))


def _or_missing(side: Side) -> Side:
    return Side(side.version or None, side.ask)


def _is(version: str, asked: str) -> bool:
    return version == asked or version.startswith(f"{asked}.")


def _difference(
    kind: LockedKind, name: str, a: tuple[Inventory, Found | None], b: tuple[Inventory, Found | None], *, alone: bool
) -> Difference | None:
    (left, one), (right, other) = a, b
    asks = left.ask(kind, name), right.ask(kind, name)
    what = _what(kind, (left, one, asks[0]), (right, other, asks[1]))
    if what is None:
        return None
    shown = next(each.name for each in (one, other, *asks) if each is not None)
    if kind == "r" and shown.islower():  # Debian's spelling, where R's own is known too
        shown = next((each.name for each in (one, other, *asks) if each and not each.name.islower()), shown)
    sides = [
        Side(
            each.version if each else None, ask.text if ask else None, each.kind if each and each.kind != kind else None
        )
        for each, ask in ((one, asks[0]), (other, asks[1]))
    ]
    crossed = ((one, asks[1]), (other, asks[0]))
    broken = tuple((each.version, ask.text) for each, ask in crossed if each and ask and not ask.allows(each.version))
    return Difference(kind, shown, what, sides[0], sides[1], any(asks), alone, broken)


_Seen = tuple["Inventory", "Found | None", "Ask | None"]


def _what(kind: LockedKind, a: _Seen, b: _Seen) -> What | None:
    (left, one, ask_a), (right, other, ask_b) = a, b
    if one and other:
        same = _same(kind, one, other)
        if _broken(ask_a, other) or _broken(ask_b, one):
            return None if same else "constraint"
        return None if same else "version"
    if one or other:
        found, ask, empty = (one, ask_b, right) if one else (other, ask_a, left)
        if ask is not None:  # asked for there, the version not known
            return "constraint" if _broken(ask, found) else "missing" if not _open(empty) else None
        return "missing" if kind in empty.whole else None
    return _of_asks(kind, left, right, ask_a, ask_b)


def _of_asks(kind: LockedKind, a: Inventory, b: Inventory, ask_a: Ask | None, ask_b: Ask | None) -> What | None:
    """Neither side has it: one asks for what the other lacks, or both are libs files."""
    if a.only_asks and b.only_asks:
        same = ask_a and ask_b and (ask_a.constraint, ask_a.conditional) == (ask_b.constraint, ask_b.conditional)
        return None if same else "asked"
    ask, asking, other = (ask_a, a, b) if ask_a else (ask_b, b, a)
    if ask is None or ask.conditional or kind not in other.whole:
        return None
    # What was resolved, and yet is not there, is one of Debian's virtual packages: another provides it.
    return None if kind == "apt" and not asking.only_asks else "missing"


def _open(side: Inventory) -> bool:
    """Whether what is asked for there is still to be resolved, rather than lacking."""
    return side.source == "libs"


def _broken(ask: Ask | None, found: Found | None) -> bool:
    return ask is not None and found is not None and not ask.allows(found.version)


def _same(kind: LockedKind, one: Found, other: Found) -> bool:
    """Versions that mean the same; one that is not known differs from none."""
    if one.version == other.version or not (one.version and other.version):
        return True
    if kind == "r":
        return rversion.key(one.version) == rversion.key(other.version)
    if kind == "apt":
        return False
    try:
        return Version(one.version) == Version(other.version)
    except InvalidVersion:
        return False
