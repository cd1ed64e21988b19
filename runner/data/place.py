"""A place where data is or is to go, and addresses as they may be shown and kept: without any login."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from pathlib import Path

    from runner.job import DataType
    from runner.spec.mappings import Origin

_SECRETS = frozenset({
    "sig", "se", "sp", "sv", "st", "sr", "spr", "sip", "ss", "srt", "skoid", "sktid", "skt", "ske", "sks", "skv", "sdd",
    "saoid", "suoid", "scid", "si", "token", "access_token", "key", "apikey", "api_key", "password", "secret", "signature",
    "expires", "awsaccesskeyid", "googleaccessid", "policy", "key-pair-id",
})  # fmt: skip
_SECRET_PREFIXES = ("x-amz-", "x-goog-")


@dataclass(frozen=True, slots=True)
class Place:
    """Where data is, or is to go.

    uri: as it was asked for, fit to be shown. path: on this machine; else url, which may hold a login.
    root: the folder of a datastore or mirror that the path lies in, and may not lead out of by a link.
    origin: the line of runner.yaml that led here, None where none did. type: what the data asset says of itself.
    """

    uri: str
    path: Path | None = None
    url: str = field(default="", repr=False)
    root: Path | None = None
    origin: Origin | None = None
    type: DataType | None = None

    def __str__(self) -> str:
        target = str(self.path) if self.path else without_login(self.url)
        return target if target == self.uri else f"{self.uri} ({target})"

    @property
    def name(self) -> str:
        """The last part of it: the file's name, or the folder's; "data" where it has none."""
        parts = self.path.name if self.path else urlsplit(self.url).path.rstrip("/").rpartition("/")[2]
        return safe_name(parts)


def safe_name(text: str) -> str:
    """A part of a URL as the name of a file: decoded, nothing in it that leads elsewhere."""
    name = re.sub(r"[\x00-\x1f/\\]", "_", unquote(text))[:200]
    return "data" if name in {"", ".", ".."} else name


def without_login(url: str) -> str:
    """A URL as it may be shown: without `user:password@` of http(s), without query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0]
    netloc = parts.netloc.rpartition("@")[2] if parts.scheme in {"http", "https", "ftp"} else parts.netloc
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def identity(url: str) -> str:
    """A URL as what it names: without logins, so that another signature for the same thing gives the same."""
    pairs = [pair for pair in parse_qsl(urlsplit(url).query, keep_blank_values=True) if not _secret(pair[0].lower())]
    plain = without_login(url)
    return f"{plain}?{urlencode(pairs)}" if pairs else plain


def _secret(name: str) -> bool:
    return name in _SECRETS or name.startswith(_SECRET_PREFIXES)
