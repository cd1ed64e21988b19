"""Which conda packages an image gets, by py-rattler's solver.

On this machine, not in the container: the user's proxy, CA bundle, credentials and `file://` channels then work as they are.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from runner.builder.cache import cache_dir
from runner.builder.conda.client import NETWORK, bare, client, need_rattler, own_channels, resolve, without_secrets
from runner.errors import BuildError
from runner.spec.lock import Locked
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rattler import GenericVirtualPackage, MatchSpec, RepoDataRecord
    from rattler.platform.subdir import SubdirLiteral

    from runner.builder.conda.client import Channel
    from runner.spec.libs import Libs, Package

GLIBC = "2.28"
"""The oldest C library that is built for where the base's is not known: Debian 10's, and what conda-forge builds on."""

_SUBDIRS: Mapping[str, SubdirLiteral] = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}
_ARCHSPEC: Mapping[SubdirLiteral, str] = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}
_KERNEL = "4.18"
_FOUND_SHOWN = 8
_NO_CANDIDATES = "No candidates were found for "
_CREDENTIALS = "credentials: https://USER:PASSWORD@HOST in RUNNER_CONDA, netrc, or a file named by RATTLER_AUTH_FILE"


def solve(
    packages: Sequence[Package],
    channels: Sequence[str],
    *,
    python: str | None = None,
    preferred: Sequence[Locked] = (),
    platform: str = "linux/amd64",
    ca_bundle: Path | None = None,
    upgrade: frozenset[str] = frozenset(),
    glibc: str = GLIBC,
) -> tuple[Locked, ...]:
    """What to install for these packages, with all that they depend on, by name.

    Args:
        packages: the declared ones.
        channels: names or addresses in the order of preference; a package comes from the first that has it.
        python: the version that Python must have where conda brings one, `3.11`.
        preferred: what a lock has; kept where it fits and a channel still has it.
        platform: of the image.
        ca_bundle: PEM file to trust for https, or None.
        upgrade: names that `preferred` does not hold for.
        glibc: the version of the base's C library.

    Raises:
        SpecError: a package is not there, or they do not go together; at the declared package's line.
        BuildError: py-rattler is missing, a channel cannot be read.
    """
    need_rattler()
    if (subdir := _SUBDIRS.get(platform)) is None:
        raise BuildError(f"conda packages cannot be installed for {platform}", f"known: {', '.join(_SUBDIRS)}")
    found = resolve([*channels, *own_channels(packages)])
    keep = [each for each in preferred if each.name not in upgrade]
    return asyncio.run(_Solver(packages, found, subdir, ca_bundle).solve(keep, python, glibc))


class _Solver:
    """One solve: the declared packages against channels, for one of conda's platforms (`linux-64`)."""

    def __init__(
        self, packages: Sequence[Package], channels: Sequence[Channel], subdir: SubdirLiteral, ca_bundle: Path | None
    ) -> None:
        from rattler import Gateway

        self._packages = packages
        self._specs = [_spec(package) for package in packages]
        self._urls = [channel.url for channel in channels]
        self._platforms: list[SubdirLiteral] = [subdir, "noarch"]
        self._subdir = subdir
        folder = cache_dir() / "conda" / "repodata"
        self._gateway = Gateway(cache_dir=folder, client=client(channels, ca_bundle))

    async def solve(self, keep: Sequence[Locked], python: str | None, glibc: str) -> tuple[Locked, ...]:
        """See the function `solve`."""
        import rattler
        from rattler.exceptions import GatewayError, SolverError

        try:
            records = await rattler.solve(
                self._urls,
                self._specs,
                gateway=self._gateway,
                platforms=self._platforms,
                locked_packages=await self._known(keep),
                virtual_packages=_virtual_packages(self._subdir, glibc),
                constraints=[f"python {python}.*"] if python else None,
                channel_relations="disabled",
            )
        except GatewayError as error:
            raise self._unreadable(str(error)) from None
        except SolverError as error:
            await self._explain(str(error))
            raise
        return tuple(sorted(map(_locked, records), key=lambda each: each.name))

    async def _known(self, keep: Sequence[Locked]) -> list[RepoDataRecord]:
        """The channels' records of locked packages. One that is gone, or has changed, is left out."""
        if not keep:
            return []
        wanted = {each.source: each.hashes for each in keep}
        found = await self._gateway.query(
            self._urls,
            self._platforms,
            [f"{each.name} =={each.version} {each.build}" for each in keep],
            recursive=False,
            channel_relations="disabled",
        )
        records = (record for each in found for record in each)
        return [record for record in records if record.url in wanted and _hashes(record) == wanted[record.url]]

    def _unreadable(self, why: str) -> BuildError:
        """A channel that cannot be read; which one, and what to do."""
        lines = without_secrets(why).splitlines()
        which = next((url for url in self._urls if url in why), " ".join(self._urls))
        text = "\n".join(lines)
        if "error (401" in text or "error (403" in text:
            return BuildError(f"the conda channel {which} denies access", *lines, _CREDENTIALS)
        if "error (404" in text or "No such file" in text:
            return BuildError(f"no such conda channel: {which}", *lines)
        hints = [NETWORK] if "error sending request" in text else []
        return BuildError(f"the conda channel {which} cannot be read", *lines, *hints)

    async def _explain(self, why: str) -> None:
        """Raise what the solver's explanation means, at the declared package that it is about."""
        text = without_secrets(why.removeprefix("Cannot solve the request because of: ")).strip()
        for package in self._packages:
            if text.startswith(f"{_NO_CANDIDATES}{package.name.lower()} "):
                raise package.error(*await self._absent(package))
        for package in self._packages:
            if f" {package.name.lower()} " in text:
                rest = " with the rest" if "incompatible" in text else ""
                raise package.error(f"{package.spec} cannot be installed{rest}", *text.splitlines())
        raise BuildError("the conda packages cannot be installed together", *text.splitlines())

    async def _absent(self, package: Package) -> tuple[str, ...]:
        """Why nothing fits a declared package: (message, hints…)."""
        names = await self._gateway.names(
            self._urls,
            self._platforms,
            channel_relations="disabled",
        )
        known = {name.normalized for name in names}
        asked = f"asked: {' '.join(self._urls)}"
        if package.name.lower() not in known:
            near = nearest(package.name.lower(), known)
            return (f"no conda channel has {package.name}", *([f"did you mean {near}?"] if near else []), asked)
        found = await self._gateway.query(
            self._urls,
            self._platforms,
            [package.name.lower()],
            recursive=False,
            channel_relations="disabled",
        )
        versions = sorted({record.version for each in found for record in each}, reverse=True)
        shown = ", ".join(map(str, versions[:_FOUND_SHOWN])) + (" …" if len(versions) > _FOUND_SHOWN else "")
        return (f"no version fits {package.spec}", f"there are {shown}", asked)


