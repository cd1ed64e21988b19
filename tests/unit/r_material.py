"""What tests of R packages share: declared packages, and a resolver with a cache of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.builder.r.resolved import Resolved
from runner.builder.r.resolver import Resolver
from runner.spec import items, rversion
from runner.spec.libs import Kind, Package, Remote
from runner.spec.lock import Locked

DEBIAN = {
    "r-cran-jsonlite": ("1.8.4+dfsg-1",),
    "r-cran-rcpp": ("1.0.10-1", "1.0.9-1"),
    "r-cran-zoo": ("1.8-11-1",),
    "r-bioc-limma": ("3.54.1+dfsg-1",),
    "r-base-core": ("4.2.2.20221110-2",),
}


def asked(spec: str, kind: Kind = "cran", line: int = 4) -> Package:
    """A declared package of a repository: `DBI==1.0`."""
    match = items.CRAN.fullmatch(spec)
    assert match is not None
    constraints = rversion.parse_constraints(match[2]) if match[2] else ()
    return Package(kind, match[1], spec, "libs.yaml", line, f"r.{kind}", constraints)


def remote(spec: str, where: Remote, line: int = 7) -> Package:
    """A declared package of GitHub, an address or a path."""
    return Package("github", where.target.rsplit("/", 1)[-1], spec, "libs.yaml", line, "r.github", remote=where)


@dataclass
class Bench:
    """Resolves with these settings. told: what was reported."""

    folder: Path
    repos: tuple[str, ...] = ()
    debian: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: DEBIAN)
    r_version: str = "4.2.2"
    told: list[str] = field(default_factory=list)

    def __call__(
        self, *packages: str | Package, preferred: Mapping[str, Locked] | None = None, **options: Any
    ) -> Resolved:
        settings = {"snapshot": None, "debian_suite": "bookworm", "libs_folder": self.folder, **options}
        resolver = Resolver(self.debian, self.repos, self.r_version, None, report=self.told.append, **settings)
        declared = [asked(each, line=4 + i) if isinstance(each, str) else each for i, each in enumerate(packages)]
        return resolver.resolve(declared, preferred or {})


def by_name(resolved: Resolved) -> dict[str, Locked]:
    """What a lock would hold, as the next resolution takes it."""
    return {locked.name: locked for locked in resolved.locked()}


def versions(resolved: Resolved) -> dict[str, str]:
    """Of the packages that are no Debian binaries."""
    return {name: source.version for name, source in resolved.source.items()}
