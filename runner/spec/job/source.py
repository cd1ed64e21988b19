"""A job or component file that is being read: its data with the place of each value, and what is found wrong or impossible.

All files of one job share a `Findings`, so that everything wrong is told at once.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.job import Problem, Where
from runner.spec.job.parity import ROWS
from runner.spec.job.shapes import lost
from runner.spec.yamldoc import dotted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.spec.job.shapes import Shape
    from runner.spec.yamldoc import Document, KeyPath

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""Two letters at least: `C:` is a drive, and refused as a path that does not exist."""
_OTHER_BASE = re.compile(r"[+-]?0[xb]", re.IGNORECASE)
"""Whole numbers as nothing but YAML writes them in a command: Azure ML passes them in decimals."""
SHOWN = 20
"""So many errors are shown; the rest are counted."""


@dataclass
class Findings:
    """What is wrong (errors), what cannot be done here (problems), what is not passed on to Azure ML either (unsent)."""

    file: str | None = None
    """The job file as errors call it: what is wrong in it is told first."""
    errors: list[SpecError] = field(default_factory=list)
    problems: dict[tuple[str, str, str], Problem] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    unsent: dict[str, None] = field(default_factory=dict)

    def wrong(self, where: Where, message: str, *hints: str) -> None:
        """Note an error."""
        self.errors.append(where.error(message, *hints))

    def cannot(self, feature: str, where: Where, what: str = "") -> None:
        """Note a problem, once for each place.

        Args:
            feature: a row of the parity table that is refused; it has the reason and the way out.
            what: which one, in front of the reason.
        """
        row = ROWS[feature]
        problem = Problem(feature, f"{what} {row.reason}".strip(), row.way_out, where)
        self.problems.setdefault((feature, str(where), what), problem)

    def finish(self) -> tuple[Problem, ...]:
        """The problems.

        Raises:
            SpecError: the first error by line, with the others as hints.
        """
        if not self.errors:
            return tuple(self.problems.values())
        unique = list({str(error): error for error in self.errors}.values())
        first, *others = sorted(unique, key=lambda error: (error.file not in {self.file, "--set"}, error.line or 0))
        also = [f"also: {error.message}{_hint(error)}" for error in others[:SHOWN]]
        if len(others) > SHOWN:
            also.append(f"and {len(others) - SHOWN} more")
        raise _with(first, also)


def _hint(error: SpecError) -> str:
    near = [hint for hint in error.hints if hint.startswith("did you mean")]
    return f" ({near[0]})" if near else ""


def _with(error: SpecError, also: list[str]) -> SpecError:
    made = SpecError(error.message, *error.hints, *also)
    made.file, made.line, made.key = error.file, error.line, error.key
    return made


@dataclass(frozen=True, slots=True)
class Source:
    """One file. folder: what relative paths in it are relative to. sets: the paths that `--set` gave → as it was written."""

    document: Document
    folder: Path
    findings: Findings
    sets: frozenset[KeyPath] = frozenset()

    def where(self, path: KeyPath) -> Where:
        """The place of a value: file, line and key, or `--set` and the key."""
        if self.sets and any(path[: len(prefix)] == prefix for prefix in self.sets):
            return Where("--set", None, dotted(path))
        return Where(self.document.file, self.document.line(path), dotted(path))

    def wrong(self, path: KeyPath, message: str, *hints: str) -> None:
        """Note an error about a value."""
        self.findings.wrong(self.where(path), message, *hints)

    def cannot(self, feature: str, path: KeyPath, what: str = "") -> None:
        """Note that this cannot be done here."""
        self.findings.cannot(feature, self.where(path), what)

    def ignored(self, path: KeyPath, message: str) -> None:
        """Note that something is taken and has no effect."""
        self.findings.warnings[f"{self.where(path).error(message).message}; it has no effect"] = None

    def check(self, shape: Shape, value: Any, path: KeyPath) -> bool:
        """Whether the value has that shape; what is wrong with it is noted."""
        before = len(self.findings.errors)
        shape.check(value, path, self._tell)
        for at in lost(shape, value, path):
            self.findings.unsent[str(self.where(at))] = None
        return len(self.findings.errors) == before

    def _tell(self, path: KeyPath, message: str, hints: tuple[str, ...] | None) -> None:
        if hints is None:
            self.ignored(path, message)
        else:
            self.wrong(path, message, *hints)

    def text(self, path: KeyPath, value: Any) -> str:
        """A scalar as the user wrote it; True and False for what YAML takes for a boolean, as Azure ML passes them."""
        if isinstance(value, bool):
            return str(value)
        text = self.document.text(path)
        if isinstance(value, int) and _OTHER_BASE.match(text):
            return str(value)
        return text or str(value)

    def texts(self, path: KeyPath, value: Any) -> dict[str, str]:
        """A mapping of texts; a name without value has an empty one."""
        return {name: "" if item is None else self.text((*path, name), item) for name, item in (value or {}).items()}

    def integer(self, path: KeyPath, value: Any, least: int | None = None) -> int | None:
        """A whole number; None where it is left out or wrong (noted)."""
        if value is None:
            return None
        try:
            number = int(value)
        except ValueError:
            self.wrong(path, f"expected a whole number, found {value!r}")
            return None
        if least is not None and number < least:
            self.wrong(path, f"expected {least} or more, found {number}")
            return None
        return number

    def number(self, path: KeyPath, value: Any) -> float | None:
        """A number; None where it is left out or wrong (noted)."""
        if value is None:
            return None
        try:
            return float(value)
        except (ValueError, OverflowError):
            self.wrong(path, f"expected a number, found {value!r}")
            return None

    def flag(self, value: Any) -> bool | None:
        """True, False, or None where it is left out."""
        return None if value is None else str(value).lower() == "true"

    def local(self, path: KeyPath, text: str) -> Path | None:
        """An absolute path out of one that is relative to the file; None where it is none (noted)."""
        plain = text.removeprefix("file:") if text.startswith("file:") and not text.startswith("file://") else text
        plain = plain.removeprefix("file://")
        if not plain or has_scheme(plain):
            self.wrong(path, f"expected a path, found {text!r}")
            return None
        return Path(os.path.normpath(self.folder / plain))


def has_scheme(text: str) -> bool:
    """Whether a text is an address or a name of Azure ML's (`https:`, `azureml:`, …) rather than a path."""
    return _SCHEME.match(text) is not None


def stripped(name: str) -> str:
    """`azureml:cpu-cluster` → `cpu-cluster`: names of computes and datastores stand with and without it."""
    return name.removeprefix("azureml:")


def pick(data: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Those members that are there."""
    return {key: data[key] for key in keys if data.get(key) is not None}
