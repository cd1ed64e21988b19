"""Downloads: over http(s) or from a file, kept by their hash, so that what a lock names is fetched once.

A login goes to the host that it is for and nowhere else: not along a redirect, not into an address that is kept or shown.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import re
import ssl
import time
import urllib.request
from threading import Event
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from runner.builder.cache import cache_dir
from runner.builder.r import archive

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from email.message import Message
    from pathlib import Path
    from typing import IO

AGENT = "runner"
_TIMEOUT_S = 60
_TRIES = 3
_THREADS = 8
_CHUNK = 1 << 16
TEXT_LIMIT = 256 << 20
"""No index is larger, in bytes."""


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Kept(NamedTuple):
    """A file of the cache, and the hash of its bytes in hex."""

    path: Path
    sha256: str


class DamagedError(OSError):
    """What came is not what was asked for."""


class Fetcher:
    """Raises OSError from every method, with an HTTP status or a damaged file as well; `reason` says why. Thread-safe.

    logins: origin (`https://host:port`) → value of the Authorization header, see `logins_of`.
    """

    def __init__(self, ca_bundle: Path | None, logins: Mapping[str, str] | None = None) -> None:
        self._logins = dict(logins or {})
        self._stopped = Event()
        context = ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.FileHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.UnknownHandler(),
            _Redirects(self._logins),
        ):
            self._opener.add_handler(handler)

    def text(self, url: str, *, agent: str = AGENT, accept: str = "*/*") -> bytes:
        """What an address gives, in memory: an index, a listing, an answer of an API."""
        parts: list[bytes] = []
        self._read(url, agent, accept, parts.append, parts.clear, limit=TEXT_LIMIT)
        return b"".join(parts)

    def archive(self, url: str, *, agent: str = AGENT, md5: str | None = None, fresh: bool = False) -> Kept:
        """An archive by its address: from the cache when it is there, else (or `fresh`) fetched and checked.

        Files on this machine are always read anew: they change under the same name.
        """
        pointer = _folder() / "by-address" / hashlib.sha256(f"{agent}\n{without_login(url)}".encode()).hexdigest()
        if not fresh and not url.startswith("file:") and pointer.exists():
            kept = self.cached(pointer.read_text())
            if kept is not None and _md5_fits(kept.path, md5):
                return kept

        def save(stream: IO[bytes]) -> None:
            self._read(url, agent, "*/*", stream.write, lambda: _empty(stream))

        def checked(path: Path) -> None:
            if not _md5_fits(path, md5):
                raise DamagedError("damaged: its checksum is not the one in the repository's index")
            try:
                archive.check(path)
            except archive.BadArchiveError as error:
                raise DamagedError(str(error)) from None

        kept = self.keep(save, checked)
        pointer.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(pointer, kept.sha256.encode())
        return kept

    def keep(self, save: Callable[[IO[bytes]], None], checked: Callable[[Path], None] = lambda _: None) -> Kept:
        """Put into the cache what `save` writes, once `checked` has not raised."""
        folder = _folder()
        aside = folder / f".{os.getpid()}.{os.urandom(6).hex()}"
        try:
            with aside.open("w+b") as stream:
                save(stream)
            checked(aside)
            sha256 = _sha256(aside)
            aside.rename(folder / sha256)
        finally:
            aside.unlink(missing_ok=True)
        return Kept(folder / sha256, sha256)

    def cached(self, sha256: str) -> Kept | None:
        """A file of the cache whose bytes still have that hash."""
        path = _folder() / sha256
        if not re.fullmatch("[0-9a-f]{64}", sha256) or not path.exists() or _sha256(path) != sha256:
            return None
        return Kept(path, sha256)

    def each(self, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Generator[tuple[_Item, _Result]]:
        """(item, what `work` made of it) as each is done, eight at a time. When the caller goes no further, downloads that
        are under way stop too."""
        from concurrent.futures import ThreadPoolExecutor, as_completed

        pool = ThreadPoolExecutor(_THREADS)
        try:
            futures = {pool.submit(work, item): item for item in items}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            self._stopped.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _read(
        self,
        url: str,
        agent: str,
        accept: str,
        take: Callable[[bytes], object],
        forget: Callable[[], None],
        *,
        limit: int | None = None,
    ) -> None:
        """Feed what an address gives to `take`. A server that stumbles is asked again, after `forget`."""
        for tried in range(1, _TRIES + 1):
            try:
                with self._opener.open(self._request(url, agent, accept), timeout=_TIMEOUT_S) as answer:
                    self._copy(answer, take, limit)
            except HTTPError as error:
                error.close()
                if error.code not in {500, 502, 503, 504} or tried == _TRIES:
                    raise
            except (http.client.HTTPException, ConnectionResetError, TimeoutError) as error:
                if tried == _TRIES:
                    raise OSError(f"the connection broke: {error}") from None
            else:
                return
            forget()
            time.sleep(0.2 * tried)

    def _copy(self, answer: IO[bytes], take: Callable[[bytes], object], limit: int | None) -> None:
        size = 0
        headers: Message | None = getattr(answer, "headers", None)
        length = headers.get("Content-Length") if headers else None
        while chunk := answer.read(_CHUNK):
            size += len(chunk)
            if limit is not None and size > limit:
                raise DamagedError(f"larger than {limit >> 20} MiB, which no index is")
            if self._stopped.is_set():
                raise OSError("stopped")
            take(chunk)
        if length is not None and length.isdigit() and size < int(length):
            raise http.client.IncompleteRead(b"", int(length) - size)

    def _request(self, url: str, agent: str, accept: str) -> urllib.request.Request:
        plain = without_login(url)
        request = urllib.request.Request(plain, headers={"User-Agent": agent, "Accept": accept})  # noqa: S310 - checked
        login = logins_of([url]).get(origin(plain)) or self._logins.get(origin(plain))
        if login:
            request.add_unredirected_header("Authorization", login)
        return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects with the login of the new host, if there is one for it; never from https to http."""

    def __init__(self, logins: Mapping[str, str]) -> None:
        self._logins = logins

    def redirect_request(  # noqa: PLR0917 - the base class's parameters
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """As the base class, which copies none of the unredirected headers."""
        if req.type == "https" and not newurl.startswith("https:"):
            raise URLError("it redirects from https to an address without")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if request is not None and (login := self._logins.get(origin(newurl))):
            request.add_unredirected_header("Authorization", login)
        return request


def origin(url: str) -> str:
    """`https://host:port` of an address, which decides what login is sent."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def without_login(url: str) -> str:
    """The address without `user:password@`, as it may be kept and shown."""
    return re.sub(r"^(https?://)[^/?#]*@", r"\1", url)


def logins_of(addresses: Iterable[str]) -> dict[str, str]:
    """origin → Authorization header, of those addresses that bring a login (`https://user:password@host/…`)."""
    found = {}
    for address in addresses:
        parts = urlsplit(address)
        if parts.username is not None:
            text = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            found[origin(address)] = "Basic " + base64.b64encode(text.encode()).decode()
    return found


def reason(error: OSError) -> str:
    """Why a download failed, without urllib's wrapping. Names no address: a redirect's may hold a token."""
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason or ''}".rstrip()
    if isinstance(error, URLError):
        inner = error.reason
        return (inner.strerror if isinstance(inner, OSError) else None) or str(inner)
    return str(error)


def _folder() -> Path:
    folder = cache_dir() / "r"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _md5_fits(path: Path, md5: str | None) -> bool:
    if md5 is None:
        return True
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5


def _replace(path: Path, raw: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    aside.write_bytes(raw)
    aside.replace(path)


def _empty(stream: IO[bytes]) -> None:
    stream.seek(0)
    stream.truncate()
