"""`--set KEY=VALUE`: members of a job file that are given on the command line, put in before anything is checked."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.spec.job.shapes import meant
from runner.spec.yamldoc import Document, scalar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.spec.yamldoc import KeyPath

_NAMES = {"inputs", "outputs", "jobs", "search_space"}
"""Mappings with names of the user's: a name in them must be there already."""
_DATA = {"type", "path", "mode"}


@dataclass
class Overridden:
    """A document with the values of `--set` in it. given: values for inputs that a component declares."""

    document: Document
    sets: set[KeyPath] = field(default_factory=set)
    given: dict[str, Any] = field(default_factory=dict)


def override(document: Document, sets: Sequence[tuple[str, str]], *, component: bool) -> Overridden:
    """Put in what `--set` gives.

    Args:
        component: whether the file declares inputs rather than giving them values: `inputs.x=…` is then a value for it.

    Raises:
        SpecError: a name that is not there, or a key below a value.
    """
    if not sets:
        return Overridden(document)
    texts, lines = dict(document.texts), dict(document.lines)
    changed = Overridden(Document(document.file, copy.deepcopy(document.data), lines, texts))
    for key, text in sets:
        path = tuple(key.split("."))
        if not all(path):
            raise SpecError(
                f"{key!r} is not a key", "expected such as inputs.lr or jobs.train.limits.timeout", key="--set"
            )
        if component and len(path) > 1 and path[0] == "inputs":
            name = ".".join(path[1:])
            _known(name, _mapping(changed.document.data, "inputs"), path)
            changed.given[name] = scalar(text)
            texts["inputs", name] = text
            changed.sets.add(("inputs", name))
            continue
        at, made = _put(changed.document.data, path, scalar(text))
        texts[at] = text
        changed.sets.add(made)
    return changed


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> tuple[KeyPath, KeyPath]:
    """Put a value at its place; the place, and the outermost thing that was not there before."""
    place: Any = data
    part: Any
    at: list[str | int] = []
    made: KeyPath | None = None
    rest = list(path)
    while len(rest) > 1:
        part = _part(place, rest, at, path)
        below = place[part] if isinstance(place, list) else place.setdefault(part, {})
        if below is None:
            below = place[part] = {}
        made = made or (None if below else tuple(at))
        if not isinstance(below, dict | list):
            inner = ".".join(map(str, at))
            raise SpecError(
                f"{inner} is a value ({below!r}), so nothing can be set below it", f"--set {inner}=VALUE",
                key=f"--set {'.'.join(path)}",
            )  # fmt: skip
        place = below
    part = _part(place, rest, at, path)
    held = place[part] if isinstance(place, list) else place.get(part)
    if isinstance(held, dict) and len(at) >= 2 and at[-2] == "inputs":
        inner_key = next((key for key in ("value", "default") if key in held), None)
        inner_key = inner_key if inner_key and not {"path"} & held.keys() else "path"
        held[inner_key] = value
        return (*at, inner_key), (*at, inner_key)
    if isinstance(held, dict | list):
        what = "a mapping" if isinstance(held, dict) else "a list"
        raise SpecError(f"it is {what}; set what is in it", *_inside(path, held), key=f"--set {'.'.join(path)}")
    place[part] = value
    return tuple(at), made or tuple(at)


def _part(place: dict[str, Any] | list[Any], rest: list[str], at: list[str | int], path: tuple[str, ...]) -> str | int:
    """The next part of the path, checked, and taken off `rest`. Names may hold dots: the longest that is there wins."""
    if isinstance(place, list):
        part = rest.pop(0)
        if not part.isdecimal() or int(part) >= len(place):
            raise SpecError(f"{part!r} is no index of a list of {len(place)}", key=f"--set {'.'.join(path)}")
        at.append(int(part))
        return int(part)
    for length in range(len(rest), 0, -1):
        if (name := ".".join(rest[:length])) in place:
            break
    else:
        name, length = rest[0], 1
        open_inputs = at[-1:] == ["inputs"] and len(at) > 1  # of a step: its component may declare more
        if at[-1:] and at[-1] in _NAMES and not open_inputs:
            _known(name, place, path)
    del rest[:length]
    at.append(name)
    return name


def _known(name: str, names: Mapping[str, Any], path: tuple[str, ...]) -> None:
    if name not in names:
        raise SpecError(f"there is no {name!r}", *meant(name, names), key=f"--set {'.'.join(path)}")


def _mapping(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _inside(path: tuple[str, ...], held: dict[str, Any] | list[Any]) -> tuple[str, ...]:
    return (f"such as --set {'.'.join(path)}.{next(iter(held), 'NAME')}=VALUE",) if isinstance(held, dict) else ()
