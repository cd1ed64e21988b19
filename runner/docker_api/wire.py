"""HTTP/1.1 to a Docker engine over its socket: small, streaming, without the docker SDK.

Why not the SDK (110 ms) or http.client (which imports ssl and email, 60 ms): every `runner submit` and every
supervisor pays this import. Bodies are JSON in, bytes out; a stream hands over its socket for use in a selector.
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from runner.errors import BackendError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT = 60.0
"""Seconds that one ordinary call may take; the engine answers most within 0.3 s, a busy disk can make it tens."""


def docker_host() -> str:
    """The engine's address as the docker CLI would choose it: DOCKER_HOST, else the current context, else the socket."""
    host = os.environ.get("DOCKER_HOST") or _context_host()
    if host:
        return host
    rootless = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "docker.sock"
    system = Path("/var/run/docker.sock")
    return f"unix://{rootless if rootless.exists() and not system.exists() else system}"


def _context_host() -> str | None:
    """The address stored for the docker context in use (Docker Desktop, Colima, rootless), or None for the default."""
    config_dir = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    name = os.environ.get("DOCKER_CONTEXT")
    try:
        name = name or json.loads((config_dir / "config.json").read_bytes()).get("currentContext")
        if not name or name == "default":
            return None
        import hashlib  # 5 ms, only where a context is in use

        digest = hashlib.sha256(name.encode()).hexdigest()
        meta = json.loads((config_dir / "contexts" / "meta" / digest / "meta.json").read_bytes())
        return str(meta["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, AttributeError):
        return None


class Connection:
    """One HTTP connection. Use `call` for a whole answer and `stream` for one that goes on."""

    def __init__(self, host: str, *, timeout: float = _TIMEOUT) -> None:
        self._host = host
        self._timeout = timeout
        self._sock: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self.opened = 0
        """How often it had to be opened: the same number twice, the same engine all the while."""

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        timeout: float | None = None,
    ) -> tuple[int, bytes]:
        """Send one request and read the whole answer: (HTTP status, body).

        Raises:
            UnavailableError: the engine cannot be reached, or went away. Nothing is known of the request's effect.
        """
        reused = self._sock is not None
        try:
            return self._exchange(method, path, query, body, timeout)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            # An engine closes idle connections. A request on a reused one that got no byte back can be sent again
            # only when it changes nothing; the others are made safe by their callers (names, keys).
            if reused and method == "GET" and not isinstance(error, TimeoutError):
                return self._retry(method, path, query, body, timeout)
            raise _unavailable(self._host, error) from error

    def _retry(
        self, method: str, path: str, query: Mapping[str, str] | None, body: object, timeout: float | None
    ) -> tuple[int, bytes]:
        try:
            return self._exchange(method, path, query, body, timeout)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            raise _unavailable(self._host, error) from error

    def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        accept: tuple[int, ...] = (),
    ) -> Any:
        """`call`, decoded. A status of 400 and above is a BackendError, unless `accept` lists it: then None.

        Raises:
            BackendError: with the engine's own message and its status as `code`.
        """
        status, raw = self.call(method, path, query=query, body=body)
        if status in accept:
            return None
        if status >= 400:
            raise BackendError(engine_message(raw) or f"the engine answered {status} to {path}", code=status)
        return json.loads(raw) if raw.strip() else None

    def stream(self, path: str, *, query: Mapping[str, str] | None = None, attach: bool = False) -> Stream:
        """GET an answer that goes on. The connection then belongs to the stream.

        attach: POST, and have the engine turn the connection into the bare stream.

        Raises:
            BackendError, UnavailableError: as `json`.
        """
        try:
            self._send("POST" if attach else "GET", path, query, None, self._timeout, upgrade=attach)
            status, headers = self._head()
            # Short answers have a length, long ones come in chunks, and an old one just ends with its connection.
            chunked = headers.get("transfer-encoding", "").lower() == "chunked"
            length = int(headers["content-length"]) if "content-length" in headers else None
            if status >= 400:
                raise BackendError(engine_message(self._body(headers)) or f"the engine answered {status}", code=status)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            raise _unavailable(self._host, error) from error
        sock, self._sock = self._sock, None
        process, self._process = self._process, None
        assert sock is not None  # noqa: S101 - _send opened it
        return Stream(sock, self._take_buffer(), chunked=chunked, length=length, process=process)

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
        self._buffer = b""

    def _take_buffer(self) -> bytes:
        rest, self._buffer = self._buffer, b""
        return rest

    def _exchange(
        self, method: str, path: str, query: Mapping[str, str] | None, body: object, timeout: float | None
    ) -> tuple[int, bytes]:
        self._send(method, path, query, body, timeout or self._timeout)
        status, headers = self._head()
        raw = self._body(headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, raw

    def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, body: object, timeout: float, *,
        upgrade: bool = False,
    ) -> None:  # fmt: skip
        if self._sock is None:
            self._sock, self._process = connect(self._host, self._timeout)
            self.opened += 1
            self._buffer = b""
        self._sock.settimeout(timeout)
        target = path + ("?" + urlencode(query) if query else "")
        archive = isinstance(body, io.IOBase)
        payload = b"" if body is None or archive else json.dumps(body).encode()
        length = body.seek(0, io.SEEK_END) if isinstance(body, io.IOBase) else len(payload)
        kind = "application/x-tar" if archive else "application/json"
        head = f"{method} {target} HTTP/1.1\r\nHost: docker\r\nContent-Type: {kind}\r\n"
        if upgrade:
            head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        self._sock.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + payload)
        if isinstance(body, io.IOBase):
            body.seek(0)
            self._sock.sendfile(body)

    def _head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split(" ", 2)[1]), headers

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int(self._line().split(b";")[0], 16):
                parts.append(self._exactly(size))
                self._exactly(2)
            self._line()
            return b"".join(parts)
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        return b""

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _fill(self) -> None:
        assert self._sock is not None  # noqa: S101 - only called between _send and close
        data = self._sock.recv(1 << 16)
        if not data:
            raise EOFError("the engine closed the connection")
        self._buffer += data


