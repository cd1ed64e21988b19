"""HTTP to Azure, by urllib3: proxies and CA bundles of the environment, retries, fresh tokens, errors as runner's.

Everything asked through here may be asked twice, so what may pass is tried again. A token goes to Azure's own hosts only.
"""

from __future__ import annotations

import json
import os
import random
import re
import ssl
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from runner.backends.azureml.credential import ARM, Tokens
from runner.errors import BackendError, CapabilityError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.errors import RunnerError

MANAGEMENT = "https://management.azure.com"

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAUSE_S = (0.4, 15.0)
_LONGEST_REST_S = 300.0
_LONGEST_ANSWER = 64 << 20
_TIMEOUT_S = (10.0, 60.0)
_HOSTS = (".api.azureml.ms", ".experiments.azureml.net")
"""Ends of hosts that are sent a token, beside the management API: the service's own, below which nobody can have a name.
A workspace itself says which host it has, and lists say where they go on, so these are looked at."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; an empty one is {}.

        Raises:
            BackendError: it is no JSON (a proxy's page, mostly).
        """
        try:
            return json.loads(self.body or b"{}")
        except (ValueError, RecursionError):
            raise BackendError(
                "the answer is not one of Azure's (no JSON)", "check network and proxy: something else answers there"
            ) from None


@dataclass(slots=True)
class Rest:
    """A client. `patience_s`: for how long a question is repeated while the service cannot answer."""

    tokens: Tokens
    patience_s: float = 30.0
    _pools: dict[str, Any] = field(default_factory=dict)
    _resting: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    def ask(
        self, method: str, url: str, what: str, *, body: object = None, query: Mapping[str, str] | None = None,
        patience_s: float | None = None,
    ) -> Answer:  # fmt: skip
        """The answer of Azure's management API, or of the workspace's own host.

        Args:
            what: what is asked for, for messages: `the job rabc`. body: sent as JSON.

        Raises:
            NotFoundError: 404. UnavailableError: no answer, or not now. BackendError: refused.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        azures = host == urlsplit(MANAGEMENT).hostname or host.endswith(_HOSTS)
        if not azures or parts.scheme != "https" or parts.port not in {None, 443}:
            raise BackendError(f"{host or url!r} is not a host of Azure, and gets no token", "report this, please")
        whole = f"{url}{'&' if '?' in url else '?'}{urlencode(query)}" if query else url
        headers = {"Accept": "application/json", "Authorization": f"Bearer {self.tokens.get(ARM)}"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        answer = self.send(method, whole, what, headers=headers, body=data, patience_s=patience_s)
        if answer.status == 401:
            headers["Authorization"] = f"Bearer {self.tokens.get(ARM, fresh=True)}"
            answer = self.send(method, whole, what, headers=headers, body=data, patience_s=patience_s)
        if answer.status >= 400:
            raise refused(answer, what)
        return answer

    def send(
        self, method: str, url: str, what: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None,
        patience_s: float | None = None,
    ) -> Answer:  # fmt: skip
        """One question, repeated while there is no answer or the service is busy; every other status is returned.

        Raises:
            UnavailableError: it stayed so.
        """
        end = time.monotonic() + (self.patience_s if patience_s is None else patience_s)
        pause, host = _PAUSE_S[0], urlsplit(url).netloc
        self._heed(host, end)
        while True:
            problem: UnavailableError
            wished: float | None = None
            try:
                answer = self._once(method, url, headers or {}, body)
            except OSError as error:
                problem = _unreachable(url, what, error)
            else:
                if answer.status not in _PASSING:
                    return answer
                problem, wished = _busy(answer, what), retry_after(answer.headers.get("retry-after"))
                if wished is not None:
                    self._resting[host] = time.monotonic() + min(wished, _LONGEST_REST_S)
            delay = pause * random.uniform(0.75, 1.25) if wished is None else wished  # noqa: S311 - not a secret
            if time.monotonic() + delay > end or self._closed.wait(delay):
                raise problem
            pause = min(pause * 2, _PAUSE_S[1])

    def _heed(self, host: str, end: float) -> None:
        """Leave a host alone that has asked for it, whoever it told so: asked all the same, it only asks for longer."""
        left = self._resting.get(host, 0.0) - time.monotonic()
        if left > 0 and (time.monotonic() + left > end or self._closed.wait(left)):
            raise UnavailableError(
                f"{host} asks to be left alone for {left:.0f} s more", "it is asked again by then", code=429
            )

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Raises OSError for whatever is wrong with the connection."""
        import urllib3

        given = {"User-Agent": "runner", "Accept-Encoding": "identity", **headers}
        try:
            answer = self._pool(url).request(
                method, url, body=body, headers=given, retries=False, redirect=False, preload_content=False,
                timeout=urllib3.Timeout(*_TIMEOUT_S),
            )  # fmt: skip
            try:
                data = answer.read(_LONGEST_ANSWER + 1, decode_content=True)
            finally:
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, ssl.SSLError) as error:
            raise OSError(_cause(error)) from None
        if len(data) > _LONGEST_ANSWER:
            raise OSError("the answer has more than 64 MiB")
        return Answer(answer.status, {name.lower(): text for name, text in answer.headers.items()}, data)

    def _pool(self, url: str) -> Any:
        """Connections are kept, also those through a proxy."""
        parts = urlsplit(url)
        proxies = urllib.request.getproxies_environment()
        proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
        if proxy and urllib.request.proxy_bypass(parts.netloc):
            proxy = ""
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = _pool(proxy)
            return self._pools[proxy]

    def close(self) -> None:
        """Close the connections; who waits to ask again gives up."""
        self._closed.set()
        for pool in self._pools.values():
            pool.clear()
        self.tokens.close()


