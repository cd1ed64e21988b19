"""Servers of the tests on loopback, laid out as CRAN, Posit Package Manager, Bioconductor and GitHub are."""

from __future__ import annotations

import gzip
import hashlib
import io
import ssl
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a server says."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Site:
    """A server. pages: path → answer, or what makes one of the request's headers. asked: (path, headers) in order."""

    address: str = ""
    pages: dict[str, Answer | Callable[[Mapping[str, str]], Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def put(self, path: str, body: bytes) -> None:
        self.pages[path] = Answer(body)

    def headers(self, path: str) -> dict[str, str]:
        """Of the last request for it."""
        return next(headers for asked, headers in reversed(self.asked) if asked == path)


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        headers = dict(self.headers)
        self.site.asked.append((self.path, headers))
        page = self.site.pages.get(self.path, Answer(b"nothing here", 404))
        answer = page if isinstance(page, Answer) else page(headers)
        self.send_response(answer.status)
        for key, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Site]:
    """An empty site on loopback, over https with a context."""
    site = Site()
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if context is None else "https"
    site.address = f"{scheme}://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


class Cran:
    """A CRAN-like repository below a path of a site."""

    def __init__(self, site: Site, prefix: str = "", *, listed: bool = True) -> None:
        self.site, self.prefix, self._listed = site, prefix, listed
        self._entries: list[str] = []
        self._archived: dict[str, list[str]] = {}
        self._publish()

    @property
    def address(self) -> str:
        return f"{self.site.address}{self.prefix}"

    def add(self, name: str, version: str, fields: str = "", hidden: str = "") -> str:
        """A package with its entry in the index; `hidden` fields are in its DESCRIPTION alone, as on CRAN. Its address."""
        raw = package(name, version, fields + hidden)
        path = f"{self.prefix}/src/contrib/{name}_{version}.tar.gz"
        self.site.put(path, raw)
        md5 = hashlib.md5(raw).hexdigest()
        self._entries.append(f"Package: {name}\nVersion: {version}\n{fields}MD5sum: {md5}\n")
        self._publish()
        return f"{self.site.address}{path}"

    def retire(self, name: str, version: str, fields: str = "") -> str:
        """A package in the Archive. Its address."""
        folder = f"{self.prefix}/src/contrib/Archive/{name}/"
        self.site.put(f"{folder}{name}_{version}.tar.gz", package(name, version, fields))
        files = self._archived.setdefault(name, [])
        files.append(f"{name}_{version}.tar.gz")
        if self._listed:
            links = "".join(f'<a href="{file}">{file}</a>\n' for file in files)
            self.site.put(folder, f'<a href="../">Parent</a>\n{links}'.encode())
        return f"{self.site.address}{folder}{name}_{version}.tar.gz"

    def _publish(self) -> None:
        self.site.put(f"{self.prefix}/src/contrib/PACKAGES.gz", gzip.compress("\n".join(self._entries).encode()))


def package(name: str, version: str, fields: str = "", files: Mapping[str, str] | None = None) -> bytes:
    """A source package."""
    return tarball(name, {"DESCRIPTION": f"Package: {name}\nVersion: {version}\n{fields}", **(files or {})})


def tarball(top: str, files: Mapping[str, str], *, level: int = 9, mtime: int = 0) -> bytes:
    """A .tar.gz of these files below a folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size, info.mtime = len(text.encode()), mtime
            archive.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(made.getvalue(), level, mtime=mtime)
