"""CRAN-like repositories: their indexes and archives, fetched on this machine.

On this machine, not in the container: the user's proxy, CA bundle and `file://` repositories then work as they are, and
downloads are cached. R itself orders and installs them, from a small repository of exactly these files.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import ssl
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.builder.cache import cache_dir
from runner.errors import BuildError
from runner.spec import rversion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_TIMEOUT_S = 60
_INDEX_LIMIT = 256 << 20
_FIELDS = ("Package", "Version", "Depends", "Imports", "LinkingTo", "NeedsCompilation", "MD5sum", "Path")
"""What is kept of an index entry: CRAN's 20,000 with all their fields would be 100 MB."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source package to install. fields: its index entry, as R wants it in PACKAGES."""

    name: str
    version: str
    url: str
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self):
        return self.url

    @property
    def file(self) -> str:
        """The name of its archive."""
        return f"{self.name}_{self.version}.tar.gz"

    @property
    def compiled(self) -> bool:
        """Whether compilers are needed. Not said counts as yes."""
        return self.fields.get("NeedsCompilation", "yes") != "no"


class Fetcher:
    """Downloads into the cache folder. Raises OSError; an HTTP status is one too."""

    def __init__(self, ca_bundle: Path | None) -> None:
        self._context = ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)

    def index(self, repo: str) -> dict[str, dict[str, str]]:
        """A repository's PACKAGES: package → its newest entry. Always asked anew (CRAN's is 1 MB)."""
        try:
            raw = gzip.decompress(self._get(f"{repo}/src/contrib/PACKAGES.gz"))
        except (OSError, EOFError):
            raw = self._get(f"{repo}/src/contrib/PACKAGES")
        index: dict[str, dict[str, str]] = {}
        for entry in parse_dcf(raw.decode("utf-8", "replace")):
            name = entry.get("Package")
            if name and "Version" in entry:
                known = index.get(name)
                if known is None or rversion.key(entry["Version"]) > rversion.key(known["Version"]):
                    index[name] = {key: entry[key] for key in _FIELDS if key in entry}
        return index

    def file(self, url: str, name: str, md5: str | None = None) -> Path:
        """An archive, from the cache when it is there whole."""
        folder = cache_dir() / "cran" / hashlib.sha256(url.encode()).hexdigest()[:16]
        path = folder / name
        if path.exists() and (md5 is not None or not url.startswith("file:")) and _md5_fits(path.read_bytes(), md5):
            return path
        raw = self._get(url)
        if not _md5_fits(raw, md5):
            raise OSError(f"{url} is damaged: its checksum is not the one in the repository's index")
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".{name}.{os.getpid()}"
        aside.write_bytes(raw)
        aside.rename(path)
        return path

    def _get(self, url: str) -> bytes:
        import urllib.request

        request = urllib.request.Request(url, headers={"User-Agent": "runner"})  # noqa: S310 - checked in the spec
        context = self._context if url.startswith("https:") else None
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context) as answer:  # noqa: S310
            return bytes(answer.read(_INDEX_LIMIT))


def make_repository(sources: Iterable[Source], ca_bundle=None, report=lambda t: None) -> dict[str, bytes]:
    """A CRAN-like repository of exactly these packages: path below it → bytes.

    Raises:
        BuildError: one cannot be downloaded.
    """
    fetch = Fetcher(ca_bundle)
    files: dict[str, bytes] = {}
    entries = []
    for source in sources:
        report(f"{source.name} {source.version} …")
        try:
            path = fetch.file(source.url, source.file, source.fields.get("MD5sum"))
        except OSError as error:
            raise BuildError(f"{source.url} cannot be had: {reason(error)}") from None
        files[f"src/contrib/{source.file}"] = path.read_bytes()
        # MD5sum and Path are left out: they were checked or describe the other repository.
        kept = {key: source.fields[key] for key in _FIELDS[2:6] if key in source.fields}
        entry = {"Package": source.name, "Version": source.version, **kept}
        entries.append("".join(f"{key}: {value}\n" for key, value in entry.items()))
    files["src/contrib/PACKAGES"] = "\n".join(entries).encode()
    return files


def parse_dcf(text: str) -> Iterable[dict[str, str]]:
    """Debian-control-format records, as in PACKAGES and DESCRIPTION; continuation lines joined by a blank."""
    for record in re.split(r"\n\s*\n", text):
        entry: dict[str, str] = {}
        name = ""
        for line in record.splitlines():
            if line[:1].isspace() and name:
                entry[name] += " " + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                entry[name] = value.strip()
        if entry:
            yield entry


def description(path: Path, name: str) -> dict[str, str]:
    """The DESCRIPTION inside a source archive.

    Raises:
        BuildError: there is none.
    """
    try:
        with tarfile.open(path) as archive:
            stream = archive.extractfile(f"{name}/DESCRIPTION")
            text = stream.read(1 << 20).decode("utf-8", "replace") if stream else ""
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise BuildError(f"{path.name} is not a source package of R: {error}") from None
    entry = next(iter(parse_dcf(text)), {})
    return {key: entry[key] for key in _FIELDS if key in entry}


def _md5_fits(raw: bytes, md5: str | None) -> bool:
    return md5 is None or hashlib.md5(raw, usedforsecurity=False).hexdigest() == md5


def reason(error: OSError) -> str:
    """Why a download failed, without urllib's wrapping."""
    return str(getattr(error, "reason", None) or error)
