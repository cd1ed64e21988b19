"""What pydantic finds wrong, as errors of the user's file: line, key, what was expected, the nearest right word."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

    from runner.errors import SpecError
    from runner.spec.yamldoc import Document, KeyPath

_OTHER_WORDS = {
    "bioc": "r.bioconductor",
    "commands": "run",
    "dependencies": "pip, apt, conda.packages or r.cran",
    "environment": "env",
    "from": "base",
    "image": "base",
    "packages": "pip, apt, conda.packages or r.cran",
    "pypi": "pip",
    "requirements": "pip, with `-r FILE`",
    "variables": "env",
}
"""What other tools call it."""


def translated(
    errors: Iterable[ErrorDetails], document: Document, known: Mapping[KeyPath, tuple[str, ...]]
) -> SpecError:
    """The first thing wrong by line, with the others as hints.

    Args:
        known: the keys of each section by its path; () is the top.
    """
    found: dict[KeyPath, tuple[str, ...]] = {}
    for error in errors:
        path = tuple(part for part in error["loc"] if not _is_branch(part))
        found.setdefault(path, _described(error, path, document, known))
    (path, (message, *hints)), *others = sorted(found.items(), key=lambda item: document.line(item[0]) or 0)
    also = [f"also: {document.error(other, _in_a_line(*texts)).message}" for other, texts in others]
    return document.error(path, message, *hints, *also)


def _in_a_line(message: str, *hints: str) -> str:
    """With what was meant, where that is known."""
    return "; ".join([message, *(hint for hint in hints[:1] if hint.startswith("did you mean"))])


def _is_branch(part: str | int) -> bool:
    """Pydantic names the branch of a union in the location; the user did not write it."""
    return isinstance(part, str) and ("function-" in part or part in {"str", "[key]"} or part.startswith("list["))


def _described(
    error: ErrorDetails, path: KeyPath, document: Document, known: Mapping[KeyPath, tuple[str, ...]]
) -> tuple[str, ...]:
    """What is wrong, then the hints."""
    kind, value = error["type"], error.get("input")
    if kind == "extra_forbidden":
        return ("unknown key", *_other_key(path, known))
    if kind == "value_error":
        return tuple(error["msg"].removeprefix("Value error, ").split("\n"))
    written = document.text(path)
    if kind == "literal_error":
        expected = str(error.get("ctx", {}).get("expected", "another value"))
        near = nearest(written, expected.replace("'", "").split(" or "))
        return (f"expected {expected}, found {_shown(value, written)}", *_meant(near))
    expected = {
        "string_type": "text",
        "list_type": "a list ([a, b], or `- item` lines)",
        "dict_type": "a mapping (`key: value` lines)",
        "model_type": "a mapping (`key: value` lines)",
        "model_attributes_type": "a mapping (`key: value` lines)",
        "string_too_short": "text that is not empty",
    }.get(kind, error["msg"])
    quotes: tuple[str, ...] = ()
    if kind == "string_type" and value is not None and not isinstance(value, dict | list):
        quotes = (f'put it in quotes: "{written}"',)
    elif kind == "string_type" and isinstance(value, dict):
        quotes = ("text that holds `: ` must be in quotes",)
    elif kind.startswith("model_") and path in known and isinstance(value, list):
        quotes = (f"such as {path[-1]}: {{{'packages' if path == ('conda',) else 'cran'}: [NAME]}}",)
    return (f"expected {expected}, found {_shown(value, written)}", *quotes)


def _other_key(path: KeyPath, known: Mapping[KeyPath, tuple[str, ...]]) -> Iterable[str]:
    """The nearest key of this section, else of another one, then all of this section."""
    word, section = str(path[-1]), path[:-1]
    here = known.get(section, ())
    near = nearest(word, here)
    if near is None and section == ():
        near = _OTHER_WORDS.get(word.lower())
    if near is None:
        elsewhere = {key: ".".join(map(str, (*place, key))) for place, keys in known.items() for key in keys}
        key = nearest(word, elsewhere)
        near = elsewhere[key] if key else None
        near = f"{near} (at the top)" if near and "." not in near else near
    return (*_meant(near), f"known: {', '.join(here)}")


def _meant(near: str | None) -> tuple[str, ...]:
    return (f"did you mean {near}?",) if near else ()


def _shown(value: object, written: str) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f"the text {value!r}"
        case float() if math.isfinite(value) and repr(value) != written:
            return f"the number {value!r} (written {written})"
        case _:
            return written or repr(value)
