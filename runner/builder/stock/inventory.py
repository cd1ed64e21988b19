"""What something holds - a libs file, a lock, an image, this machine - in one shape, so that any two compare. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from packaging.utils import canonicalize_name

from runner.builder.stock.asked import Ask, of_package, of_text
from runner.spec import rversion
from runner.spec.lock import KINDS, LockedKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.spec.libs import Libs
    from runner.spec.lock import Lock

Source = Literal["libs", "lock", "image", "local"]
_DEBIAN_R = ("r-cran-", "r-bioc-")
_OF_R_ITSELF = frozenset({
    "base", "compiler", "datasets", "graphics", "grDevices", "grid", "methods", "parallel", "splines", "stats", "stats4",
    "tcltk", "tools", "utils",
})  # fmt: skip
"""Packages that have R's own version and cannot be had otherwise."""
_BASE_STAGE = "base"
_FACT = re.compile(r"runner:(\w+)\|([^|]*)\|(.*)")


class Found(NamedTuple):
    """A package that is there. kind: of the manager that brought it."""

    kind: LockedKind
    name: str
    version: str


Packages = dict[LockedKind, dict[str, Found]]
"""kind → key (see `key`) → what is there."""
Asks = dict[LockedKind, dict[str, Ask]]


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one side holds.

    shown: what to call it. python, r: versions; "" where there is none, None where nothing is known.
    whole: the kinds of which every package is known, so that one that is not among them is not there. asks: what its libs
    file asks for. python_ask: the Python version that it asks for. notes: what else a reader must know.
    """

    shown: str
    source: Source
    python: str | None = None
    r: str | None = None
    packages: Packages = field(default_factory=dict)
    whole: frozenset[LockedKind] = frozenset()
    asks: Asks = field(default_factory=dict)
    python_ask: str = ""
    notes: tuple[str, ...] = ()

    @property
    def only_asks(self) -> bool:
        """A libs file without a lock: which versions it gets is not known."""
        return self.source == "libs" and not self.packages

    def of(self, kind: LockedKind) -> Mapping[str, Found]:
        """The packages of a kind, by key."""
        return self.packages.get(kind, {})

    def ask(self, kind: LockedKind, name: str) -> Ask | None:
        """What is asked for under that key."""
        return self.asks.get(kind, {}).get(name)

    def find(self, kind: LockedKind, name: str) -> Found | None:
        """The package of that key, whichever manager brought it: `import numpy` does not tell conda's from pip's."""
        if found := self.of(kind).get(name):
            return found
        match kind:
            case "pip":
                debian = self.of("apt").get(f"python3-{name}")
                of_debian = Found("apt", name, rversion.from_debian(debian.version)) if debian else None
                return self.of("conda").get(name) or of_debian
            case "conda" if name.startswith("r-"):
                return self.of("r").get(name[2:])
            case "conda":
                return self.of("pip").get(name)
            case "r":
                return self.of("conda").get(f"r-{name}")
            case "apt":
                return None


def key(kind: LockedKind, name: str) -> str:
    """What a name is compared by: the same for all spellings of one name. CRAN has no two that differ in case only."""
    return str(canonicalize_name(name)) if kind == "pip" else name.lower()


def of_lock(lock: Lock, shown: str) -> Inventory:
    """Of a lock alone; what it was made for is kept in it."""
    found = [Found(each.kind, each.name, _r_version(each.version, each.source)) for each in lock.packages]
    whole: set[LockedKind] = {"pip", "conda"}
    if any(each.stage == _BASE_STAGE for each in lock.packages):
        whole.add("apt")
    if not lock.r or lock.find("apt", "r-base-core"):
        whole.add("r")  # else the base brought R, perhaps with packages
    return Inventory(
        shown, "lock", lock.python, lock.r, _packages(found), frozenset(whole), _asks_of_lock(lock),
        next(iter(lock.declared.get("python", ())), ""),
    )  # fmt: skip


def of_libs(libs: Libs, shown: str, lock: Lock | None) -> Inventory:
    """Of a libs file, with the versions of its lock where there is one that still fits what is asked for."""
    asks = _asks(map(of_package, libs.declared))
    if lock is None:
        return Inventory(shown, "libs", asks=asks, python_ask=libs.python or "")
    locked = of_lock(lock, shown)
    packages = {kind: dict(found) for kind, found in locked.packages.items()}
    for kind, of_kind in asks.items():
        for name, ask in of_kind.items():
            there = packages.get(kind, {}).get(name)
            if there is not None and not ask.allows(there.version):
                del packages[kind][name]
    return replace(locked, source="libs", packages=packages, asks=asks, python_ask=libs.python or "")


def of_manifest(manifest: Mapping[str, Any], lock: Lock, shown: str) -> Inventory:
    """Of an image's own record (/opt/runner/manifest.json) with the lock in it."""
    installed = manifest["installed"]
    found = [Found(kind, name, version) for kind in KINDS for name, version in installed.get(kind, {}).items()]
    of_lock_ = of_lock(lock, shown)
    return replace(of_lock_, source="image", packages=_packages(found), whole=frozenset(KINDS))


def of_answers(text: str, shown: str, source: Source) -> Inventory:
    """Of what the scripts in probes/ printed. What was not told of is not known."""
    facts = [match.groups() for line in text.splitlines() if (match := _FACT.fullmatch(line.rstrip("\r")))]
    versions = {name: value for what, name, value in facts if what == "version"}
    found = [
        Found(kind, name, value.partition("|")[0])
        for kind in KINDS
        for what, name, value in facts
        if what == kind and name and (kind != "apt" or value.endswith("|installed"))
    ]
    told = {name for what, name, _ in facts if what == "all"}
    whole = frozenset(kind for kind in KINDS if kind in told)
    return Inventory(shown, source, versions.get("python"), versions.get("R"), _packages(found), whole)


def _packages(found: Iterable[Found]) -> Packages:
    packages: Packages = {kind: {} for kind in KINDS}
    for each in found:
        if each.kind == "r" and each.name in _OF_R_ITSELF:
            continue
        # The first of a name is the one that an import finds.
        packages[each.kind].setdefault(key(each.kind, each.name), each)
    for name, each in packages["apt"].items():
        # R's own spelling is lost in Debian's name, so what R or a lock calls it goes first.
        if name.startswith(_DEBIAN_R):
            short = name.split("-", 2)[2]
            packages["r"].setdefault(short, Found("r", short, rversion.from_debian(each.version)))
    return packages


def _r_version(version: str, source: str) -> str:
    return rversion.from_debian(version) if source == "debian" else version


def _asks(asks: Iterable[Ask]) -> Asks:
    found: Asks = {}
    for ask in asks:
        if ask.kind == "r" and ask.name in _OF_R_ITSELF:  # as with what is installed
            continue
        found.setdefault(ask.kind, {})[key(ask.kind, ask.name)] = ask
    return found


def _asks_of_lock(lock: Lock) -> Asks:
    return _asks(ask for kind in KINDS for text in lock.declared.get(kind, ()) if (ask := of_text(kind, text)))
