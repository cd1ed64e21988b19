"""A small HTTPS server on loopback that stands for a service of Azure, and keeps every request that it got."""

from __future__ import annotations

import base64
import json
import select
import socket
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """One request. body: what it held as JSON. time: of its arrival, monotonic."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    time: float = field(default_factory=time.monotonic)


Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]
"""Status, what is answered as JSON, further headers."""


@dataclass
class Service:
    """answer: decides about each request; may be replaced while the server runs."""

    answer: Callable[[Seen], Reply]
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def bodies(self, part: str) -> list[Any]:
        """What all requests to paths that hold `part` were sent."""
        with self.lock:
            return [each.body for each in self.seen if part in each.path]


class _Handler(BaseHTTPRequestHandler):
    service: Service

    def _handle(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, query, headers, json.loads(raw) if raw else None)
        status, value, *more = self.service.answer(seen)
        with self.service.lock:
            self.service.seen.append(seen)
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(more[0] if more else {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(answer: Callable[[Seen], Reply], ca: trustme.CA | None, *names: str) -> Iterator[Service]:
    """A server on a free port; with `ca` by TLS, under these names and 127.0.0.1."""
    service = Service(answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": service}))
    if ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1", *names).configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    service.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Proxy(BaseHTTPRequestHandler):
    ports: Mapping[str, int]

    def do_CONNECT(self) -> None:
        port = self.ports.get(self.path)
        if port is None:
            self.send_error(502)
            return
        with socket.create_connection(("127.0.0.1", port)) as there:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: there, there: self.connection}
            while True:
                for ready in select.select(list(ends), [], [], 30)[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        self.close_connection = True
                        return
                    ends[ready].sendall(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def proxying(ports: Mapping[str, int]) -> Iterator[str]:
    """A CONNECT proxy that leads `host:port` to a port of this machine, and nothing anywhere else; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), {"ports": ports}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def bundle(ca: trustme.CA, folder: Path) -> str:
    """The path of the CA's certificate."""
    path = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


def jwt(**claims: object) -> str:
    """A token with these claims; its signature is nobody's."""
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in parts) + ".sig"
    )
