"""Dockerfile syntax: how text of any origin is written so that it stays what it is, for the classic builder and BuildKit.

Nothing from a libs file or a lock gets into a Dockerfile but through these functions.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(?:=[A-Za-z0-9.+:~-]+)?")
_REFERENCE = re.compile(r"[a-z0-9][\w.:/-]*(?:@sha256:[0-9a-f]{64})?", re.ASCII)
_PATH = re.compile(r"/[\w./+-]*", re.ASCII)


def comment(text: str) -> str:
    """Comment lines. What cannot be printed is left out, so that a comment cannot end early."""
    lines = text.split("\n")
    printable = ("".join(char for char in line if char.isprintable()) for line in lines)
    return "".join(f"# {line}".rstrip() + "\n" for line in printable)


def fault(value: str) -> str | None:
    """Why a value cannot be written at all: the syntax has no way for a line break, and bytes that are no text are none."""
    if any(char in "\n\0" or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        return "a Dockerfile cannot hold a line break in a value"
    return None


def quoted(value: str) -> str:
    """A value of ENV, LABEL or ARG, in double quotes, in which neither variables nor escapes are expanded.

    Raises:
        ValueError: see `fault`.
    """
    if wrong := fault(value):
        raise ValueError(wrong)
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'


def settings(instruction: str, values: Mapping[str, str]) -> str:
    r"""ENV or LABEL with all values, one a line.

    Raises:
        ValueError: see `quoted`; or a name is none.
    """
    if not values:
        return ""
    pairs = (f"{name(key)}={quoted(value)}" for key, value in values.items())
    return f"{instruction} " + " \\\n    ".join(pairs) + "\n"


def exec_form(argv: Iterable[str]) -> str:
    """A command as a JSON list: the one form in which a line break, a quote or a `<<` of it means nothing to a builder."""
    return json.dumps(list(argv))


def packages(names: Iterable[str]) -> str:
    """Debian packages for a RUN, one a line, sorted: `name` or `name=version`.

    Raises:
        ValueError: one is not of that form.
    """
    checked = sorted((_checked(_PACKAGE, each) for each in names), key=lambda each: each.partition("="))
    return "".join(f"      {each} \\\n" for each in checked)


def reference(text: str) -> str:
    """An image for FROM.

    Raises:
        ValueError: it is none.
    """
    return _checked(_REFERENCE, text)


def name(text: str) -> str:
    """A name of a variable.

    Raises:
        ValueError: it is none.
    """
    return _checked(_NAME, text)


def path(text: str) -> str:
    """An absolute path that needs no quotes.

    Raises:
        ValueError: it is none.
    """
    return _checked(_PATH, text)


def _checked(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} cannot be written into a Dockerfile")
    return text
