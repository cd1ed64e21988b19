"""Logins inside addresses: refused wherever they stand, since files are hashed, copied into builds and kept in git."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.spec.yamldoc import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.spec.yamldoc import Document, KeyPath

_LOGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<login>[^/?#\s<>\"]*)@(?P<host>[^/?#\s'\"]*)")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_VARIABLES_ONLY = re.compile(r"(?:\$\{?\w+\}?)(?::(?:\$\{?\w+\}?)?)?")

HINTS = (
    "write ${USER}:${PASSWORD}@ in the pip line; both are taken from the environment of the build",
    "or set UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD, or put the login into ~/.netrc",
)
"""The ways out."""


def login_in(text: str) -> str | None:
    """What is wrong with the first address in `text` that holds a login, without the login; None when none does.

    A login of nothing but variables (`${USER}:${PASSWORD}@`) is none, nor is the user of ssh (`git@`).
    """
    for found in _LOGIN.finditer(text):
        login = found["login"]
        if _VARIABLES_ONLY.fullmatch(login) or ("ssh" in found["scheme"] and ":" not in login):
            continue
        return (
            f"a login stands in the address of {found['host'] or 'a server'}; it would get into images, locks and logs"
        )
    return None


def refuse_logins(document: Document) -> None:
    """Look at every text in a document, keys too.

    Raises:
        SpecError: a login, by its place.
    """
    for path, text in _texts(document.data, ()):
        if (wrong := login_in(text)) is not None:
            key = dotted(path)
            shown = None if key and login_in(key) else key  # the login may stand in the key itself
            raise SpecError(wrong, *HINTS, file=document.file, line=document.line(path), key=shown)


def variables(text: str) -> frozenset[str]:
    """The names of all `${NAME}` in a text."""
    return frozenset(_VARIABLE.findall(text))


def _texts(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key), key
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))
