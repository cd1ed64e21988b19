"""Reading of Azure's management API: one thing, or all pages of a list, by its ARM id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]
_MANAGEMENT = "https://management.azure.com"
_PAGES = 100
"""A list that goes on for longer is not read to its end: it would be a server that repeats itself."""


class Answered(Protocol):
    """What `Asking` gives."""

    def json(self) -> Any:
        """The answer's body."""


class Asking(Protocol):
    """The part of `rest.Rest` that is needed here."""

    def ask(self, method: str, url: str, what: str, *, query: Mapping[str, str] | None = None) -> Answered:
        """As `rest.Rest.ask`."""


@dataclass(frozen=True, slots=True)
class Arm:
    """The management API. Its methods raise NotFoundError for 404, UnavailableError without an answer, else BackendError."""

    rest: Asking

    def one(self, path: str, version: str, what: str, query: Mapping[str, str] | None = None) -> Json:
        """What stands below an ARM id. what: for messages: `the compute gpu`."""
        answer = self.rest.ask("GET", _MANAGEMENT + path, what, query={"api-version": version, **(query or {})}).json()
        return answer if isinstance(answer, dict) else {}

    def every(self, path: str, version: str, what: str, query: Mapping[str, str] | None = None) -> list[Json]:
        """The entries of a list, over all its pages."""
        found: list[Json] = []
        url, asked = _MANAGEMENT + path, {"api-version": version, **(query or {})}
        for _ in range(_PAGES):
            page = self.rest.ask("GET", url, what, query=asked).json()
            found += [each for each in page.get("value") or () if isinstance(each, dict)]
            url, asked = str(page.get("nextLink") or ""), {}
            if not url:
                break
        return found


def inner(found: Json, *path: str) -> Json:
    """The object at that place; {} where there is none, since a server leaves out what it does not have."""
    for key in path:
        value = found.get(key)
        found = value if isinstance(value, dict) else {}
    return found


def text(found: Json, key: str) -> str:
    """The text at that key; "" where there is none."""
    value = found.get(key)
    return value if isinstance(value, str) else ""


def number(found: Json, key: str) -> int | None:
    """The whole number at that key; None where there is none."""
    value = found.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
