"""What may stand where in a job file: shapes that check plain data, and that give the JSON Schema of what they check.

A check tells all that is wrong, as (path, message, hints), hints None for what has no effect. It looks at forms alone: what
the values mean is read by others.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.spec.yamldoc import KeyPath

    Tell = Callable[[KeyPath, str, tuple[str, ...] | None], None]


class Shape(Protocol):
    """One form of a value."""

    @property
    def expected(self) -> str:
        """What an error says was expected."""
        ...

    def fits(self, value: Any) -> bool:
        """Whether the value is of this kind at all, whatever is in it."""
        ...

    def check(self, value: Any, path: KeyPath, tell: Tell) -> None:
        """Tell what is wrong with the value and all in it."""
        ...

    def schema(self) -> dict[str, Any]:
        """JSON Schema."""
        ...


def found(value: Any) -> str:
    """How a value is called in an error."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f"the text {value[:60]!r}"
        case _:
            return str(value)


_MANY, _COMPARED = 500, 50


def _few(word: str, words: Sequence[str]) -> Sequence[str]:
    """Of thousands of names only some that are much alike: a comparison takes 10 µs, and a file may have as many slips."""
    if len(words) <= _MANY:
        return words
    alike = (each for each in words if abs(len(each) - len(word)) <= 1 and each[:-2] == word[: len(each) - 2])
    return list(itertools.islice(alike, _COMPARED))


def meant(word: str, words: Any) -> tuple[str, ...]:
    """The hint with the nearest right word, else with all of them (if they are few)."""
    near = nearest(word, _few(word, list(words)))
    if near is not None:
        return (f"did you mean {near}?",)
    known = sorted(words) if isinstance(words, set | frozenset) else list(words)
    return (f"known: {', '.join(known[:40])}{' …' if len(known) > 40 else ''}",) if known else ()


@dataclass(frozen=True)
class Leaf:
    """A scalar. kinds: Python types that YAML makes of it. words: the only texts that are meant (any case), if given."""

    expected: str
    kinds: tuple[type, ...]
    types: tuple[str, ...]
    words: tuple[str, ...] = ()

    def fits(self, value: Any) -> bool:
        """See Shape. A boolean is no number."""
        return isinstance(value, self.kinds) and (type(value) is not bool or bool in self.kinds)

    def check(self, value: Any, path: KeyPath, tell: Tell) -> None:
        """See Shape. An expression may stand where a word is expected."""
        if not self.fits(value):
            tell(path, f"expected {self.expected}, found {found(value)}", ())
        elif self.words and str(value).lower() not in self.words and "${{" not in str(value):
            near = nearest(str(value), self.words)
            hints = (f"did you mean {near}?",) if near else ()
            tell(path, f"expected {_either(self.words)}, found {found(value)}", hints)

    def schema(self) -> dict[str, Any]:
        """See Shape."""
        if self.words and bool not in self.kinds:
            return {"enum": list(self.words)}
        return {"type": self.types[0] if len(self.types) == 1 else list(self.types)}


