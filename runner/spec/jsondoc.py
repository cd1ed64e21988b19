"""JSON with positions, as the YAML reader gives them, and quicker: each submit may read a renv.lock of 600 kB."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.spec.yamldoc import Document, dotted

if TYPE_CHECKING:
    from runner.spec.yamldoc import KeyPath

_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|[{}\[\],\n]')
_KEPT = 4
"""Levels whose lines are kept; deeper ones take the line of what is around them."""


def parse(text: str, file: str) -> Document:
    """Parse one document. Its `texts` are empty: JSON says what it means.

    Raises:
        SpecError: no JSON, no object at the top, a key given twice.
    """
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        if "<<<<<<<" in text:
            raise SpecError("it holds the marks of a git conflict", file=file, line=error.lineno) from None
        raise SpecError(f"not valid JSON: {error.msg}", file=file, line=error.lineno) from None
    except (RecursionError, ValueError) as error:  # too deep, or a number of thousands of digits
        raise SpecError(f"not a file of settings: {error}", file=file) from None
    if not isinstance(data, dict):
        raise SpecError("expected an object ({…}) at the top", file=file, line=1)
    return Document(file, data, _lines(text, file), {})


def _lines(text: str, file: str) -> dict[KeyPath, int]:
    """Where each key and item stands. The text is known to be JSON, so a count of brackets is enough."""
    lines: dict[KeyPath, int] = {}
    path: list[str | int] = []
    line = 1
    for token in _TOKEN.finditer(text):
        if token[0][0] in '{["' and path and isinstance(path[-1], int) and len(path) <= _KEPT:
            lines[tuple(path)] = line
        match token[0][0]:
            case "\n":
                line += 1
            case "{":
                path.append("")
            case "[":
                path.append(0)
            case "}" | "]":
                path.pop()
            case ",":
                if isinstance(last := path[-1], int):
                    path[-1] = last + 1
            case _ if token[2]:
                path[-1] = json.loads(token[1])
                _keep(lines, tuple(path), line, file)
                line += token[2].count("\n")
            case _:
                pass
    return lines


def _keep(lines: dict[KeyPath, int], path: KeyPath, line: int, file: str) -> None:
    if len(path) > _KEPT:
        return
    if path in lines:
        message = f"the key is given twice (first in line {lines[path]})"
        raise SpecError(message, file=file, line=line, key=dotted(path))
    lines[path] = line
