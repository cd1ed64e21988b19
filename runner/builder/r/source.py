"""A package that R installs from a file, and how one that a lock names is had again."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Literal
from urllib.error import HTTPError
from urllib.parse import parse_qs, urldefrag

from runner.builder.r import archive, description
from runner.builder.r.fetch import DamagedError, Fetcher, Kept
from runner.spec.lock import Locked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.builder.r.services import Target
    from runner.spec.rversion import Constraint

SourceKind = Literal["cran", "bioconductor", "github", "url", "path"]
_GITHUB = re.compile(r"/repos/[^/]+/[^/]+/tarball/[0-9a-f]{40}(#|$)")
_IN_REPOSITORY = re.compile(r"(.*/src/contrib)/(?:[\d.]+/Recommended/)?([^/]+?)_([^/_]+)\.tar\.gz")


@dataclass(frozen=True, slots=True)
class Source:
    """A package to install from a file, which is in the cache.

    url: where it is had, never with a login; a path (`./mine`) is relative to the folder of libs.yaml, and what follows `#`
    says which ref was asked for and which folder of the archive it is. sha256: in hex, of the file at `path`.
    fields: of its DESCRIPTION, see description.FIELDS.
    """

    name: str
    version: str
    url: str
    sha256: str
    path: Path = field(compare=False)
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The name of its archive in a repository."""
        return f"{self.name}_{self.version}.tar.gz"

    @property
    def binary(self) -> bool:
        """Whether it was built already, so that installing it is copying."""
        return description.built_for(self.fields) is not None

    @property
    def compiled(self) -> bool:
        """Whether compilers are needed."""
        return not self.binary and self.fields.get("NeedsCompilation", "yes") != "no"

    @property
    def dependencies(self) -> tuple[tuple[str, tuple[Constraint, ...]], ...]:
        """(package, constraints), R itself included."""
        return description.dependencies(self.fields)

    @property
    def kind(self) -> SourceKind:
        """What sort of place it comes from."""
        return kind_of(self.url)

    def locked(self) -> Locked:
        """Its line in a lock."""
        return Locked("r", self.name, self.version, source=self.url, hashes=(f"sha256:{self.sha256}",))


def kind_of(url: str) -> SourceKind:
    """What sort of place the address of a Source is."""
    if url.startswith(("./", "../")):
        return "path"
    if _GITHUB.search(url):
        return "github"
    if re.search(r"/(bioc|data/annotation|data/experiment)/src/contrib/", url):
        return "bioconductor"
    return "cran" if "/src/contrib/" in url else "url"


def source_of(kept: Kept, url: str) -> Source:
    """The Source that a file of the cache is.

    Raises:
        archive.BadArchiveError: it is no package.
    """
    fields = archive.description(kept.path)
    if "NeedsCompilation" not in fields:  # `R CMD build` writes it, and a commit or folder has not been through that
        fields["NeedsCompilation"] = "yes" if archive.has_code(kept.path) else "no"
    return Source(fields["Package"], fields["Version"], url, kept.sha256, kept.path, fields)


def obtain(fetch: Fetcher, locked: Locked, libs_folder: Path, target: Target) -> Source:
    """What a lock names, from the cache without asking anyone, else from its address.

    Raises:
        OSError: it cannot be had, or is not what was locked.
    """
    sha256 = locked.hashes[0].removeprefix("sha256:") if locked.hashes else ""
    kept = fetch.cached(sha256) or _fetched(fetch, locked, sha256, libs_folder, target)
    try:
        source = source_of(kept, locked.source)
    except archive.BadArchiveError as error:
        raise DamagedError(str(error)) from None
    if (source.name, source.version) != (locked.name, locked.version):
        raise DamagedError(f"it holds {source.name} {source.version}, not {locked.name} {locked.version}")
    return source


def read_path(fetch: Fetcher, path: Path) -> Kept:
    """A package on this machine, archive or folder, as it is now.

    Raises:
        OSError: it cannot be read.
        archive.BadArchiveError: it is no package.
    """
    if path.is_dir():
        return fetch.keep(lambda stream: archive.pack(path, stream))
    archive.check(path)

    def save(stream: IO[bytes]) -> None:
        stream.write(path.read_bytes())

    return as_package(fetch, fetch.keep(save), None)


def as_package(fetch: Fetcher, kept: Kept, subdir: str | None) -> Kept:
    """The file itself where it is a package as R wants it, else what it holds made into one.

    Raises:
        archive.BadArchiveError: no package is there.
    """
    if subdir is None and archive.is_package(kept.path):
        return kept
    return fetch.keep(lambda stream: archive.repack(kept.path, subdir, stream))


def subdir_of(url: str) -> str | None:
    """The folder that an address means, after its `#`."""
    return parse_qs(urldefrag(url).fragment).get("subdir", [None])[0]


def _fetched(fetch: Fetcher, locked: Locked, sha256: str, libs_folder: Path, target: Target) -> Kept:
    url = urldefrag(locked.source).url
    try:
        if url.startswith(("./", "../")):
            kept = read_path(fetch, libs_folder / posixpath.normpath(url))
        else:
            kept = _downloaded(fetch, url, target.agent(url))
            if kept.sha256 != sha256:
                kept = as_package(fetch, kept, subdir_of(locked.source))
    except archive.BadArchiveError as error:
        raise DamagedError(str(error)) from None
    if kept.sha256 != sha256:
        raise DamagedError(f"it has changed: its sha256 is {kept.sha256[:12]}…, the lock has {sha256[:12]}…")
    return kept


def _downloaded(fetch: Fetcher, url: str, user_agent: str) -> Kept:
    """From its address, or from the Archive, to which repositories move a version when the next comes."""
    try:
        return fetch.archive(url, agent=user_agent, fresh=True)
    except HTTPError as error:
        match = _IN_REPOSITORY.fullmatch(url)
        if error.code not in {403, 404, 410} or match is None or "/Archive/" in url:
            raise
        contrib, name, version = match.groups()
        try:
            return fetch.archive(f"{contrib}/Archive/{name}/{name}_{version}.tar.gz", agent=user_agent, fresh=True)
        except OSError:
            raise error from None
