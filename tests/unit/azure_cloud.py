"""Azure's cloud as a client sees it, on loopback: a proxy that leads its host names to Azurite, and a managed identity."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Cloud:
    """connected: `host:port` of every CONNECT. resources: what tokens were asked for."""

    connected: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    proxy: str = ""
    identity: str = ""


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """(certificate, key) for a host, signed by itself."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def token(resource: str) -> str:
    """A JWT with the claims that Azurite looks at; its signature is nobody's."""
    now, guid = int(time.time()), "00000000-0000-0000-0000-000000000000"
    claims = {
        "aud": resource,
        "iss": f"https://sts.windows.net/{guid}/",
        "iat": now,
        "nbf": now - 60,
        "exp": now + 3600,
    }
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*texts, "c2ln"))


class _Handler(BaseHTTPRequestHandler):
    cloud: Cloud
    target: int

    def do_CONNECT(self) -> None:
        self.cloud.connected.append(self.path)
        if not self.path.endswith(".blob.core.windows.net:443"):
            self.send_error(403)
            return
        with socket.create_connection(("127.0.0.1", self.target)) as there:
            self.send_response(200)
            self.end_headers()
            back = Thread(target=_pour, args=(there, self.connection), daemon=True)
            back.start()
            _pour(self.connection, there)
            back.join(30)
        self.close_connection = True

    def do_GET(self) -> None:
        resource = parse_qs(urlsplit(self.path).query)["resource"][0]
        self.cloud.resources.append(resource)
        answer = {"access_token": token(resource), "expires_on": str(int(time.time()) + 3600), "token_type": "Bearer"}
        body = json.dumps(answer | {"resource": resource}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


def _pour(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def cloud(port: int) -> Iterator[Cloud]:
    """port: where the blob service is, over https."""
    found = Cloud()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cloud": found, "target": port}))
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    found.proxy = f"http://127.0.0.1:{server.server_port}"
    found.identity = f"{found.proxy}/identity"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
