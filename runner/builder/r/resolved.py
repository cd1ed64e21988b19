"""What a resolution gives: for each R package the Debian binary or the file that it is installed from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from runner.builder.r.cranlike import Offer
from runner.builder.r.source import Source
from runner.builder.r.sysreqs import needs_of
from runner.spec import rversion
from runner.spec.lock import DEBIAN, Locked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.spec.libs import Package


class Binary(NamedTuple):
    """An R package that apt installs. version: R's. debian_version: Debian's, whole."""

    name: str
    package: str
    debian_version: str

    @property
    def version(self) -> str:
        """As R calls it."""
        return rversion.from_debian(self.debian_version)

    @property
    def fields(self) -> Mapping[str, str]:
        """Nothing: apt brings along what it needs."""
        return {}

    def locked(self) -> Locked:
        """Its line in a lock."""
        return Locked("r", self.name, self.debian_version, source=DEBIAN)


class Present(NamedTuple):
    """An R package that the base image has already. Nothing is to be done, and the base's digest is its lock."""

    name: str
    version: str

    @property
    def fields(self) -> Mapping[str, str]:
        """Nothing: what it needs is there too."""
        return {}


Choice = Binary | Offer | Present | Source


@dataclass(slots=True)
class Resolved:
    """How the declared R packages and what they need are had.

    packages: as declared, with the name that a remote's DESCRIPTION gives. binary, source: R package → where it is from.
    sysreqs: Debian packages to build `source` with; `runtime_of` tells what stays of them. sysreqs_run: Debian packages
    that its use needs beside those.
    """

    packages: tuple[Package, ...] = ()
    binary: dict[str, Binary] = field(default_factory=dict)
    source: dict[str, Source] = field(default_factory=dict)

    @property
    def sysreqs(self) -> tuple[str, ...]:
        """Sorted; those of packages that were built already too, for the libraries that they are linked to."""
        return needs_of(self.source.values()).build

    @property
    def sysreqs_run(self) -> tuple[str, ...]:
        """Sorted."""
        return needs_of(self.source.values()).run

    def locked(self) -> tuple[Locked, ...]:
        """The lines of a lock, by name."""
        every: list[Binary | Source] = [*self.binary.values(), *self.source.values()]
        return tuple(each.locked() for each in sorted(every, key=lambda each: each.name))
