"""The services that R packages are had from: their addresses, how to name others, and the logins that they get."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.builder.r.description import built_for, minor
from runner.builder.r.fetch import AGENT, logins_of, origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DEFAULT_REPOSITORY = "https://cloud.r-project.org"
"""Used where neither `r.repos` nor RUNNER_CRAN names a repository."""
_PPM = "https://packagemanager.posit.co/cran"
_BIOCONDUCTOR = "https://bioconductor.org/packages"
_GITHUB_API = "https://api.github.com"

_BIOCONDUCTOR_PARTS = ("bioc", "data/annotation", "data/experiment")
_RELEASES = Path(__file__).parent / "bioconductor.txt"
_BINARIES = "/__linux__/"


@dataclass(frozen=True, slots=True)
class Target:
    """The R that packages are for. version: `4.2.2`. machine: as `uname -m` says."""

    version: str
    machine: str

    def agent(self, url: str) -> str:
        """The User-Agent for an address. A repository of binaries hands them out to an R of a version that it knows."""
        if _BINARIES not in url:
            return AGENT
        return f"R ({self.version} {self.machine}-pc-linux-gnu {self.machine} linux-gnu)"

    def takes(self, fields: Mapping[str, str]) -> bool:
        """Whether a package is source, or was built for this R."""
        return built_for(fields) in {None, minor(self.version)}


def machine(architecture: str) -> str:
    """The kernel's name for an engine's architecture, as R's platform has it: `amd64` → `x86_64`."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(architecture, architecture)


def repositories(declared: Sequence[str]) -> tuple[str, ...]:
    """The CRAN-like repositories, in order: `r.repos`, else RUNNER_CRAN (separated by blanks), else the default."""
    named = tuple(declared) or tuple(os.environ.get("RUNNER_CRAN", "").split()) or (DEFAULT_REPOSITORY,)
    return tuple(address.rstrip("/") for address in named)


def snapshot_base() -> str:
    """Where dated repositories are, laid out as Posit Package Manager's: RUNNER_PPM, else the public one."""
    return _named("RUNNER_PPM", _PPM)


def snapshot(date: str) -> str:
    """The address of the source packages of a day."""
    return f"{snapshot_base()}/{date}"


def snapshot_binaries(date: str, suite: str) -> str:
    """The address of the same day's packages, built for a Debian suite where that was done."""
    return f"{snapshot_base()}{_BINARIES}{suite}/{date}"


def bioconductor(r_version: str) -> tuple[str, ...] | None:
    """The repositories of the Bioconductor release for that R; None where the table ends before it.

    RUNNER_BIOCONDUCTOR names another server; when it ends in a release (`…/packages/3.16`), that one is taken.
    """
    base = _named("RUNNER_BIOCONDUCTOR", _BIOCONDUCTOR)
    if not base.rsplit("/", 1)[-1].replace(".", "").isdigit():
        release = _releases().get(minor(r_version))
        if release is None:
            return None
        base = f"{base}/{release}"
    return tuple(f"{base}/{part}" for part in _BIOCONDUCTOR_PARTS)


def github_api() -> str:
    """The address of GitHub's API: RUNNER_GITHUB_API (of an Enterprise server: `https://HOST/api/v3`), else the public."""
    return _named("RUNNER_GITHUB_API", _GITHUB_API)


def logins(repos: Iterable[str] = ()) -> dict[str, str]:
    """origin → Authorization header: what addresses bring along, and GITHUB_TOKEN or GITHUB_PAT for GitHub's API alone."""
    named = [os.environ.get(name, "") for name in ("RUNNER_PPM", "RUNNER_BIOCONDUCTOR", "RUNNER_GITHUB_API")]
    found = logins_of([*repos, *os.environ.get("RUNNER_CRAN", "").split(), *filter(None, named)])
    token = os.environ.get("GITHUB_TOKEN") or os.environ.get("GITHUB_PAT")
    api = github_api()
    # In clear text only to this machine.
    if token and (api.startswith("https:") or urlsplit(api).hostname in {"127.0.0.1", "localhost", "::1"}):
        found[origin(api)] = f"Bearer {token.strip()}"
    return found


def _named(variable: str, default: str) -> str:
    return (os.environ.get(variable) or default).rstrip("/")


def _releases() -> dict[str, str]:
    """R's minor version → the newest Bioconductor release that was made for it."""
    lines = (line.split("#")[0].split() for line in _RELEASES.read_text(encoding="utf-8").splitlines())
    return {words[0]: words[1] for words in lines if words}
