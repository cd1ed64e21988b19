"""A server of the tests on loopback that has files with ETags and ranges, and the faults that a test asks for."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


@dataclass
class Fault:
    """What goes wrong with one request. status: instead of the file. reset: bytes after which the connection is cut off by
    RST. short: bytes after which it is closed. hold: waited for in the middle of the file."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    reset: int | None = None
    short: int | None = None
    hold: Event | None = None
    shifted: int = 0


@dataclass
class File:
    """A file of the server; etag and modified "" are not sent."""

    body: bytes
    etag: str = '"1"'
    modified: str = ""
    ranges: bool = True
    faults: list[Fault] = field(default_factory=list)


@dataclass
class DataSite:
    address: str = ""
    files: dict[str, File] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0


class _Handler(BaseHTTPRequestHandler):
    site: DataSite

    def do_GET(self) -> None:
        headers = dict(self.headers)
        self.site.asked.append((self.path, headers))
        file = self.site.files.get(self.path)
        fault = file.faults.pop(0) if file and file.faults else Fault()
        if file is None or fault.status:
            self._say(fault.status or 404, fault.headers, b"no")
            return
        known = headers.get("If-None-Match") or headers.get("If-Modified-Since")
        marks = {"ETag": file.etag, "Last-Modified": file.modified}
        if known and known in marks.values():
            self._say(304, {}, b"")
            return
        start = int(re.findall(r"\d+", headers.get("Range", "0"))[0])
        if start and file.ranges and headers.get("If-Range") in set(marks.values()):
            begin = start + fault.shifted
            span = {"Content-Range": f"bytes {begin}-{len(file.body) - 1}/{len(file.body)}"}
            self._say(206, marks | span, file.body[begin:], fault)
        else:
            self._say(200, marks, file.body, fault)

    def _say(self, status: int, headers: dict[str, str], body: bytes, fault: Fault | None = None) -> None:
        fault = fault or Fault()
        self.send_response(status)
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = fault.reset if fault.reset is not None else fault.short
        half = len(body) // 2 if fault.hold else cut
        self.wfile.write(body[:half])
        self.wfile.flush()
        self.site.sent += len(body[:half])
        if fault.hold:
            assert fault.hold.wait(60)
            self.wfile.write(body[half:])
        if fault.reset is not None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


@contextmanager
def data_site() -> Iterator[DataSite]:
    """An empty one."""
    site = DataSite()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # those that a test cuts off
    site.address = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
