"""A script with its arguments as a command for bash where Azure ML puts in values, and knows nothing of quotes. Pure."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from runner.bootstrapper import interpreted
from runner.job import Reference
from runner.spec.job import expressions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.job import Value

_EXPRESSION = re.compile(r"\$\{\{\s*(?:inputs|outputs|search_space|parent)\.[^}]*\}\}")
_INPUT = re.compile(r"\$\{\{\s*inputs\.([^}\s]+)\s*\}\}")


def compiled(script: str, args: tuple[str, ...]) -> str:
    """A script with its arguments as a command for bash, in which Azure finds its own expressions and no others."""
    return " ".join(_quoted(word) for word in interpreted([script, *args]))


def _quoted(word: str) -> str:
    return "".join(_pieces(word)) or "''"


def _pieces(word: str) -> Iterator[str]:
    """What Azure replaces stands within single quotes; any other `$` stands alone, so that it begins no expression."""
    end = 0
    for found in _EXPRESSION.finditer(word):
        yield from _plain(word[end : found.start()])
        yield f"'{found[0]}'"
        end = found.end()
    yield from _plain(word[end:])


def _plain(text: str) -> Iterator[str]:
    for number, part in enumerate(re.split(r"\$(?=\{\{|\[\[)", text)):
        if number:
            yield "'$'"
        if part:
            yield shlex.quote(part)


def known(value: Value, around: Mapping[str, Value]) -> Value:
    """What a step is given, with its pipeline's own inputs (`around`) put in."""
    if isinstance(value, Reference):
        return around.get(value.name, value) if value.job is None else value
    if not isinstance(value, str):
        return value

    def text(expression: str) -> str | None:
        name = expressions.parent_input(expression)
        return str(around[name]) if name is not None and name in around else None

    return expressions.replaced(value, text)


def unquotable(args: Sequence[str], given: Mapping[str, Value]) -> list[str]:
    """The inputs in these arguments whose values (`given`) would end the single quotes that `compiled` puts them in."""
    named = dict.fromkeys(name for arg in args for name in _INPUT.findall(arg))
    return [name for name in named if isinstance(value := given.get(name), str) and "'" in value]