class Stream:
    """The body of an answer that goes on, unchunked. Non-blocking: `read` takes what is there.

    `fileno` makes it usable in a selector.
    """

    def __init__(
        self,
        sock: socket.socket,
        head: bytes,
        *,
        chunked: bool,
        length: int | None = None,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._sock = sock
        self._raw = bytearray(head)
        self._chunked = chunked
        self._left = 0
        self._length = length
        self._process = process
        self._closed = False
        self.complete = False
        """The engine said that this was all; else the connection broke."""
        self._again: tuple[type[OSError], ...] = (BlockingIOError,)
        if hasattr(sock, "pending"):  # TLS: it has a buffer of its own, and its own way to say "nothing now"
            import ssl

            self._again += (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        sock.setblocking(False)

    def fileno(self) -> int:
        """The socket, for a selector."""
        return self._sock.fileno()

    @property
    def ended(self) -> bool:
        """No more will come: the last chunk was read or the connection is closed, and all of it was handed over."""
        return self.complete or (self._closed and not self._raw)

    def read(self, limit: int = 1 << 20) -> bytes:
        """What is there now, at most about `limit` bytes; b"" when nothing is (see `ended`)."""
        while not self._closed and (len(self._raw) < limit or self._buffered()):
            try:
                data = self._sock.recv(1 << 18)
            except self._again:
                break
            except OSError:
                data = b""
            if not data:
                self._closed = True
                break
            self._raw += data
        if self._chunked:
            return self._unchunk()
        out = self._take(len(self._raw))
        if self._length is not None:
            self._length -= len(out)
            self.complete = self._length <= 0
        return out

    def _buffered(self) -> bool:
        """Whether TLS holds bytes that no selector would tell of."""
        pending = getattr(self._sock, "pending", None)
        return pending is not None and pending() > 0

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _take(self, size: int) -> bytes:
        out = bytes(self._raw[:size])
        del self._raw[:size]
        return out

    def _unchunk(self) -> bytes:
        """Decode whole and partial chunks; `_left` counts the bytes of the current chunk with its final CRLF."""
        out = []
        while self._raw:
            if self._left > 2:
                data = self._take(min(self._left - 2, len(self._raw)))
                self._left -= len(data)
                out.append(data)
            elif self._left:
                self._left -= len(self._take(min(self._left, len(self._raw))))
            else:
                line, found, _ = bytes(self._raw[:20]).partition(b"\r\n")
                if not found:
                    if self._closed:
                        self._raw.clear()  # the connection broke inside a chunk's head
                    break
                size = int(line.split(b";")[0], 16)
                self._take(len(line) + 2)
                if size == 0:
                    self.complete = True
                    self._raw.clear()
                    break
                self._left = size + 2
        return b"".join(out)


def connect(host: str, timeout: float) -> tuple[socket.socket, subprocess.Popen[bytes] | None]:
    """A connected socket to `unix://`, `tcp://` (TLS by DOCKER_TLS_VERIFY and DOCKER_CERT_PATH) or `ssh://`.

    Raises:
        OSError: not reachable.
    """
    parts = urlsplit(host)
    match parts.scheme:
        case "unix":
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            try:
                sock.connect(parts.path)
            except OSError:
                sock.close()
                raise
            return sock, None
        case "tcp" | "http" | "https":
            plain = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 2375), timeout=timeout)
            return (_tls(plain, parts.hostname) if _wants_tls(parts.scheme) else plain), None
        case "ssh":
            return _ssh(parts.hostname or "", parts.username, parts.port, timeout)
        case _:
            raise UnavailableError(
                f"DOCKER_HOST={host} is not an address of an engine", "expected unix://, tcp://, https:// or ssh://"
            )


