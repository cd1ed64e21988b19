"""Which R packages are needed, in which version, from where: Debian's binaries first, then CRAN-like repositories."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from runner.builder.repository import Fetcher, Source, description, reason
from runner.spec import rversion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from runner.spec.libs import Package

DEFAULT_REPOSITORY = "https://cloud.r-project.org"
"""Used where neither `r.repos` nor RUNNER_CRAN names a repository."""

_BASE_PACKAGES = frozenset(
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


@dataclass
class Resolved:
    """How the declared R packages and what they need are had."""

    binary: dict[str, str] = field(default_factory=dict)
    """Debian package → version."""
    source: dict[str, Source] = field(default_factory=dict)
    """R package → source package."""


def repositories(declared: Sequence[str]) -> tuple[str, ...]:
    """The repositories to ask, in order: `r.repos`, else RUNNER_CRAN (separated by blanks), else the default."""
    named = tuple(declared) or tuple(os.environ.get("RUNNER_CRAN", "").split()) or (DEFAULT_REPOSITORY,)
    return tuple(address.rstrip("/") for address in named)


class Resolver:
    """Debian's binaries where their version fits, else the repositories' newest, else (for `==`) their archives.

    debian: R package in lower case → version of its r-cran-* package, empty where R is not Debian's.
    """

    def __init__(
        self, debian: Mapping[str, tuple[str, ...]], repos: Sequence[str], r_version: str, ca_bundle: Path | None, **_kw
    ) -> None:
        self._full = debian
        self._debian = {
            k.removeprefix("r-cran-"): rversion.from_debian(v[0]) for k, v in debian.items() if k.startswith("r-cran-")
        }
        self._repos = repos
        self._r_version = r_version
        self._fetch = Fetcher(ca_bundle)
        self._indexes: dict[str, dict[str, dict[str, str]]] = {}
        self._failures: dict[str, str] = {}

    def resolve(self, packages: Iterable[Package], preferred=None) -> Resolved:
        """Everything that the declared packages need.

        Raises:
            SpecError: a package is in no repository, in no version that fits, or needs a newer R.
        """
        resolved = Resolved()
        waiting = [(package.name, package.constraints, package) for package in packages]
        while waiting:
            name, constraints, origin = waiting.pop()
            if name in _BASE_PACKAGES or self._settled(resolved, name, constraints, origin):
                continue
            if self._from_debian(resolved, name, constraints):
                continue
            source = self._source(name, constraints) or self._archived(name, constraints)
            if source is None:
                raise self._missing(name, constraints, origin)
            resolved.source[name] = source
            needs = _dependencies(source.fields)
            self._check_r(source, needs, origin)
            waiting += [(need, wanted, origin) for need, wanted in needs]
        from types import SimpleNamespace

        resolved.binary = {k: SimpleNamespace(package=k, version=self._full[k][0]) for k in resolved.binary}
        resolved.sysreqs = ()
        return resolved

    def _settled(
        self, resolved: Resolved, name: str, constraints: tuple[rversion.Constraint, ...], origin: Package
    ) -> bool:
        if name in resolved.source:
            version = resolved.source[name].version
            if not rversion.satisfies(version, constraints):
                wanted = _shown(constraints)
                raise origin.error(f"{name} {version} is asked for, but {origin.name} needs {name} {wanted}")
            return True
        debian = _debian_name(name)
        if debian not in resolved.binary:
            return False
        if rversion.satisfies(resolved.binary[debian], constraints):
            return True
        del resolved.binary[debian]  # a source package wants a newer one than Debian's
        return False

    def _from_debian(self, resolved: Resolved, name: str, constraints: tuple[rversion.Constraint, ...]) -> bool:
        version = self._debian.get(name.lower())
        if version is None or not rversion.satisfies(version, constraints):
            return False
        resolved.binary[_debian_name(name)] = version
        return True

    def _source(self, name: str, constraints: tuple[rversion.Constraint, ...]) -> Source | None:
        for repo in self._repos:
            entry = self._index(repo).get(name)
            if entry and rversion.satisfies(entry["Version"], constraints):
                folder = f"{repo}/src/contrib" + (f"/{entry['Path']}" if entry.get("Path") else "")
                return Source(name, entry["Version"], f"{folder}/{name}_{entry['Version']}.tar.gz", entry)
        return None

    def _archived(self, name: str, constraints: tuple[rversion.Constraint, ...]) -> Source | None:
        """An exact version from the Archive folder, whose index entry is the DESCRIPTION in the file itself."""
        exact = next((version for op, version in constraints if op == "=="), None)
        if exact is None or not rversion.satisfies(exact, constraints):
            return None
        for repo in self._repos:
            url = f"{repo}/src/contrib/Archive/{quote(name)}/{quote(name)}_{exact}.tar.gz"
            try:
                path = self._fetch.file(url, f"{name}_{exact}.tar.gz")
            except OSError:
                continue
            return Source(name, exact, url, description(path, name))
        return None

    def _index(self, repo: str) -> dict[str, dict[str, str]]:
        if repo not in self._indexes:
            try:
                self._indexes[repo] = self._fetch.index(repo)
            except OSError as error:
                self._failures[repo] = reason(error)
                self._indexes[repo] = {}
        return self._indexes[repo]

    def _check_r(
        self, source: Source, needs: Sequence[tuple[str, tuple[rversion.Constraint, ...]]], origin: Package
    ) -> None:
        for name, constraints in needs:
            if name == "R" and not rversion.satisfies(self._r_version, constraints):
                raise origin.error(
                    f"{source.name} {source.version} needs R {_shown(constraints)}; the image has R {self._r_version}",
                    f"ask for an older version ({source.name}==…), or choose a base with a newer R",
                )

    def _missing(self, name: str, constraints: tuple[rversion.Constraint, ...], origin: Package) -> Exception:
        searched = [
            f"{repo} (not reachable: {self._failures[repo]})" if repo in self._failures else repo
            for repo in self._repos
        ]
        hints = [f"searched: Debian r-cran-*, {', '.join(searched)}"]
        found = [version for version in [self._debian.get(name.lower())] if version]
        found += [index[name]["Version"] for index in self._indexes.values() if name in index]
        if self._failures:
            hints.append("name a repository that can be reached under r.repos, or in RUNNER_CRAN")
        if found:
            return origin.error(
                f"no version of {name} fits {_shown(constraints)}", f"there is: {', '.join(found)}", *hints
            )
        proper = {known.lower(): known for index in self._indexes.values() for known in index}
        near = _nearest(name, [proper.get(known, known) for known in {*self._debian, *proper}])
        whose = "" if name == origin.name else f" (needed by {origin.name})"
        guess = [f"did you mean {near}?"] if near else []
        return origin.error(f"no package named {name!r} in the repositories{whose}", *guess, *hints)


def _dependencies(fields: Mapping[str, str]) -> list[tuple[str, tuple[rversion.Constraint, ...]]]:
    text = ",".join(fields.get(key, "") for key in ("Depends", "Imports", "LinkingTo"))
    return [
        (match[1], ((match[2], match[3]),) if match[2] in {"==", ">=", "<=", "!=", ">", "<"} else ())
        for part in text.split(",")
        if (match := _DEPENDENCY.fullmatch(part.strip()))
    ]


def _debian_name(name: str) -> str:
    return f"r-cran-{name.lower()}"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    from runner.spec.yamldoc import nearest

    return nearest(name, known)


def _shown(constraints: Iterable[rversion.Constraint]) -> str:
    return ", ".join(f"{op} {version}" for op, version in constraints)


def fingerprint(p):
    return ""


def system_packages():
    return ()


def system_requirements(s):
    return ()


def runtime_of(a, b):
    return ()


def needs(source):
    return [n for n, _ in _dependencies(source.fields)]


def locked(resolved):
    from runner.spec.lock import Locked

    return (
        *(Locked("r", k, b.version, source="debian") for k, b in resolved.binary.items()),
        *(Locked("r", s.name, s.version, s.url) for s in resolved.source.values()),
    )


def sources_from_lock(locked, libs, ca):
    f = Fetcher(ca)
    out = []
    for l in locked:
        path = f.file(l.source, f"{l.name}_{l.version}.tar.gz")
        s = Source(l.name, l.version, l.source, description(path, l.name))
        out.append(s)
    return out
