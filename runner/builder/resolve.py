"""What a build will install, found out before anything is installed: a misspelt package fails in seconds."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.builder import cran
from runner.builder.failures import explain
from runner.builder.repository import Source
from runner.spec import rversion
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.builder.session import Finished, Session
    from runner.errors import SpecError
    from runner.spec.libs import Libs, Package


@dataclass(frozen=True, slots=True)
class Available:
    """What apt of an image offers. versions: package → its versions, newest first."""

    versions: Mapping[str, tuple[str, ...]]
    names: tuple[str, ...]
    virtual: frozenset[str]
    r_of_base: str | None
    """R's version where the base image brings its own R, which Debian's r-cran-* packages do not fit."""


def resolve(session: Session, libs: Libs, image: str) -> cran.Resolved:
    """Check every apt package, and find every R package that is needed. `image`: whose apt sources count.

    Raises:
        SpecError: a package that cannot be had, at its line, with the nearest name and where was searched.
        BuildError: the package lists cannot be fetched.
    """
    names = "".join(f"{package.name}\n" for package in libs.apt).encode()
    session.report("resolve", "asking apt …")
    with session.step("resolve", image, ("/bin/sh", "/mnt/in/resolve.sh"), {"packages": names}) as done:
        if done.ran.exit_code:
            raise explain("resolve", libs, done.lines, done.ran.exit_code, oom=done.ran.oom, log=session.log_path)
        available = _available(done)
    for package in libs.apt:
        _check_apt(package, available)
    resolved = cran.Resolved()
    if libs.r_packages:
        session.report("resolve", f"{len(libs.r_packages)} R packages …")
        resolved = _resolve_r(session, libs, available)
    parts = [f"{len(libs.apt)} apt"] if libs.apt else []
    if libs.r_packages:
        parts.append(
            f"{len(libs.r_packages)} R: {len(resolved.binary)} Debian binaries, {len(resolved.source)} from source"
        )
    session.report("resolve", ", ".join(parts))
    return resolved


def to_label(resolved: cran.Resolved) -> str:
    """A resolution as JSON, for a label of the binaries' layer: the source layer is made from it, perhaps much later."""
    sources = [[source.name, source.version, source.url, dict(source.fields)] for source in resolved.source.values()]
    return json.dumps({"binary": resolved.binary, "source": sources})


def from_label(label: str) -> cran.Resolved:
    """The inverse of `to_label`."""
    data = json.loads(label)
    sources = (Source(*item) for item in data["source"])
    return cran.Resolved(data["binary"], {source.name: source for source in sources})


def _resolve_r(session: Session, libs: Libs, available: Available) -> cran.Resolved:
    debian = {
        name.removeprefix("r-cran-"): rversion.from_debian(versions[0])
        for name, versions in available.versions.items()
        if name.startswith("r-cran-")
    }
    r_debian = available.versions.get("r-base-core", ("",))[0]
    r_version = available.r_of_base or ".".join(rversion.from_debian(r_debian).split(".")[:3])
    repos = cran.repositories(libs.repos)
    resolver = cran.Resolver({} if available.r_of_base else debian, repos, r_version, session.ca_bundle)
    return resolver.resolve(libs.r_packages)


def _available(done: Finished) -> Available:
    versions: dict[str, list[str]] = {}
    for line in _read(done, "versions"):
        name, version, _ = (part.strip() for part in line.split("|", 2))
        versions.setdefault(name, []).append(version)
    return Available(
        {name: tuple(found) for name, found in versions.items()},
        tuple(_read(done, "names")),
        frozenset(_read(done, "virtual")),
        done.answers.get("r_of_base"),
    )


def _read(done: Finished, name: str) -> list[str]:
    path = done.out / name
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _check_apt(package: Package, available: Available) -> None:
    versions = available.versions.get(package.name)
    if versions is None and package.name not in available.virtual:
        raise _no_such_package(package, available.names)
    if package.version and not any(fnmatch.fnmatchcase(version, package.version) for version in versions or ()):
        there = ", ".join(versions or ())
        raise package.error(f"no version of {package.name} fits {package.version}", f"there is: {there or 'none'}")


def _no_such_package(package: Package, names: Iterable[str]) -> SpecError:
    near = nearest(package.name, names)
    guess = [f"did you mean {near}?"] if near else []
    return package.error(f"no package named {package.name!r} in the image's apt sources", *guess)
