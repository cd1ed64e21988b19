"""runner's own HTTP to registries: their manifests, token endpoints and Azure's exchange. The engine does the pushing.

https everywhere; plain http only to this machine's loopback. Redirects are not followed: a login goes to the host that
the user named, and to the token endpoint that this host names, nowhere else.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from runner.builder.registry.errors import Problem, problem_of, push_error, trust_hints
from runner.errors import ImageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from urllib.request import OpenerDirector

    from runner.builder.registry.sign_in import Login
    from runner.spec.reference import Target

_TIMEOUT_S = 20.0
_MOST = 1 << 20
"""Bytes read of an answer: what is asked for here is small."""
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
_FIELD = re.compile(r'(\w+)="([^"]*)"')
_HUB, _HUB_API = "docker.io", "registry-1.docker.io"
_PROBE = bytes(1 << 16)
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. headers: names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            data = json.loads(self.body)
        except ValueError:
            return {}
        return data if isinstance(data, dict) else {}


def ca_bundle(declared: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The PEM file that https trusts besides the system's: the declared one, else that of the environment."""
    named = (environ.get(name) for name in _CA_VARIABLES)
    return declared or next((Path(value) for value in named if value and Path(value).is_file()), None)


def is_loopback(host: str) -> bool:
    """Whether `HOST[:PORT]` is this machine itself, whatever a DNS says."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


class Http:
    """Requests to registries, by the proxies of the environment. Raises ImageError where no answer comes."""

    def __init__(self, bundle: Path | None) -> None:
        self._bundle = bundle

    def send(
        self, method: str, url: str, host: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """One request; any status is an answer.

        Args:
            host: the registry that it is for, as errors name it.

        Raises:
            ImageError: no answer, with the `problem` and its fix.
        """
        from http.client import HTTPException
        from urllib.error import HTTPError, URLError
        from urllib.request import Request

        parts = urlsplit(url)
        local = is_loopback(parts.netloc.rpartition("@")[2])
        if parts.scheme != "https" and not (parts.scheme == "http" and local and is_loopback(host)):
            raise _no_answer(host, Problem.PLAIN_HTTP, f"{host} wants a login sent to {url}")
        request = Request(url, data=body, headers=dict(headers or {}), method=method)  # noqa: S310 - checked above
        opener = self._direct if local else self._proxied
        failed = ""
        try:
            with opener.open(request, timeout=_TIMEOUT_S) as answer:
                return _answer(answer.status, answer.headers, answer.read(_MOST))
        except HTTPError as error:
            with error:
                return _answer(error.code, error.headers, error.read(_MOST))
        except URLError as error:
            failed = str(error.reason)
        except (OSError, ValueError, HTTPException) as error:
            failed = str(error) or type(error).__name__
        # Outside of the `except`: the request that the chain would carry along holds the login.
        raise _no_answer(host, problem_of(failed), failed)

    def post_form(self, url: str, fields: Mapping[str, str], host: str) -> Answer:
        """POST a form; raises as `send`."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.send("POST", url, host, headers=headers, body=urlencode(fields).encode())

    @cached_property
    def _context(self) -> ssl.SSLContext:
        import ssl

        context = ssl.create_default_context()
        if self._bundle is not None:
            try:
                context.load_verify_locations(cafile=str(self._bundle))
            except (OSError, ssl.SSLError) as error:
                raise ImageError(f"the CA bundle {self._bundle} cannot be used: {error}", "it must be PEM") from None
        return context

    @cached_property
    def _proxied(self) -> OpenerDirector:
        return self._opener()

    @cached_property
    def _direct(self) -> OpenerDirector:
        from urllib.request import ProxyHandler

        return self._opener(ProxyHandler({}))

    def _opener(self, *handlers: Any) -> OpenerDirector:
        from urllib.request import HTTPRedirectHandler, HTTPSHandler, build_opener

        class Stay(HTTPRedirectHandler):
            def redirect_request(self, *_args: Any, **_named: Any) -> None:
                return None

        return build_opener(HTTPSHandler(context=self._context), Stay(), *handlers)


