"""What stands in front of a registry of Azure: `/oauth2/exchange` and `/oauth2/token` as documented for ACR, `/v2/` passed
on to a real registry that verifies the tokens; and the endpoint at which App Service gives out identities.

All of it is real HTTP(S): a private CA, RS256 tokens, challenges by the registry. Only Entra itself is missing: the
identity endpoint makes up its tokens.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import jwt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER = "00000000-0000-0000-0000-000000000000"
ISSUER = "Azure Container Registry"
_LEEWAY_S = 60
"""The registry takes a token for so long after its `exp`; a life is counted to where it really ends."""


def make_certificates(folder: Path) -> None:
    """A private CA (ca.crt), a certificate of 127.0.0.1 and every container address (server), one that signs (token)."""
    _openssl(
        folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=runner tests CA",
        "-keyout", "ca.key", "-out", "ca.crt",
    )  # fmt: skip
    names = [
        "IP:127.0.0.1",
        "DNS:localhost",
        # Where the engine's default pools put the networks of containers.
        *(f"IP:172.{net}.0.{host}" for net in range(16, 32) for host in range(2, 12)),
        *(f"IP:192.168.{net}.{host}" for net in range(0, 256, 16) for host in range(2, 12)),
    ]
    for name, extension in (("server", f"subjectAltName={','.join(names)}"), ("token", "keyUsage=digitalSignature")):
        (folder / f"{name}.ext").write_text(extension)
        _openssl(
            folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN=runner tests {name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        _openssl(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt",
        )  # fmt: skip
    for path in folder.iterdir():
        path.chmod(0o644)


def _openssl(folder: Path, *argv: str) -> None:
    subprocess.run(["openssl", *argv], cwd=folder, check=True, capture_output=True)


@dataclass
class Acr:
    """The front: its state, what it was asked, and how it behaves. Everything may be changed while it runs.

    upstream: port of the real registry. accounts: Entra tokens that are known, and whether each may push.
    hold: the first upload is completed only when the refresh token it began under is over. answers: the status of every
    exchange, 0 for what it should be.
    """

    material: Path
    host: str = ""
    upstream: int = 0
    accounts: dict[str, bool] = field(default_factory=dict)
    refresh_s: float = 3 * 3600.0
    access_s: float = 75 * 60.0
    hold: bool = False
    answers: int = 0
    asked: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    _ends: float = 0.0
    _refresh: dict[str, tuple[float, bool]] = field(default_factory=dict)

    def exchange(self, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """POST /oauth2/exchange."""
        self.asked.append("exchange")
        if self.answers:
            return self.answers, {}
        token = form.get("access_token", [""])[0]
        if form.get("grant_type") != ["access_token"] or form.get("service") != [self.host]:
            return 400, _error("UNSUPPORTED", "grant_type or service is wrong")
        if token not in self.accounts:
            return 401, _error("UNAUTHORIZED", "authentication required")
        now = time.time()
        refresh = self._signed(
            {"grant_type": "refresh_token", "iat": int(now), "exp": int(now) + round(self.refresh_s)}
        )
        self._ends = time.monotonic() + self.refresh_s
        self._refresh[refresh] = (self._ends, self.accounts[token])
        self.given.append(refresh)
        return 200, {"refresh_token": refresh}

    def token(self, refresh: str, scopes: list[str]) -> tuple[int, dict[str, Any]]:
        """GET and POST /oauth2/token."""
        ends, may_push = self._refresh.get(refresh, (0.0, False))
        if time.monotonic() >= ends:
            return 401, _error("UNAUTHORIZED", "authentication required")
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            wanted = actions.split(",")
            granted = wanted if may_push and not name.startswith("denied/") else [a for a in wanted if a == "pull"]
            access.append({"type": kind, "name": name, "actions": granted})
        now = int(time.time())
        claims = {"access": access, "nbf": now - 300, "iat": now - 300, "exp": now + round(self.access_s) - _LEEWAY_S}
        return 200, {"access_token": self._signed({"grant_type": "access_token", **claims})}

    def wait_for_the_end(self) -> None:
        """Hold one upload until its login is over (a moment of the clock, not a guess)."""
        if self.hold:
            self.hold = False
            self.refresh_s, self.access_s = 3600.0, 3600.0
            threading.Event().wait(max(0.0, self._ends - time.monotonic()) + 1)

    def _signed(self, claims: dict[str, Any]) -> str:
        certificate = (self.material / "token.crt").read_text()
        chain = ["".join(line for line in certificate.splitlines() if "CERTIFICATE" not in line)]
        whole = {"iss": ISSUER, "aud": self.host, "sub": "tests", "jti": secrets.token_hex(8), **claims}
        return jwt.encode(whole, (self.material / "token.key").read_text(), "RS256", {"x5c": chain})


def _error(code: str, message: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "message": message}]}


class _Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    acr: Acr

    def _do(self) -> None:
        path = urlsplit(self.path)
        if path.path.startswith("/oauth2/"):
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            self._json(*self._oauth(path.path, parse_qs(raw), parse_qs(path.query)))
        else:
            self._pass_on()

    def __getattr__(self, name: str) -> Any:
        """`do_GET` and its kin: every method is answered alike."""
        if name.startswith("do_"):
            return self._do
        raise AttributeError(name)

    def _oauth(self, path: str, form: dict[str, list[str]], query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        if path == "/oauth2/exchange" and self.command == "POST":
            return self.acr.exchange(form)
        if path != "/oauth2/token":
            return 404, _error("NOT_FOUND", "no such endpoint")
        self.acr.asked.append(f"token {self.command}")
        if self.command == "POST":
            return self.acr.token(form.get("refresh_token", [""])[0], form.get("scope", []))
        login = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        user, _, password = login.partition(":")
        return self.acr.token(password if user == USER else "", query.get("scope", []))

    def _pass_on(self) -> None:
        if self.command == "PUT" and "/blobs/uploads/" in self.path:
            self.acr.wait_for_the_end()
        connection = HTTPConnection("127.0.0.1", self.acr.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            self._pass_body(connection)
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"date", "transfer-encoding", "connection"}:
                    self.send_header(name, value)
            if "content-length" not in {name.lower() for name, _ in answer.getheaders()}:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        finally:
            connection.close()

    def _pass_body(self, connection: HTTPConnection) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                line = self.rfile.readline()
                size = int(line, 16)
                connection.send(line + self.rfile.read(size + 2))
                if size == 0:
                    return
        left = int(self.headers.get("Content-Length") or 0)
        while left and (block := self.rfile.read(min(left, 1 << 16))):
            connection.send(block)
            left -= len(block)

    def _json(self, status: int, data: dict[str, Any]) -> None:
        raw = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


@contextmanager
def fronted(acr: Acr) -> Iterator[None]:
    """The front over TLS on loopback; sets `acr.host`."""
    handler = type("Front", (_Front,), {"acr": acr})
    server = _Server(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(acr.material / "server.crt", acr.material / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    acr.host = f"127.0.0.1:{server.server_port}"
    with _running(server):
        yield


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is part of the tests."""


