"""Libs file → lock: everything that an image will hold, found out before anything is installed.

What was locked stays where it still fits; only the managers whose part of the libs file changed are asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from runner.builder import apt, pip
from runner.builder.layers import Layers
from runner.builder.r import services, sysreqs
from runner.builder.r.resolver import Resolver
from runner.builder.stages import apt_stages
from runner.errors import BuildError, UsageError
from runner.spec import rversion
from runner.spec.lock import DEBIAN, Lock, Locked
from runner.spec.places import files_below
from runner.spec.requirements import local_archive
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.builder.session import Session
    from runner.docker_api.images import Image
    from runner.spec.libs import Libs, Package
    from runner.spec.lock import Base, LockedKind

EVERYTHING = "*"
"""Among the names to upgrade: all of them."""
BASE_STAGE = "base"
"""Stage of the packages of a base that was made here: another machine can tell by them whether its own is the same."""

_OF_APT = ("base", "python", "apt")
_OF_R = ("base", "r", "r.repos", "r.snapshot", "r.sysreqs")
_OF_CONDA = ("conda", "conda.channels", "python")
_OF_PIP = ("base", "python", "conda", "conda.channels", "pip", "pip.options", "pip.files", "pip.hashes")


def declared(libs: Libs) -> dict[str, tuple[str, ...]]:
    """What of a libs file decides its lock: key → items, as they are written to the lock."""
    archives = {
        path: libs.path.resolve().parent / path for each in libs.pip if (path := local_archive(each.spec)) is not None
    }
    found: dict[str, Sequence[str]] = {
        "base": [libs.base or ""],
        "python": [libs.python or ""],
        "apt": [each.spec for each in libs.apt],
        "conda": [each.spec for each in libs.conda],
        "conda.channels": libs.conda_channels if libs.conda else [],
        "r": [f"{each.kind} {each.spec}{_fingerprint(each)}" for each in libs.r_packages] or ["R"] * libs.r,
        "r.repos": libs.repos,
        "r.snapshot": [libs.snapshot or ""],
        "r.sysreqs": ["auto" if libs.sysreqs else "none"],
        "pip": [each.spec for each in libs.pip],
        "pip.options": libs.pip_rest,
        "pip.files": [f"{path} sha256:{sha256(file.read_bytes()).hexdigest()}" for path, file in archives.items()],
        "pip.hashes": [f"{name} {' '.join(sorted(hashes))}" for name, hashes in sorted(libs.pip_hashes.items())],
    }
    return {key: tuple(items) for key, items in found.items() if any(items) and items != ["auto"]}


def _fingerprint(package: Package) -> str:
    """A local R package counts by its files."""
    if package.remote is None or package.remote.kind != "path":
        return ""
    digest = sha256()
    for file in files_below(Path(package.remote.target)):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    return f" sha256:{digest.hexdigest()}"


def moved_on(lock: Lock, libs: Libs) -> list[str]:
    """How a libs file differs from the one that its lock was made from: `apt: + libxml2`; [] when it does not."""
    now = declared(libs)
    lines = []
    for key in sorted(now.keys() | lock.declared.keys()):
        new, old = now.get(key, ()), lock.declared.get(key, ())
        changes = [f"+ {item}" for item in new if item not in old] + [f"- {item}" for item in old if item not in new]
        if changes or new != old:
            lines.append(f"{key}: {', '.join(changes) or 'another order'}")
    return lines


def lacking(lock: Lock, libs: Libs) -> list[str]:
    """What a lock was made for and does not hold, since somebody edited or merged it. Debian's and R's packages may be the
    base's own, and a marker may rule one out."""
    names = {(each.kind, each.name) for each in lock.packages}
    asked = [
        each for each in (*libs.conda, *libs.pip) if each.spec in lock.declared.get(each.kind, ()) and not each.marker
    ]
    return [each.name for each in asked if (each.kind, each.name) not in names]


