"""DESCRIPTION and PACKAGES, the Debian-control-format files in which R packages say what they are and need. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runner.spec.rversion import Constraint

INDEX_FIELDS = (
    "Package",
    "Version",
    "Depends",
    "Imports",
    "LinkingTo",
    "NeedsCompilation",
    "SystemRequirements",
    "Built",
    "MD5sum",
    "Path",
)
"""What is kept of an index: CRAN's 20,000 records with all their fields would be 100 MB."""
FIELDS = (*INDEX_FIELDS, "Suggests", "Remotes")
"""What is kept of a DESCRIPTION."""

BASE_PACKAGES = frozenset(
    [
        "R",
        "base",
        "compiler",
        "datasets",
        "grDevices",
        "graphics",
        "grid",
        "methods",
        "parallel",
        "splines",
        "stats",
        "stats4",
        "tcltk",
        "tools",
        "utils",
    ]
)
"""What r-base-core itself holds; no repository offers them."""

_DEPENDENCY = re.compile(r"([A-Za-z][A-Za-z0-9.]*)\s*(?:\(\s*([<>=!]+)\s*([^)\s]+)\s*\))?")
_OPERATORS = frozenset({"==", ">=", "<=", "!=", ">", "<"})


def parse_dcf(text: str) -> Iterator[dict[str, str]]:
    """Debian-control-format records; continuation lines joined by a blank."""
    for record in re.split(r"\n[ \t\r]*\n", text):
        entry: dict[str, str] = {}
        name = ""
        for line in record.splitlines():
            if line[:1].isspace() and name:
                entry[name] += " " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                entry[name] = value.strip()
        if entry:
            yield entry


def kept(entry: Mapping[str, str], fields: Iterable[str] = FIELDS) -> dict[str, str]:
    """These fields of a record."""
    return {key: entry[key] for key in fields if key in entry}


def dependencies(fields: Mapping[str, str]) -> tuple[tuple[str, tuple[Constraint, ...]], ...]:
    """(package, constraints) of all that must be there to install and load it; `R` itself is one of them."""
    text = ",".join(fields.get(key, "") for key in ("Depends", "Imports", "LinkingTo"))
    return tuple(
        (match[1], ((match[2], match[3]),) if match[2] in _OPERATORS else ())
        for part in text.split(",")
        if (match := _DEPENDENCY.fullmatch(part.strip()))
    )


def suggested(fields: Mapping[str, str]) -> frozenset[str]:
    """The packages that are only suggested, which are not installed."""
    return frozenset(part.split("(")[0].strip() for part in fields.get("Suggests", "").split(","))


def minor(version: str) -> str:
    """`4.2.2` → `4.2`: packages that were built under one patch release of R load under the others."""
    return ".".join(version.split(".")[:2])


def built_for(fields: Mapping[str, str]) -> str | None:
    """`4.2` where the package was built for R 4.2 already (`Built: R 4.2.3; …`), None for a source package."""
    match = re.match(r"R (\d+\.\d+)", fields.get("Built", ""))
    return match[1] if match else None