@dataclass
class Identity:
    """The identity endpoint of App Service. tokens: resource → the Entra token that it gives out; others are refused."""

    tokens: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    header: str = field(default_factory=lambda: secrets.token_hex(8))
    url: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What App Service sets for its programs."""
        return {"IDENTITY_ENDPOINT": self.url, "IDENTITY_HEADER": self.header}


@contextmanager
def identities(identity: Identity) -> Iterator[None]:
    """The endpoint over http on loopback; sets `identity.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """A token for a resource."""
            resource = parse_qs(urlsplit(self.path).query).get("resource", [""])[0]
            identity.asked.append(resource)
            known = self.headers.get("X-IDENTITY-HEADER") == identity.header and resource in identity.tokens
            data: dict[str, Any] = {"statusCode": 400, "message": "no identity for that resource"}
            if known:
                data = {
                    "access_token": identity.tokens[resource], "resource": resource, "token_type": "Bearer",
                    "expires_on": str(int(time.time()) + 86400),
                }  # fmt: skip
            raw = json.dumps(data).encode()
            self.send_response(200 if known else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Quiet."""

    server = _Server(("127.0.0.1", 0), Handler)
    identity.url = f"http://127.0.0.1:{server.server_port}/msi/token"
    with _running(server):
        yield


@contextmanager
def _running(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