def resolve(
    session: Session,
    libs: Libs,
    image: Image,
    base: Base,
    *,
    old: Lock | None = None,
    upgrade: frozenset[str] = frozenset(),
    again: bool = False,
) -> Lock:
    """The lock of a libs file.

    Args:
        image: the base. old: the lock before; what of it still fits is kept. upgrade: names that are resolved anew, or
            EVERYTHING. again: ask every manager, also where nothing has changed.

    Raises:
        UsageError: a name in `upgrade` that there is not.
        SpecError: a package that cannot be had, at its line, with the nearest name and where was searched.
        BuildError: packages exclude each other, or an index cannot be reached.
    """
    _check_names(libs, old, upgrade)
    unchanged = old is not None and old.base == base and old.declared == declared(libs)
    if unchanged and old is not None and not upgrade and not again:
        return old
    return _Resolution(session, libs, image, base, None if EVERYTHING in upgrade else old, upgrade, again).lock()


def _check_names(libs: Libs, old: Lock | None, upgrade: frozenset[str]) -> None:
    locked = old.packages if old else ()
    known = {each.name for each in libs.declared} | {each.name for each in locked if each.stage != BASE_STAGE}
    of_base = {each.name for each in locked} - known
    if old and (named := sorted(upgrade & of_base)):
        message = f"--upgrade {named[0]}: it belongs to the base, {old.base.reference}"
        raise UsageError(message, f"for a newer one, if Debian has it: apt: [{named[0]}]; or another base")
    for name in sorted(upgrade - known - {EVERYTHING}):
        near = nearest(name, known)
        guess = [f"did you mean {near}?"] if near else []
        raise UsageError(f"--upgrade {name}: neither {libs.path.name} nor its lock has that package", *guess)


