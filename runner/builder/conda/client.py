"""Conda channels and the client that reaches them: names to addresses, credentials, certificates.

Credentials leave an address here and are given to the client alone: addresses in locks, caches and errors have none.
"""

from __future__ import annotations

import base64
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from runner.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rattler import Client

    from runner.spec.libs import Package

DEFAULT = "https://conda.anaconda.org"
"""Where channels are that are only named; RUNNER_CONDA overrides it."""

NETWORK = "no way to the server? check https_proxy, and ca_bundle or SSL_CERT_FILE behind a company proxy"

_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
"""What conda itself means by the channel `defaults`."""
_TOKEN = re.compile(r"/t/[^/]+(?=/)")
_SECRETS = re.compile(r"(?<=://)[^/@\s]+@|(?<=/t/)[^/\s]+(?=/)")


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel. url: without credentials, no slash at its end. authorization: the header for it. private: its address
    where a token is part of that (`/t/TOKEN/`)."""

    url: str
    authorization: str | None = None
    private: str | None = None


def need_rattler() -> None:
    """Make sure that py-rattler is there.

    Raises:
        BuildError: it is not.
    """
    try:
        import rattler  # noqa: F401
    except ImportError:
        raise BuildError(
            "conda packages need py-rattler, which is not installed", "pip install 'runner[conda]'"
        ) from None


def resolve(names: Sequence[str]) -> tuple[Channel, ...]:
    """The channels of names and addresses, in order, each once; conda-forge where none is named."""
    found: dict[str, Channel] = {}
    for name in names or ("conda-forge",):
        for address in _addresses(name):
            channel = _channel(address)
            found.setdefault(channel.url, channel)
    return tuple(found.values())


def client(channels: Sequence[Channel], ca_bundle: Path | None) -> Client:
    """A client for these channels: their own credentials, else those of RATTLER_AUTH_FILE, netrc or the keyring.

    Proxies are those of the environment. ca_bundle: PEM file of the authorities to trust, or None for the system's.
    """
    from rattler import Client
    from rattler.networking import middleware as layers

    def headers(host: str, path: str) -> dict[str, str] | None:
        for channel in channels:
            split = urlsplit(channel.url)
            if channel.authorization and split.hostname == host and path.startswith(f"{split.path}/"):
                return {"Authorization": channel.authorization}
        return None

    mirrors = {channel.url: [channel.private] for channel in channels if channel.private}
    with _trusting(ca_bundle):
        return Client(
            [
                layers.MirrorMiddleware(mirrors),
                layers.RetryMiddleware(2),
                layers.AuthenticationMiddleware(),
                layers.OciMiddleware(),
                layers.GCSMiddleware(),
                layers.S3Middleware(),
                layers.AddHeadersMiddleware(headers),
            ],
            user_agent="runner",
        )


def bare(package: Package) -> str:
    """What was declared, without the channel: `CHANNEL::NAME…` → `NAME…`."""
    return package.spec.rpartition("::")[2]


def own_channels(packages: Sequence[Package]) -> list[str]:
    """The channels that single packages name."""
    return [package.spec.partition("::")[0] for package in packages if "::" in package.spec]


def without_secrets(text: str) -> str:
    """A text in which user, password and token of addresses cannot be read."""
    return _SECRETS.sub(lambda match: "***@" if match[0].endswith("@") else "***", text)


def _addresses(name: str) -> tuple[str, ...]:
    if name == "nodefaults":
        return ()
    if "://" in name:
        return (name,)
    if name == "defaults":
        return _DEFAULTS
    return (f"{(os.environ.get('RUNNER_CONDA') or DEFAULT).rstrip('/')}/{name}",)


def _channel(address: str) -> Channel:
    split = urlsplit(address.rstrip("/"))
    userinfo, _, host = split.netloc.rpartition("@")
    authorization = None
    if userinfo:
        user, _, password = userinfo.partition(":")
        raw = f"{unquote(user)}:{unquote(password)}".encode()
        authorization = f"Basic {base64.b64encode(raw).decode()}"
    bare = urlunsplit(split._replace(netloc=host))
    url = _TOKEN.sub("", bare, count=1)
    return Channel(url, authorization, bare if url != bare else None)


@contextmanager
def _trusting(ca_bundle: Path | None) -> Iterator[None]:
    """The client reads SSL_CERT_FILE when it is made, and has no other way to be told."""
    if ca_bundle is None:
        yield
        return
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(ca_bundle)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before