def _pool(proxy: str) -> Any:
    try:
        import urllib3
    except ImportError:
        raise CapabilityError("the Azure ML backend is not installed", "pip install 'runner[azure]'") from None
    options: dict[str, Any] = {"maxsize": 16, "block": False, "ssl_context": _context()}
    if not proxy:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    login = urllib3.make_headers(proxy_basic_auth=f"{parts.username}:{parts.password}") if parts.username else None
    return urllib3.ProxyManager(parts.geturl(), proxy_headers=login, **options)


def _context() -> ssl.SSLContext:
    """The CA bundle that the environment names, by the variables that Azure's own clients look at; else the system's."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        if given := os.environ.get(name):
            try:
                if Path(given).is_dir():
                    return ssl.create_default_context(capath=given)
                return ssl.create_default_context(cafile=given)
            except OSError as error:
                raise BackendError(
                    f"{name}={given} is no CA bundle: {error.strerror or error}", "correct or unset it"
                ) from None
    return ssl.create_default_context()


def retry_after(text: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date; None: it says nothing that makes sense."""
    if not text:
        return None
    if re.fullmatch(r"\d{1,6}(\.\d+)?", text.strip()):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def refused(answer: Answer, what: str) -> RunnerError:
    """The error of an answer from 400 on, in the service's own words."""
    code, text = envelope(answer.body)
    said = f": {text}" if text else ""
    match answer.status:
        case 401:
            return BackendError(
                f"Azure does not accept this sign-in for {what}{said}",
                "check the account (az account show) and its tenant; sign in again: az login", code=401,
            )  # fmt: skip
        case 403:
            return BackendError(
                f"this account may not use {what}{said}",
                "it needs a role on the workspace such as AzureML Data Scientist: ask its owner", code=403,
            )  # fmt: skip
        case 404:
            return NotFoundError(
                f"{what} is not there{said}",
                "see which of its parts is wrong: runner doctor --backend azureml",
            )
        case status:
            shown = f" ({code})" if code else ""
            return BackendError(f"Azure ML refused {what}: {text or f'status {status}'}{shown}", code=status)


def envelope(body: bytes) -> tuple[str, str]:
    """(code, message) of Azure's error envelope; the innermost message that says something. ("", "") of anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    error = found.get("error", found) if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return "", ""
    code, text = str(error.get("code") or ""), str(error.get("message") or "")
    details = error.get("details")
    inner = (
        [str(one.get("message") or "") for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    )
    texts = dict.fromkeys(line.strip() for line in (text, *inner) if line.strip())
    return code, "; ".join(texts)[:2000]


def _busy(answer: Answer, what: str) -> UnavailableError:
    _, text = envelope(answer.body)
    why = "asks to be left alone for a while" if answer.status == 429 else "cannot answer now"
    said = f": {text}" if text else ""
    return UnavailableError(
        f"Azure {why} ({answer.status}) about {what}{said}", "try again in some minutes", code=answer.status
    )


def _unreachable(url: str, what: str, error: OSError) -> UnavailableError:
    host = urlsplit(url).hostname
    return UnavailableError(f"{host} cannot be reached for {what}: {error}", "check network, proxy and CA bundle")


def _cause(error: Exception) -> str:
    """What is wrong with a connection, in one line and without the address, which may hold a signature."""
    reason = getattr(error, "reason", None) or error
    text = re.sub(r"<[^>]*>|\w+Pool\([^)]*\)|https?://\S+", "", str(reason)).strip(" :,()'")
    return text[:300] or type(error).__name__