@dataclass
class _Resolution:
    session: Session
    libs: Libs
    image: Image
    base: Base
    old: Lock | None
    upgrade: frozenset[str]
    again: bool
    glibc: str | None = None
    """The version of the base's C library, where it was asked for."""

    def lock(self) -> Lock:
        apt_, r, r_version = self._system()
        layers = Layers(self.session, self.libs, self.image)
        first = [stage for stage in apt_stages(self.libs, apt_) if stage.name == "python"]
        python_image = layers.build(first)[1]
        conda = self._conda()
        of_conda = next((each.version for each in conda if each.name == "python"), None)
        python = of_conda or python_image.labels["runner.python.version"]
        pip_ = self._pip(python_image, python, apt_)
        return Lock(
            base=self.base,
            platform=f"linux/{self.image.architecture}",
            python=python,
            r=r_version,
            declared=declared(self.libs),
            packages=(*apt_, *conda, *r, *pip_),
        )

    def _kept(self, kind: LockedKind, keys: Iterable[str]) -> tuple[Locked, ...] | None:
        """The locked packages of a kind when nothing that decides them has changed, else None."""
        if self.again or self.old is None or self.old.base.id != self.base.id:
            return None
        now = declared(self.libs)
        if any(now.get(key) != self.old.declared.get(key) for key in keys):
            return None
        return None if any(map(self._upgraded, self._locked(kind))) else self._locked(kind)

    def _locked(self, kind: LockedKind) -> tuple[Locked, ...]:
        return self.old.of(kind) if self.old else ()

    def _preferred(self, kind: LockedKind) -> tuple[Locked, ...]:
        return tuple(each for each in self._locked(kind) if not self._upgraded(each))

    def _upgraded(self, package: Locked) -> bool:
        """Whether it is to be chosen anew; an R package of Debian's under Debian's name too."""
        names = {package.name}
        if package.kind == "r" and package.source == DEBIAN:
            names |= {f"r-cran-{package.name.lower()}", f"r-bioc-{package.name.lower()}"}
        return not names.isdisjoint(self.upgrade)

    def _system(self) -> tuple[tuple[Locked, ...], tuple[Locked, ...], str]:
        """(apt's packages, R's packages, R's version)."""
        libs = self.libs
        kept_apt, kept_r = self._kept("apt", (*_OF_APT, *_OF_R)), self._kept("r", _OF_R)
        if kept_apt is not None and kept_r is not None and self.old is not None:
            return kept_apt, kept_r, self.old.r
        self.session.report("resolve", "asking apt …")
        depends = sysreqs.debian_packages() if libs.r_packages and libs.sysreqs else ()
        facts = apt.ask(self.session, libs, self.image.id, depends)
        apt.check(libs.apt, facts)
        r_version = _r_version(libs, facts)
        if libs.r_version_wanted and libs.r_version_wanted.split(".")[:2] != r_version.split(".")[:2]:
            told = f"renv.lock was made with R {libs.r_version_wanted}, and the image has R {r_version or 'none'}"
            self.session.report("resolve", f"{told}: some of its versions may not build; a base with that R would do")
        self.glibc = rversion.from_debian(facts.installed.get("libc6", "")) or None
        if kept_r is None:
            kept_r, binary = self._r(facts, r_version)
        else:
            binary = [each.name for each in self._locked("apt") if each.stage == "r-binary"]
        stages = {
            "python": _python(libs, facts),
            "r": ["r-base-core"] if r_version and not facts.r_of_base else [],
            "apt": [each.spec for each in libs.apt],
            "r-binary": binary,
        }
        kept = [each for each in self._preferred("apt") if each.stage != BASE_STAGE]
        installed: tuple[Locked, ...] = ()
        if any(stages.values()):
            settled = self._settled()
            installed = apt.simulate(self.session, libs, self.image.id, stages=stages, kept=kept, settled=settled)
        if self.base.recipe:
            names = {each.name for each in installed}
            own = {name: version for name, version in facts.installed.items() if name not in names}
            installed += tuple(Locked("apt", name, version, stage=BASE_STAGE) for name, version in own.items())
        return installed, kept_r, r_version

    def _settled(self) -> frozenset[str]:
        """The stages of apt that are as they were; a stage counts only while those below it do."""
        if self._kept("apt", _OF_APT[:2]) is None or self.old is None or bool(self.old.r) != self.libs.r:
            return frozenset()
        return frozenset(["python", "r"]) if self._kept("apt", _OF_APT) is None else frozenset(["python", "r", "apt"])

    def _r(self, facts: apt.Facts, r_version: str) -> tuple[tuple[Locked, ...], list[str]]:
        """(R's packages, what apt installs for them)."""
        libs = self.libs
        if not libs.r_packages:
            return (), []
        self.session.report("resolve", f"{len(libs.r_packages)} R packages …")
        debian = {
            name: versions for name, versions in facts.versions.items() if name.startswith(("r-cran-", "r-bioc-"))
        }
        resolver = Resolver(
            {} if facts.r_of_base else debian,
            services.repositories(libs.repos),
            r_version,
            self.session.ca_bundle,
            snapshot=libs.snapshot,
            debian_suite=facts.suite,
            libs_folder=libs.path.resolve().parent,
            machine=services.machine(self.image.architecture),
            installed=facts.r_installed,
            report=lambda text: self.session.report("resolve", text),
        )
        resolved = resolver.resolve(libs.r_packages, {each.name: each for each in self._preferred("r")})
        wanted = [f"{binary.package}={binary.debian_version}" for binary in resolved.binary.values()]
        needed = (*sysreqs.runtime_of(resolved.sysreqs, facts.depends), *resolved.sysreqs_run) if libs.sysreqs else ()
        self.session.report(
            "resolve", f"{len(libs.r_packages)} R: {len(wanted)} Debian binaries, {len(resolved.source)} from source"
        )
        return resolved.locked(), [*wanted, *needed]

    def _conda(self) -> tuple[Locked, ...]:
        libs = self.libs
        if not libs.conda:
            return ()
        kept = self._kept("conda", _OF_CONDA)
        if kept is not None:
            return kept
        from runner.builder.conda import solve as conda

        self.session.report("resolve", f"{len(libs.conda)} conda packages …")
        platform = f"linux/{self.image.architecture}"
        found = conda.solve(
            libs.conda,
            libs.conda_channels,
            python=libs.python,
            preferred=self._preferred("conda"),
            platform=platform,
            ca_bundle=self.session.ca_bundle,
            upgrade=self.upgrade,
            **({"glibc": self.glibc} if self.glibc else {}),
        )
        conda.refuse_second_r(libs, found)
        return found

    def _pip(self, image: Image, python: str, apt_: tuple[Locked, ...]) -> tuple[Locked, ...]:
        if not self.libs.pip:
            return ()
        kept = self._kept("pip", _OF_PIP)
        if kept is not None and self.old is not None and self.old.python == python:
            return kept
        self.session.report("resolve", f"{len(self.libs.pip)} Python packages …")
        if any("git+" in each.spec for each in self.libs.pip):
            image = self._with_apt(image, apt_)
        try:
            return pip.resolve(self.session, self.libs, image, python, self._preferred("pip"))
        except BuildError as error:
            # What a source archive needs may only be known by building it, with the compilers that `apt` names.
            if "build" not in str(error).lower() or not self.libs.apt:
                raise
            return pip.resolve(self.session, self.libs, self._with_apt(image, apt_), python, self._preferred("pip"))

    def _with_apt(self, image: Image, apt_: tuple[Locked, ...]) -> Image:
        """The image with Python and what `apt` asks for."""
        wanted = [stage for stage in apt_stages(self.libs, apt_) if stage.name in {"python", "apt"}]
        return Layers(self.session, self.libs, self.image).build(wanted)[1] if wanted else image


