"""One CRAN-like repository: its index, and its Archive of older versions."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from runner.builder.r import archive, description
from runner.builder.r.fetch import AGENT, TEXT_LIMIT, DamagedError, Fetcher, Kept, reason, without_login
from runner.spec import rversion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_ARCHIVE_TRIES = 10
"""So many older versions are looked into: each is a download."""
_HTTP_GONE = {403, 404, 410}


@dataclass(frozen=True, slots=True)
class Offer:
    """A version that a repository has. fields: of its index, or of its DESCRIPTION where it is from the Archive."""

    name: str
    version: str
    url: str
    fields: Mapping[str, str]


class Repository:
    """Asked once for its index, when the first package is looked up; `failure` says why it could not be reached."""

    def __init__(self, fetch: Fetcher, address: str, agent: str = AGENT) -> None:
        self.address = without_login(address)
        self.failure: str | None = None
        self._fetch = fetch
        self._agent = agent
        self._index: dict[str, list[dict[str, str]]] | None = None
        self._listings: dict[str, tuple[str, ...] | None] = {}
        self._lock = Lock()

    @property
    def names(self) -> Iterable[str]:
        """Every package in the index."""
        return self._entries().keys()

    def offers(self, name: str) -> Iterator[Offer]:
        """The versions in the index, newest first (CRAN has one, but for those that need another R)."""
        for entry in self._entries().get(name, ()):
            folder = f"{self.address}/src/contrib" + (f"/{entry['Path']}" if entry.get("Path") else "")
            yield Offer(name, entry["Version"], f"{folder}/{name}_{entry['Version']}.tar.gz", entry)

    def archived(self, name: str, constraints: Sequence[rversion.Constraint]) -> Iterator[Offer]:
        """The versions of the Archive that fit, newest first; without a listing only one asked for by `==`."""
        guesses = [version for op, version in constraints if op == "=="]
        fitting = [version for version in self.listing(name) or guesses if rversion.satisfies(version, constraints)]
        for version in fitting[:_ARCHIVE_TRIES]:
            url = f"{self.address}/src/contrib/Archive/{quote(name)}/{quote(name)}_{version}.tar.gz"
            try:
                kept = self.download(url)
                yield Offer(name, version, url, archive.description(kept.path))
            except (OSError, archive.BadArchiveError) as error:
                if getattr(error, "code", None) not in _HTTP_GONE and isinstance(error, OSError):
                    self.failure = self.failure or reason(error)

    def listing(self, name: str) -> tuple[str, ...] | None:
        """The versions in the Archive, newest first; None where the server gives no listing."""
        if name not in self._listings:
            folder = f"{self.address}/src/contrib/Archive/{quote(name)}/"
            found = re.findall(rf"{re.escape(name)}_(\d+(?:[.-]\d+)*)\.tar\.gz", self._names_in(folder))
            self._listings[name] = tuple(sorted(set(found), key=rversion.key, reverse=True)) or None
        return self._listings[name]

    def download(self, url: str, md5: str | None = None) -> Kept:
        """A file of the repository. Where binaries are handed out in place of sources, the index has the sources' md5.

        Raises:
            OSError: it cannot be had.
        """
        return self._fetch.archive(url, agent=self._agent, md5=md5 if self._agent == AGENT else None)

    def _names_in(self, folder: str) -> str:
        if folder.startswith("file:"):
            path = Path(unquote(urlsplit(folder).path))
            return "\n".join(each.name for each in path.iterdir()) if path.is_dir() else ""
        try:
            return unquote(self._fetch.text(folder, agent=self._agent).decode("utf-8", "replace"))
        except OSError:
            return ""

    def _entries(self) -> dict[str, list[dict[str, str]]]:
        with self._lock:
            if self._index is None:
                try:
                    self._index = self._read()
                except OSError as error:
                    self.failure = reason(error)
                    self._index = {}
            return self._index

    def _read(self) -> dict[str, list[dict[str, str]]]:
        index: dict[str, list[dict[str, str]]] = {}
        for entry in description.parse_dcf(self._packages().decode("utf-8", "replace")):
            if entry.get("Package") and entry.get("Version"):
                index.setdefault(entry["Package"], []).append(description.kept(entry, description.INDEX_FIELDS))
        for entries in index.values():
            entries.sort(key=lambda entry: rversion.key(entry["Version"]), reverse=True)
        return index

    def _packages(self) -> bytes:
        folder = f"{self.address}/src/contrib"
        try:
            unpacker = zlib.decompressobj(wbits=31)
            text = unpacker.decompress(self._fetch.text(f"{folder}/PACKAGES.gz", agent=self._agent), TEXT_LIMIT)
        except (OSError, zlib.error):
            return self._fetch.text(f"{folder}/PACKAGES", agent=self._agent)
        if not unpacker.eof:
            raise DamagedError("its PACKAGES.gz is cut off, or larger than any index is")
        return text