def _wants_tls(scheme: str) -> bool:
    return scheme == "https" or bool(os.environ.get("DOCKER_TLS_VERIFY"))


def _tls(sock: socket.socket, name: str | None) -> socket.socket:
    import ssl

    folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    ca, cert, key = (folder / file for file in ("ca.pem", "cert.pem", "key.pem"))
    context = ssl.create_default_context(cafile=str(ca) if ca.exists() else None)
    if cert.exists():
        context.load_cert_chain(str(cert), str(key))
    return context.wrap_socket(sock, server_hostname=name)


def _ssh(
    name: str, user: str | None, port: int | None, timeout: float
) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """`ssh HOST docker system dial-stdio`, as the docker CLI does it: the user's own ssh config and agent apply."""
    ours, theirs = socket.socketpair()
    argv = ["ssh", "-T", *(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
    argv += ["--", name, "docker", "system", "dial-stdio"]
    with theirs:
        process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno(), start_new_session=True)
    ours.settimeout(timeout)
    return ours, process


def engine_message(raw: bytes) -> str:
    """The `message` of an engine's error answer, or its text."""
    try:
        return str(json.loads(raw)["message"])
    except (ValueError, KeyError, TypeError):
        return raw.decode("utf-8", "replace").strip()


def path(*parts: str) -> str:
    """A URL path of quoted parts: `path("containers", id, "json")`."""
    return "/" + "/".join(quote(part, safe=":@") for part in parts)


def _unavailable(host: str, error: Exception) -> UnavailableError:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            fix = "start it (`dockerd`, Docker Desktop), set DOCKER_HOST, or use --backend process"
        case PermissionError():
            fix = (
                "your user may not use the socket: join the group `docker` (usermod -aG docker $USER) and log in again"
            )
        case ValueError():
            fix = "expected unix://, tcp://HOST:PORT, https:// or ssh:// in DOCKER_HOST, and an engine behind it"
        case _:
            fix = "the engine may be restarting or overloaded; runs that it holds are not affected by this message"
    what = getattr(error, "strerror", None) or error
    return UnavailableError(f"no container engine answers at {host}: {what}", fix)