def _r_version(libs: Libs, facts: apt.Facts) -> str:
    """R's version in the image, "" without R."""
    if not libs.r:
        return ""
    if facts.r_of_base:
        return facts.r_of_base
    offered = facts.versions.get("r-base-core", ("",))[0]
    return ".".join(rversion.from_debian(offered).split(".")[:3])


def _python(libs: Libs, facts: apt.Facts) -> list[str]:
    """What apt installs to have the Python that is asked for; nothing where the base has it.

    Raises:
        SpecError: neither the base nor its packages give it.
    """
    with_python = ["python3", "ca-certificates"]
    if libs.python is None:
        version = facts.pythons.get("python3")
        return [] if version and rversion.key(version) >= (3, 8) else with_python
    wanted = libs.python
    if any(_is(version, wanted) for version in facts.pythons.values()):
        return []
    offered = {name: rversion.from_debian(versions[0]) for name, versions in facts.versions.items()}
    if _is(offered.get("python3", ""), wanted):
        return with_python
    series = "python" + ".".join(wanted.split(".")[:2])
    if _is(offered.get(series, ""), wanted):
        return [series, "ca-certificates"]
    there = {*facts.pythons.values(), *(version for name, version in offered.items() if name.startswith("python3"))}
    raise libs.error(
        "python",
        libs.python_line,
        f"Python {wanted} is not to be had on this base",
        f"its packages give: {', '.join(sorted(there))}",
        f"leave python out, or choose a base that has it: base: python:{wanted}-slim",
    )


def _is(version: str, wanted: str) -> bool:
    return version == wanted or version.startswith(f"{wanted}.")


def same_base(lock: Lock, installed: Mapping[str, str]) -> list[str]:
    """How a base that was made anew differs from the one in the lock: `libc6 2.36-9 → 2.36-10`; [] when it does not."""
    locked = {each.name: each.version for each in lock.of("apt") if each.stage == BASE_STAGE}
    return [
        f"{name} {version} → {installed.get(name, 'missing')}"
        for name, version in sorted(locked.items())
        if installed.get(name) != version
    ]


def rebased(lock: Lock, base: Base) -> Lock:
    """The same lock on the same base by another id."""
    return replace(lock, base=base)
