"""R's version numbers and constraints: `1.7-10` is newer than `1.7-9`, and `-` counts as `.`."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Constraint = tuple[str, str]
"""An operator and a version: `(">=", "3.4")`."""

_VERSION = re.compile(r"\d+(?:[.-]\d+)*")
_CONSTRAINT = re.compile(r"(==|>=|<=|!=|>|<)\s*(\d+(?:[.-]\d+)*)")
_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def key(version: str) -> tuple[int, ...]:
    """A version as numbers that compare as R compares them. Trailing zeros count, as in R: 1.0 is older than 1.0.0."""
    return tuple(int(part) for part in re.split(r"[.-]", version) if part.isdigit())


def parse_constraints(text: str) -> tuple[Constraint, ...]:
    """`>=1.0, <2` → ((">=", "1.0"), ("<", "2")).

    Raises:
        ValueError: not of that form.
    """
    found = []
    for part in text.split(","):
        match = _CONSTRAINT.fullmatch(part.strip())
        if match is None:
            raise ValueError(part.strip())
        found.append((match[1], match[2]))
    return tuple(found)


def satisfies(version: str, constraints: Sequence[Constraint]) -> bool:
    """Whether a version fits all constraints."""
    return all(_COMPARE[op](key(version), key(wanted)) for op, wanted in constraints)


def from_debian(version: str) -> str:
    """The R package's version inside a Debian version: `1.14.8+dfsg-1` → `1.14.8`, `2:1.7-9-1` → `1.7-9`."""
    upstream = version.split(":", 1)[-1].rpartition("-")[0] or version
    match = _VERSION.match(upstream)
    return match[0] if match else upstream