class Registry:
    """One repository of a registry, asked with a login."""

    def __init__(self, http: Http, target: Target, login: Login) -> None:
        self._http, self._target, self._login = http, target, login
        self._host = _HUB_API if target.host == _HUB else target.host
        self._authorization = ""

    def digest(self, reference: str | None = None) -> str | None:
        """The digest of what the target's tag, or another tag or digest, names there; None when there is no such.

        Raises:
            ImageError: no answer, or the login is missing, wrong or not enough.
        """
        path = f"{self._target.repository}/manifests/{quote(reference or self._target.tag, safe=':')}"
        answer = self._call("HEAD", path, {"Accept": ", ".join(_MANIFESTS)})
        if answer.status == 200:
            return answer.headers.get("docker-content-digest")
        if answer.status == 404:
            return None
        raise self._refused(answer)

    def refusal(self) -> ImageError | None:
        """Why a blob cannot be written now, by trying it; None when it can. What was begun is canceled."""
        begun = self._call("POST", f"{self._target.repository}/blobs/uploads/", body=b"")
        if begun.status != 202:
            return self._refused(begun)
        where = begun.headers.get("location", "")
        url = where if "://" in where else f"{self._base}{where}"
        if urlsplit(url).netloc != urlsplit(self._base).netloc:
            return None  # a storage service elsewhere: no business of ours
        headers = {**self._authorized(), "Content-Type": "application/octet-stream"}
        written = self._http.send("PATCH", url, self._target.host, headers=headers, body=_PROBE)
        if written.status == 202:
            where = written.headers.get("location", where)
            url = where if "://" in where else f"{self._base}{where}"
        self._http.send("DELETE", url, self._target.host, headers=self._authorized())
        return None if written.status == 202 else self._refused(written)

    @cached_property
    def _base(self) -> str:
        """https, as the engine tries it; http where a loopback registry does not know TLS."""
        if not is_loopback(self._host):
            return f"https://{self._host}"
        try:
            self._http.send("GET", f"https://{self._host}/v2/", self._target.host)
        except ImageError as error:
            if error.problem != Problem.PLAIN_HTTP:
                raise
            return f"http://{self._host}"
        return f"https://{self._host}"

    def _call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """A request below /v2/; the login is sent only when the registry asks for one."""
        url = f"{self._base}/v2/{path}"
        sent = {**(headers or {}), **self._authorized()}
        answer = self._http.send(method, url, self._target.host, headers=sent, body=body)
        if answer.status == 401 and not self._authorization:
            self._authorization = self._authorize(answer)
            sent |= self._authorized()
            answer = self._http.send(method, url, self._target.host, headers=sent, body=body)
        return answer

    def _authorized(self) -> dict[str, str]:
        return {"Authorization": self._authorization} if self._authorization else {}

    def _authorize(self, refused: Answer) -> str:
        """The Authorization header that answers a challenge."""
        kind, _, rest = refused.headers.get("www-authenticate", "").partition(" ")
        if kind.lower() == "bearer":
            return f"Bearer {self._token(dict(_FIELD.findall(rest)))}"
        if self._login.anonymous or not self._login.user:
            raise self._refused(refused)
        return self._basic()

    def _token(self, challenge: Mapping[str, str]) -> str:
        realm = challenge.get("realm", "")
        # `push` too, although only read: without it some registries hide that a repository may be made.
        fields = {"service": challenge.get("service", ""), "scope": f"repository:{self._target.repository}:pull,push"}
        if refresh := self._login.refresh_token:
            form = {"grant_type": "refresh_token", "client_id": "runner", "refresh_token": refresh, **fields}
            answer = self._http.post_form(realm, form, self._target.host)
        else:
            headers = {} if self._login.anonymous else {"Authorization": self._basic()}
            glue = "&" if "?" in realm else "?"
            answer = self._http.send("GET", f"{realm}{glue}{urlencode(fields)}", self._target.host, headers=headers)
        token = answer.json().get("access_token") or answer.json().get("token")
        if answer.status == 200 and isinstance(token, str):
            return token
        raise self._refused(answer)

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self._login.user}:{self._login.secret}".encode()).decode()

    def _refused(self, answer: Answer) -> ImageError:
        """What a status above 400 stands for. The registry's own message is shown, never what was sent."""
        said = json.dumps(answer.json().get("errors", ""))
        reason = dict(_FIELD.findall(answer.headers.get("www-authenticate", ""))).get("error", "")
        # A token that was given and is refused now: the login is right, and not enough.
        status = 403 if answer.status == 401 and self._authorization.startswith("Bearer ") else answer.status
        problem = problem_of(f"{status} {reason} {said}", anonymous=self._login.anonymous)
        return push_error(problem, self._target, f"{answer.status} {self._words(answer)}".strip(), self._login)

    def _words(self, answer: Answer) -> str:
        errors = answer.json().get("errors")
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
        text = "no space left on device" if b'"Err":28' in answer.body else str(first.get("message") or "")
        secret = self._login.secret
        return text.replace(secret, "***") if secret else text


def _answer(status: int, headers: Any, body: bytes) -> Answer:
    return Answer(status, {name.lower(): value for name, value in headers.items()}, body)


def _no_answer(host: str, problem: Problem, text: str) -> ImageError:
    from runner.spec.reference import Target

    if "WRONG_VERSION_NUMBER" in text or "wrong version number" in text or "record layer failure" in text.lower():
        problem = Problem.PLAIN_HTTP
    if problem is Problem.UNTRUSTED:
        return ImageError(
            f"runner does not trust the certificate of {host}",
            f"it says: {text}",
            trust_hints(host)[1],
            problem=problem,
        )
    return push_error(problem, Target(host, "", ""), text)
