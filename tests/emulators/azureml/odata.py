"""The small part of OData filters that the run history is asked with: comparisons, `and`, `or`, parentheses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.emulators.azureml.wire import ServiceError

Doc = dict[str, Any]
Test = Callable[[Doc], bool]
_TOKEN = re.compile(r"\s*(?:(\()|(\))|('(?:[^']|'')*')|([^\s()']+))")
_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}


def predicate(text: str) -> Test:
    """What a filter such as `RunId eq 'a' or (Status ne 'Failed' and tags/kind eq 'x')` keeps. An empty one keeps all.
    Names of members are taken in any case; `tags/x` and `properties/x` name an entry. ServiceError 400: not understood."""
    if not text.strip():
        return lambda _: True
    parser = _Parser(_tokens(text))
    test = parser.either()
    if parser.tokens:
        raise _bad(text)
    return test


def _tokens(text: str) -> list[str]:
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            raise _bad(text)
        found.append(match[0].strip())
        place = match.end()
    return found


@dataclass(slots=True)
class _Parser:
    tokens: list[str]

    def either(self) -> Test:
        tests = [self.both()]
        while self._is("or"):
            tests.append(self.both())
        return lambda doc: any(test(doc) for test in tests)

    def both(self) -> Test:
        tests = [self.one()]
        while self._is("and"):
            tests.append(self.one())
        return lambda doc: all(test(doc) for test in tests)

    def one(self) -> Test:
        if self._is("("):
            test = self.either()
            if not self._is(")"):
                raise _bad("a parenthesis is open")
            return test
        if len(self.tokens) < 3 or self.tokens[1].lower() not in _COMPARE:
            raise _bad(" ".join(self.tokens))
        name, operator, value = (self.tokens.pop(0) for _ in range(3))
        wanted = value[1:-1].replace("''", "'") if value.startswith("'") else value
        compare = _COMPARE[operator.lower()]
        return lambda doc: compare(_member(doc, name), "" if wanted == "null" else wanted)

    def _is(self, word: str) -> bool:
        if self.tokens and self.tokens[0].lower() == word:
            self.tokens.pop(0)
            return True
        return False


def _member(doc: Doc, name: str) -> str:
    value: Any = doc
    for part in name.split("/"):
        found = {key.lower(): inner for key, inner in value.items()} if isinstance(value, dict) else {}
        value = found.get(part.lower())
    return "" if value is None else str(value)


def _bad(text: str) -> ServiceError:
    return ServiceError(400, "UserError", f"The filter is invalid: {text}")
