"""What apt of an image offers, and what it would install: asked in one container, before anything is installed."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from runner.builder.failures import explain
from runner.errors import BuildError
from runner.spec.lock import Locked
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.builder.session import Finished, Session
    from runner.errors import SpecError
    from runner.spec.libs import Libs, Package

_FETCHED = re.compile(r"'[^']*' ([^_\s]+)_([^_\s]+)_[^_\s]+\.deb ")
"""An archive as `apt-get --print-uris` has it: 'ADDRESS' NAME_VERSION_ARCHITECTURE.deb SIZE HASH."""
_REMOVED = re.compile(r"^The following packages will be REMOVED:\n((?: .*\n?)+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What apt and the base image have.

    versions: package → its versions, newest first. depends: of the packages that were asked for, as `apt-cache depends`
    prints it. installed: the base's own packages, name → version. pythons: command → version. suite: `bookworm`.
    r_of_base: R's version where the base brings its own R, which Debian's r-cran-* packages do not fit; r_installed: its
    packages, name → version.
    """

    versions: Mapping[str, tuple[str, ...]]
    names: tuple[str, ...]
    virtual: frozenset[str]
    depends: str
    installed: Mapping[str, str]
    pythons: Mapping[str, str]
    suite: str
    r_of_base: str | None
    r_installed: Mapping[str, str]


def ask(session: Session, libs: Libs, image: str, depends: Iterable[str]) -> Facts:
    """The facts of an image; `depends`: packages whose dependencies are wanted.

    Raises:
        BuildError: the package lists cannot be fetched.
    """
    inputs = {"ask": _lines(package.name for package in libs.apt), "depends": _lines(depends)}
    with session.step("resolve", image, ("/bin/sh", "/mnt/in/resolve.sh"), inputs) as done:
        _check(session, libs, done)
        return _facts(done)


def simulate(
    session: Session,
    libs: Libs,
    image: str,
    *,
    stages: Mapping[str, Sequence[str]],
    kept: Sequence[Locked],
    settled: frozenset[str] = frozenset(),
) -> tuple[Locked, ...]:
    """Everything that apt would install for the stages, one on top of the other: each package once, in the first stage that
    brings it, in the version that all stages together give it.

    Args:
        stages: stage → package names, perhaps with `=VERSION`, in the order of the layers.
        kept: locked packages; their version is kept where apt still has it, and their stage.
        settled: stages of which `kept` tells all packages, so that apt need not be asked.

    Raises:
        BuildError: they exclude each other, or one would remove a package of the image.
    """
    final = next(stage for stage in reversed(list(stages)) if stages[stage])
    asked_of = {
        stage: f"{i}-{stage}" + ".settled" * (stage in settled and stage != final) for i, stage in enumerate(stages)
    }
    names = {f"stages/{asked_of[stage]}": _lines(asked) for stage, asked in stages.items()}
    pins = "".join(f"Package: {each.name}\nPin: version {each.version}\nPin-Priority: 1001\n\n" for each in kept)
    inputs = {**names, "pins": pins.encode()}
    with session.step("resolve", image, ("/bin/sh", "/mnt/in/resolve.sh"), inputs) as done:
        _check(session, libs, done)
        plans = {stage: _plan(session, done, f"plan-{file}") for stage, file in asked_of.items()}
    first = {each.name: each.stage for each in kept if each.stage in settled}
    for stage, plan in plans.items():
        for name in plan:
            first.setdefault(name, stage)
    return tuple(Locked("apt", name, version, stage=first[name]) for name, version in sorted(plans[final].items()))


def check(packages: Iterable[Package], facts: Facts) -> None:
    """That apt has every declared package, in the version asked for.

    Raises:
        SpecError: at the line of the one that it has not, with the nearest name or the versions there are.
    """
    for package in packages:
        versions = facts.versions.get(package.name)
        if versions is None and package.name not in facts.virtual:
            near = nearest(package.name, facts.names)
            guess = [f"did you mean {near}?"] if near else []
            raise package.error(f"no package named {package.name!r} in the image's apt sources", *guess)
        if package.version and not any(fnmatch.fnmatchcase(version, package.version) for version in versions or ()):
            raise no_version(package, versions or ())


def no_version(package: Package, versions: Sequence[str]) -> SpecError:
    """The error for a version that apt has not."""
    there = ", ".join(versions)
    return package.error(f"no version of {package.name} fits {package.version}", f"there is: {there or 'none'}")


def _check(session: Session, libs: Libs, done: Finished) -> None:
    if done.ran.exit_code:
        raise explain("resolve", libs, done.lines, done.ran.exit_code, oom=done.ran.oom, log=session.log_path)


def _plan(session: Session, done: Finished, name: str) -> dict[str, str]:
    text = done.text(name)
    if removed := _REMOVED.search(text):
        raise BuildError(
            f"apt: installing the declared packages would remove {', '.join(removed[1].split())} of the image",
            "two of them exclude each other: take one out, or choose another base",
            f"full log: {session.log_path}",
        )
    return {unquote(name): unquote(version) for name, version in _FETCHED.findall(text)}


def _facts(done: Finished) -> Facts:
    versions: dict[str, list[str]] = {}
    for line in _read(done, "versions"):
        name, version, _ = (part.strip() for part in line.split("|", 2))
        known = versions.setdefault(name, [])
        if version not in known:
            known.append(version)
    return Facts(
        versions={name: tuple(found) for name, found in versions.items()},
        names=tuple(_read(done, "names")),
        virtual=frozenset(_read(done, "virtual")),
        depends="\n".join(_read(done, "depends")),
        installed=dict(_pair(line) for line in _read(done, "installed")),
        pythons=dict(reversed([_pair(line) for line in _read(done, "pythons")])),
        suite=done.answers.get("suite", ""),
        r_of_base=done.answers.get("r_of_base"),
        r_installed=dict(_pair(line) for line in _read(done, "r_installed")),
    )


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(" ")
    return name, value


def _read(done: Finished, name: str) -> list[str]:
    return done.text(name).splitlines()


def _lines(items: Iterable[str]) -> bytes:
    return "".join(f"{item}\n" for item in items).encode()