def refuse_second_r(libs: Libs, locked: Sequence[Locked]) -> None:
    """One R in an image: packages of one cannot be loaded by the other.

    Raises:
        SpecError: conda brings R and libs.yaml has the section `r`.
    """
    r = next((each for each in locked if each.name == "r-base"), None)
    if r is None or not libs.r or not libs.conda:
        return
    likely = [package for package in libs.conda if package.name == "r-base" or package.name.startswith("r-")]
    raise (likely or libs.conda)[0].error(
        f"conda brings R {r.version}, and `r:` asks for another one: an image has one R",
        "take the R packages from conda too (r-NAME) and remove `r:`, or take those of conda out",
    )


def _spec(package: Package) -> MatchSpec:
    """What was declared, as rattler has it. `CHANNEL::NAME` means the channel as we resolve it."""
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    name, mark, _ = package.spec.partition("::")
    try:
        if not mark:
            return MatchSpec(package.spec)
        return MatchSpec(f"{resolve([name])[0].url}::{bare(package)}")
    except InvalidMatchSpecError as error:
        why = str(error).splitlines()[0]
        raise package.error(
            f"{package.spec!r} is no conda package: {why}", "such as numpy, numpy=1.26, numpy>=1.26,<2"
        ) from None


def _virtual_packages(subdir: SubdirLiteral, glibc: str) -> list[GenericVirtualPackage]:
    """What the container has, whatever this machine has. CONDA_OVERRIDE_CUDA and …_GLIBC as conda reads them."""
    from rattler import BuildString, GenericVirtualPackage, PackageName, Version

    arch = _ARCHSPEC[subdir]
    has = {"__unix": ("0", "0"), "__linux": (_KERNEL, "0"), "__archspec": ("1", arch)}
    has["__glibc"] = (os.environ.get("CONDA_OVERRIDE_GLIBC") or glibc, "0")
    if cuda := os.environ.get("CONDA_OVERRIDE_CUDA"):
        has["__cuda"] = (cuda, "0")
    return [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
        for name, (version, build) in has.items()
    ]


def _locked(record: RepoDataRecord) -> Locked:
    name, version, build = record.name.normalized, str(record.version), str(record.build)
    return Locked("conda", name, version, source=record.url, hashes=_hashes(record), build=build)


def _hashes(record: RepoDataRecord) -> tuple[str, ...]:
    if record.sha256:
        return (f"sha256:{record.sha256.hex()}",)
    return (f"md5:{record.md5.hex()}",) if record.md5 else ()