def _either(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


@dataclass(frozen=True)
class Anything:
    """Whatever it is: what only Azure ML reads."""

    expected: str = "anything"

    def fits(self, value: Any) -> bool:  # noqa: ARG002 - the protocol's
        """See Shape."""
        return True

    def check(self, value: Any, path: KeyPath, tell: Tell) -> None:
        """See Shape."""

    def schema(self) -> dict[str, Any]:
        """See Shape."""
        return {}


@dataclass(frozen=True)
class ListOf:
    """A list of items of one shape."""

    item: Shape
    expected: str = "a list ([a, b], or `- item` lines)"

    def fits(self, value: Any) -> bool:
        """See Shape."""
        return isinstance(value, list)

    def check(self, value: Any, path: KeyPath, tell: Tell) -> None:
        """See Shape."""
        if not isinstance(value, list):
            tell(path, f"expected {self.expected}, found {found(value)}", ())
            return
        for index, item in enumerate(value):
            self.item.check(item, (*path, index), tell)

    def schema(self) -> dict[str, Any]:
        """See Shape."""
        return {"type": "array", "items": self.item.schema()}


@dataclass(frozen=True)
class MapOf:
    """A mapping with names of the user's. empty: whether a name may stand without a value."""

    item: Shape
    empty: bool = False
    expected: str = "a mapping (`name: value` lines)"

    def fits(self, value: Any) -> bool:
        """See Shape."""
        return isinstance(value, dict)

    def check(self, value: Any, path: KeyPath, tell: Tell) -> None:
        """See Shape."""
        if not isinstance(value, dict):
            tell(path, f"expected {self.expected}, found {found(value)}", ())
            return
        for name, item in value.items():
            if item is None and self.empty:
                continue
            self.item.check(item, (*path, name), tell)

    def schema(self) -> dict[str, Any]:
        """See Shape."""
        item = self.item.schema()
        return {"type": "object", "additionalProperties": {"anyOf": [item, {"type": "null"}]} if self.empty else item}


@dataclass(frozen=True)
class Member:
    """One member of a Record. text: what editors show. lost: nothing of it is sent to Azure ML."""

    shape: Shape
    text: str
    lost: bool = False


@dataclass(frozen=True)
class Record:
    """A mapping with members that are known. name: how the parity table and the JSON Schema call it.

    lenient: Azure takes unknown members here, and so do we; of one that is nearly a known one is said that it has no effect.
    open: Azure drops unknown members here; so do we, and say it. One that is nearly a known one is a slip.
    """

    name: str
    members: Mapping[str, Member]
    text: str
    required: tuple[str, ...] = ()
    lenient: bool = False
    open: bool = False
    expected: str = field(default="a mapping (`key: value` lines)")

    def fits(self, value: Any) -> bool:
        """See Shape."""
        return isinstance(value, dict)

    def check(self, value: Any, path: KeyPath, tell: Tell) -> None:
        """See Shape. A member without a value counts as left out, as it does in Azure ML."""
        if not isinstance(value, dict):
            tell(path, f"expected {self.expected}, found {found(value)}", ())
            return
        members = self.members
        for key, item in value.items():
            member = members.get(key)
            if member is None:
                self._unknown(key, (*path, key), tell)
            elif item is not None:
                member.shape.check(item, (*path, key), tell)
        for key in self.required:
            if value.get(key) is None:
                tell(path, f"{key} is missing", (f"expected `{key}:` in {self.text}",))

    def _unknown(self, key: str, path: KeyPath, tell: Tell) -> None:
        near = nearest(key, self.members)
        if self.open and near is None:
            tell(path, f"unknown key in {self.text}", None)
        elif not self.lenient:
            tell(path, f"unknown key in {self.text}", meant(key, self.members))
        elif near is not None:
            tell(path, f"unknown key in {self.text}, did you mean {near}?", None)

    def schema(self) -> dict[str, Any]:
        """See Shape."""
        return {"$ref": f"#/$defs/{self.name}"}

    def definition(self) -> dict[str, Any]:
        """What the reference stands for."""
        properties = {
            key: {**member.shape.schema(), "description": member.text} for key, member in self.members.items()
        }
        made: dict[str, Any] = {"type": "object", "description": _sentence(self.text), "properties": properties}
        if self.required:
            made["required"] = list(self.required)
        if not self.lenient:
            made["additionalProperties"] = False
        return made


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


@dataclass(frozen=True)
class Pick:
    """A mapping whose kind says which of several records it is."""

    choose: Callable[[Mapping[str, Any]], Record | None]
    names: tuple[str, ...]
    expected: str = "a mapping (`key: value` lines)"

    def fits(self, value: Any) -> bool:
        """See Shape."""
        return isinstance(value, dict)

    def check(self, value: Any, path: KeyPath, tell: Tell) -> None:
        """See Shape. Where the kind is not known, whoever reads it says so."""
        if not isinstance(value, dict):
            tell(path, f"expected {self.expected}, found {found(value)}", ())
        elif (record := self.choose(value)) is not None:
            record.check(value, path, tell)

    def schema(self) -> dict[str, Any]:
        """See Shape."""
        return {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in self.names]}


@dataclass(frozen=True)
class OneOf:
    """One of several shapes. The first that the value fits by its kind says what is wrong."""

    shapes: tuple[Shape, ...]

    @property
    def expected(self) -> str:
        """See Shape."""
        return " or ".join(dict.fromkeys(shape.expected for shape in self.shapes))

    def fits(self, value: Any) -> bool:
        """See Shape."""
        return any(shape.fits(value) for shape in self.shapes)

    def check(self, value: Any, path: KeyPath, tell: Tell) -> None:
        """See Shape."""
        for shape in self.shapes:
            if shape.fits(value):
                shape.check(value, path, tell)
                return
        tell(path, f"expected {self.expected}, found {found(value)}", ())

    def schema(self) -> dict[str, Any]:
        """See Shape."""
        return {"anyOf": [shape.schema() for shape in self.shapes]}


def lost(shape: Shape, value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """The paths of members that are given and go nowhere, in a value that has its shape."""
    match shape:
        case Record() if isinstance(value, dict):
            for key, item in value.items():
                if (member := shape.members.get(key)) is not None and item is not None:
                    yield from ((*path, key),) if member.lost else lost(member.shape, item, (*path, key))
        case Pick() if isinstance(value, dict) and (record := shape.choose(value)) is not None:
            yield from lost(record, value, path)
        case OneOf():
            if (found := next((each for each in shape.shapes if each.fits(value)), None)) is not None:
                yield from lost(found, value, path)
        case MapOf() | ListOf() if isinstance(value, dict | list):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                yield from lost(shape.item, item, (*path, key))


TEXT = Leaf("text", (str, int, float, bool, date), ("string", "number", "boolean"))
"""Azure takes numbers for texts in most places (a version, a tag): so do we, as written."""
NAME = Leaf("text", (str,), ("string",))
FLAG = Leaf("true or false", (bool, str), ("boolean",), ("true", "false"))
INTEGER = Leaf("a whole number", (int, str), ("integer", "string"))
"""Azure takes "300" too; that it is a number is checked where it is read."""
NUMBER = Leaf("a number", (int, float, str), ("number", "string"))
ANYTHING = Anything()


def words(*known: str) -> Leaf:
    """One of these, in any case."""
    return Leaf("text", (str, int), ("string",), known)
