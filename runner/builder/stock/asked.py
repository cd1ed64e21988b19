"""What a libs file asks for, one item at a time, and whether a version fits it. Pure; no pydantic, no engine."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from runner.spec import rversion

if TYPE_CHECKING:
    from runner.spec.libs import Package
    from runner.spec.lock import LockedKind

_R = re.compile(r"(?:(cran|bioconductor|github)\s+)?(\S+?)\s*((?:[=<>!]=?).*)?")
_CONDA = re.compile(r"(?:[^\s]*::)?([A-Za-z0-9_][\w.-]*)\s*\[?([^\[\]]*)\]?.*")
_CONDA_FUZZY = re.compile(r"=?(\d[\w.]*?)(?:\.?\*)?")


@dataclass(frozen=True, slots=True)
class Ask:
    """One item. text: as it was written. constraint: what of it the version must fit, "" for any, in its manager's words.

    conditional: it holds on some machines only (a pip marker), so that its absence proves nothing.
    """

    kind: LockedKind
    name: str
    text: str
    constraint: str = ""
    conditional: bool = False

    def allows(self, version: str) -> bool:
        """Whether a version fits. A constraint that cannot be made sense of is taken to fit: nothing is known against it."""
        if not self.constraint or not version:
            return True
        match self.kind:
            case "apt":
                return fnmatch.fnmatchcase(version, self.constraint)
            case "r":
                return _r_allows(self.constraint, version)
            case "pip":
                return _in_set(self.constraint, version)
            case "conda":
                return any(_conda_allows(each, version) for each in self.constraint.split("|"))


def of_package(package: Package) -> Ask:
    """The item of a checked libs file."""
    match package.kind:
        case "cran" | "bioconductor" | "github":
            constraint = ",".join(op + version for op, version in package.constraints)
            return Ask("r", package.name, package.spec, constraint)
        case "apt":
            return Ask("apt", package.name, package.spec, package.version or "")
        case kind:
            found = of_text(kind, package.spec)
            constraint = found.constraint if found else ""
            return Ask(kind, package.name, package.spec, constraint, package.marker is not None)


def of_text(kind: LockedKind, text: str) -> Ask | None:
    """An item as a lock keeps it; None for one that names no package by itself (an address, the word `R`)."""
    match kind:
        case "apt":
            name, _, version = text.partition("=")
            return Ask(kind, name, text, version)
        case "pip":
            return _pip(text)
        case "conda":
            match = _CONDA.fullmatch(text.strip())
            return Ask(kind, match[1].lower(), text, _conda_version(match[2])) if match else None
        case "r":
            return _r(text)


def _pip(text: str) -> Ask | None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        file = text.split(";", 1)[0].strip().split("#", 1)[0].rsplit("/", 1)[-1]
        try:
            name, version = (parse_wheel_filename if file.endswith(".whl") else parse_sdist_filename)(file)[:2]
        except (InvalidWheelFilename, InvalidSdistFilename):
            return None
        return Ask("pip", str(name), text, f"=={version}", ";" in text)
    return Ask("pip", requirement.name, text, str(requirement.specifier), requirement.marker is not None)


def _r(text: str) -> Ask | None:
    match = _R.fullmatch(text.strip())
    if match is None or text == "R":
        return None
    kind, name, constraint = match.groups()
    if kind == "github" or "/" in name:
        # `owner/repo@ref`: the repository's name is the package's in nearly all cases.
        repository = re.sub(r"(@|#|\?).*", "", name).rstrip("/").rsplit("/", 1)[-1]
        name = re.sub(r"(_[\d.-]+)?\.(tar\.gz|tgz|zip)$", "", repository)
    shown = text.removeprefix(f"{kind} ") if kind else text
    return Ask("r", name, shown, (constraint or "").replace(" ", ""))


def _r_allows(constraint: str, version: str) -> bool:
    try:
        return rversion.satisfies(version, rversion.parse_constraints(constraint))
    except ValueError:
        return True


def _in_set(constraint: str, version: str) -> bool:
    try:
        return SpecifierSet(constraint).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True


def _conda_version(rest: str) -> str:
    """The version part of what follows the name: `=1.26=py311_0` → `1.26.*`, `>=1.2,<2 py*` → `>=1.2,<2`."""
    rest = rest.removeprefix("version=").strip("'\" ")
    if re.match(r"[=<>!~]", rest):
        rest = re.sub(r"(?<=[=<>!~,|])\s+", "", rest)
    version = rest.split()[0] if rest.split() else ""
    exact = re.fullmatch(r"==?([^=<>!~,|]+)=[^=]+", version)  # the part after the second `=` is the build
    if exact and not version.startswith("=="):
        return exact[1]
    return version if version != "*" else ""


def _conda_allows(constraint: str, version: str) -> bool:
    """By Python's rules, which agree with conda's wherever both can read the version; `=1.2` means 1.2 and all below it."""
    parts = []
    for part in constraint.split(","):
        fuzzy = _CONDA_FUZZY.fullmatch(part)
        if fuzzy is None:
            parts.append(part)
        elif part.startswith("=") or part.endswith("*"):
            parts.append(f"=={fuzzy[1]}.*")
        else:
            parts.append(f"=={fuzzy[1]}")
    return _in_set(",".join(parts), version)
