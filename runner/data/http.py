"""Files over http(s), by the standard library: ETag or date tell whether one changed, Range and If-Range get its rest."""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.request
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from runner.data.place import without_login
from runner.data.source import Stream, TransientError
from runner.errors import BackendError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from typing import IO

_TIMEOUT_S = 60
_CHUNK = 1 << 18
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_SAFE = "/%:@!$&'()*+,;=~-._"


class HttpFile:
    """A file at a URL, which may hold a login: `user:password@` is sent to that host alone, not along redirects."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        netloc = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit(
            (parts.scheme, netloc, quote(parts.path, safe=_SAFE), quote(parts.query, safe=_SAFE + "?"), "")
        )
        self.shown = without_login(url)
        self._login = None
        if parts.username is not None:
            text = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._login = "Basic " + base64.b64encode(text.encode()).decode()

    def open(self, known: str | None, offset: int, part: str) -> Stream | None:
        """See `Source.open`."""
        request = urllib.request.Request(self.url, headers={"User-Agent": "runner", "Accept-Encoding": "identity"})  # noqa: S310 - resolve lets only known schemes through
        if self._login:
            request.add_unredirected_header("Authorization", self._login)
        if offset and part:
            request.add_header("Range", f"bytes={offset}-")
            request.add_header("If-Range", part)
        elif known:
            request.add_header("If-Modified-Since" if _is_date(known) else "If-None-Match", known)
        try:
            answer = _opener().open(request, timeout=_TIMEOUT_S)
        except HTTPError as error:
            error.close()
            if error.code == 304:
                return None
            raise self._refused(error, resumed=bool(offset and part)) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        return self._stream(answer, offset)

    def _stream(self, answer: http.client.HTTPResponse, offset: int) -> Stream:
        headers = answer.headers
        tag, date = headers.get("ETag", ""), headers.get("Last-Modified", "")
        if date == headers.get("Date"):
            date = ""  # it may change again within this second, and the date would not tell
        length = _number(headers.get("Content-Length"))
        start = 0
        if answer.status == 206:
            span = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            first = _number(span[0].partition("-")[0])
            if first != offset:
                answer.close()
                raise TransientError(f"it gave bytes from {first} on where {offset} were asked for")
            start, length = offset, _number(span[2])
        return Stream(tag or date, length, start, _chunks(answer))

    def _refused(self, error: HTTPError, *, resumed: bool) -> Exception:
        code, said = error.code, f"HTTP {error.code} {error.reason or ''}".rstrip()
        if code in _PASSING or (code == 416 and resumed):
            return TransientError(said, _retry_after(error.headers))
        if code in {404, 410}:
            return NotFoundError(f"{self.shown} is not there ({said})", "check the address")
        if code in {401, 403, 409}:
            return BackendError(
                f"{self.shown} may not be read without signing in ({said})",
                "give an address that holds its login (Azure: a SAS), or one that your own sign-in is used for "
                "(abfss://…, s3://…), or map it to a local copy",
                f'runner.yaml: urls: {{"{self.shown}": ./data}}',
                code=code,
            )
        return BackendError(f"{self.shown} cannot be had ({said})", code=code)

    def _unreachable(self, error: Exception) -> Exception:
        inner = error.reason if isinstance(error, URLError) else error
        if isinstance(inner, ssl.SSLCertVerificationError):
            return UnavailableError(
                f"the certificate of {self.shown} is not trusted: {inner.verify_message}",
                "trust its authority: SSL_CERT_FILE=BUNDLE.pem",
            )
        return TransientError(_said(inner))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Never from https to http, and to nothing else at all."""

    def redirect_request(  # noqa: PLR0917 - the base class's parameters
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """As the base class."""
        if not newurl.startswith(("https:", "http:") if req.type == "http" else "https:"):
            raise BackendError(f"{without_login(req.full_url)} redirects to an address without https", code=code)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        with answer:
            while chunk := answer.read(_CHUNK):
                yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(_said(error)) from None


def _said(error: object) -> str:
    """Without the address: a redirect's may hold a login."""
    if isinstance(error, TimeoutError):
        return f"nothing came for {_TIMEOUT_S} s"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None


def _is_date(validator: str) -> bool:
    return not validator.endswith('"')


def _retry_after(headers: Message) -> float | None:
    text = headers.get("Retry-After")
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except ValueError:
        return None
