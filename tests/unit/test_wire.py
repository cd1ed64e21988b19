"""HTTP to an engine over a real socket: answers in odd pieces, broken connections, and what each error becomes."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import selectors
import socket
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.docker_api.containers import Engine, Frames
from runner.docker_api.wire import Connection, Stream, docker_host, engine_message, path
from runner.errors import BackendError, ImageError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Server:
    """An engine that says what it was told to: for each connection a list of answers, each a list of pieces."""

    def __init__(self, folder: Path, *connections: Sequence[Sequence[bytes]]) -> None:
        self.host = f"unix://{folder}/engine.sock"
        self.requests: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / "engine.sock"))
        self._socket.listen()
        self._connections = connections
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for answers in self._connections:
            connection, _ = self._socket.accept()
            # A client may hang up when it has read the last chunk, before the line that follows it.
            with connection, suppress(BrokenPipeError, ConnectionResetError):
                for pieces in answers:
                    if not self._request(connection):
                        break
                    for piece in pieces:
                        connection.sendall(piece)

    def _request(self, connection: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(65536)):
                return False
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return True

    def stop(self) -> None:
        """Without a look at whether all was asked for: the test has failed already."""
        self._socket.close()

    def close(self) -> None:
        self._thread.join(10)
        self._socket.close()
        assert not self._thread.is_alive(), "the server still waits for a request that never came"


@contextmanager
def serving(folder: Path, *connections: Sequence[Sequence[bytes]]) -> Iterator[Server]:
    server = Server(folder, *connections)
    try:
        yield server
    except BaseException:
        server.stop()
        raise
    server.close()


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def chunked(*parts: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def pieces(raw: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(places)]


# -- whole answers --------------------------------------------------------------------------------------------------

cuts = st.lists(st.integers(0, 10_000), max_size=8)
parts = st.lists(st.binary(max_size=40), max_size=5)


@given(parts, cuts, st.booleans())
def test_an_answer_in_any_pieces_is_the_same(
    tmp_path_factory: Any, body: list[bytes], cut: list[int], whole: bool
) -> None:
    folder = tmp_path_factory.mktemp("wire")
    raw = answer(b"".join(body)) if whole else chunked(*body)
    with serving(folder, [pieces(raw, cut), [answer(b"second")]]) as server:
        connection = Connection(server.host)
        assert connection.call("GET", "/x") == (200, b"".join(body))
        assert connection.call("GET", "/y") == (200, b"second"), "nothing of the first is left over"
        connection.close()


def test_a_request_is_plain_http(tmp_path: Path) -> None:
    with serving(tmp_path, [[answer(b"{}")], [answer(b"")]]) as server:
        connection = Connection(server.host)
        assert connection.json("POST", "/containers/create", query={"name": "a b"}, body={"Env": ["A=ü"]}) == {}
        assert connection.json("PUT", "/archive", body=io.BytesIO(b"\x00tar")) is None
        connection.close()
    first, second = server.requests
    assert first.startswith(b"POST /containers/create?name=a+b HTTP/1.1\r\nHost: docker\r\n")
    assert json.loads(first.partition(b"\r\n\r\n")[2]) == {"Env": ["A=ü"]}
    assert b"application/x-tar" in second
    assert second.endswith(b"\r\n\r\n\x00tar")


def test_a_connection_that_the_engine_closes_is_opened_anew(tmp_path: Path) -> None:
    closing = answer(b"1", headers="Connection: close\r\n")
    with serving(tmp_path, [[closing]], [[answer(b"2")]]) as server:
        connection = Connection(server.host)
        assert connection.call("GET", "/a") == (200, b"1")
        assert connection.call("POST", "/b") == (200, b"2")
        connection.close()


def test_a_read_on_a_connection_that_died_meanwhile_is_sent_again(tmp_path: Path) -> None:
    with serving(tmp_path, [[answer(b"1")]], [[answer(b"2")]]) as server:
        connection = Connection(server.host)
        connection.call("GET", "/a")
        assert connection.call("GET", "/b") == (200, b"2")
        connection.close()


def test_a_write_on_a_connection_that_died_meanwhile_is_not(tmp_path: Path) -> None:
    """Nobody knows whether the engine did it: the caller, who has names and keys, has to look."""
    with serving(tmp_path, [[answer(b"1")]]) as server:
        connection = Connection(server.host)
        connection.call("GET", "/a")
        with pytest.raises(UnavailableError):
            connection.call("POST", "/b")
        connection.close()


@pytest.mark.parametrize(
    "broken",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"],
)  # fmt: skip
def test_an_answer_that_breaks_off_is_unavailable_and_never_a_short_answer(tmp_path: Path, broken: bytes) -> None:
    with serving(tmp_path, [[[broken]][0]]) as server:
        connection = Connection(server.host)
        with pytest.raises(UnavailableError, match="closed the connection"):
            connection.call("GET", "/x")
        connection.close()


def test_an_engine_that_does_not_answer_in_time(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "engine.sock"))
        silent.listen()
        connection = Connection(f"unix://{tmp_path}/engine.sock", timeout=0.05)
        with pytest.raises(UnavailableError, match="timed out"):
            connection.call("GET", "/x")


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        ("404 Not Found", b'{"message":"No such container: x"}', "No such container: x"),
        ("500 Internal Server Error", b'{"message":"no space left"}', "no space left"),
        ("409 Conflict", b"plain text\n", "plain text"),
        ("502 Bad Gateway", b"", "the engine answered 502 to /x"),
        ("400 Bad Request", b'["odd"]', '["odd"]'),
        ("400 Bad Request", b"\xff\xfe", "��"),
    ],
)
def test_a_refusal_is_a_backend_error_with_the_engines_words(
    tmp_path: Path, status: str, body: bytes, message: str
) -> None:
    with serving(tmp_path, [[[answer(body, status)]][0]]) as server:
        connection = Connection(server.host)
        with pytest.raises(BackendError) as caught:
            connection.json("GET", "/x")
        connection.close()
    assert caught.value.message == message
    assert caught.value.code == int(status[:3])
    assert not isinstance(caught.value, UnavailableError)


def test_a_status_that_is_expected_is_no_error(tmp_path: Path) -> None:
    with serving(tmp_path, [[answer(b'{"message":"none"}', "404 Not Found")]]) as server:
        connection = Connection(server.host)
        assert connection.json("GET", "/x", accept=(404,)) is None
        connection.close()


@pytest.mark.parametrize(
    ("host", "message", "hint"),
    [
        ("unix:///nonexistent/docker.sock", "no container engine answers at unix:///nonexistent", "--backend process"),
        ("tcp://127.0.0.1:1", "no container engine answers at tcp://127.0.0.1:1", "DOCKER_HOST"),
        ("ftp://x", "is not an address of an engine", "unix://"),
    ],
)
def test_an_engine_that_cannot_be_reached(host: str, message: str, hint: str) -> None:
    with pytest.raises(UnavailableError, match=message) as caught:
        Connection(host).call("GET", "/_ping")
    assert hint in str(caught.value)


def test_a_socket_that_may_not_be_used_says_how_to_get_in(tmp_path: Path) -> None:
    """As another user: the kernel refuses the connect."""
    if os.getuid() != 0:
        pytest.skip("becomes another user")
    for parent in (tmp_path, *tmp_path.parents):
        if parent.is_relative_to("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "engine.sock"))
        (tmp_path / "engine.sock").chmod(0o600)
        listening.listen()
        os.seteuid(65534)
        try:
            with pytest.raises(UnavailableError) as caught:
                Connection(f"unix://{tmp_path}/engine.sock").call("GET", "/_ping")
        finally:
            os.seteuid(0)
    assert "group `docker`" in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"{", b'{"message": 3}', b'{"other": 1}', b"[]", b"null", b'"text"'])
def test_any_body_of_an_error_has_a_text(raw: bytes) -> None:
    assert isinstance(engine_message(raw), str)


# -- streams --------------------------------------------------------------------------------------------------------


def drained(stream: Stream, limit: int = 7) -> bytes:
    out = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not stream.ended:
            if not (data := stream.read(limit)) and not stream.ended:
                assert selector.select(10), "the stream does not end"
            out += data
    return out


@given(parts, cuts)
def test_a_stream_in_any_pieces_is_the_same(tmp_path_factory: Any, body: list[bytes], cut: list[int]) -> None:
    folder = tmp_path_factory.mktemp("wire")
    with serving(folder, [pieces(chunked(*body), cut)]) as server:
        stream = Connection(server.host).stream("/logs")
        assert drained(stream) == b"".join(body)
        assert stream.complete
        stream.close()


@pytest.mark.parametrize(
    ("tail", "expected"),
    [(b"", b"abc"), (b"5\r\nde", b"abcde"), (b"5", b"abc"), (b"5\r\nde\r\n", b"abcde\r\n")],
)
def test_a_stream_that_breaks_off_says_so_and_hands_over_what_it_has(
    tmp_path: Path, tail: bytes, expected: bytes
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    with serving(tmp_path, [[head + tail]]) as server:
        stream = Connection(server.host).stream("/logs")
        assert drained(stream) == expected
        assert not stream.complete
        stream.close()


def test_a_stream_without_chunks_goes_on_until_the_connection_ends(tmp_path: Path) -> None:
    with serving(tmp_path, [[b"HTTP/1.1 200 OK\r\n\r\nab", b"cd"]]) as server:
        stream = Connection(server.host).stream("/logs")
        assert drained(stream) == b"abcd"
        stream.close()


def test_a_stream_that_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, [[answer(b'{"message":"no such container"}', "404 Not Found")]]) as server:
        connection = Connection(server.host)
        with pytest.raises(BackendError, match="no such container") as caught:
            connection.stream("/logs")
        connection.close()
    assert caught.value.code == 404


# -- frames ---------------------------------------------------------------------------------------------------------


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=30)), max_size=8), cuts)
def test_frames_in_any_pieces_are_the_same(written: list[tuple[int, bytes]], cut: list[int]) -> None:
    raw = b"".join(frame(stream, payload) for stream, payload in written)
    frames = Frames()
    assert b"".join(frames.feed(piece) for piece in pieces(raw, cut)) == b"".join(payload for _, payload in written)


def test_a_frame_is_handed_over_before_it_is_whole() -> None:
    frames = Frames()
    raw = frame(1, b"x" * 100_000)
    assert frames.feed(raw[:50_008]) == b"x" * 50_000
    assert frames.feed(raw[50_008:]) == b"x" * 50_000
    assert frames.feed(b"") == b""


# -- the engine -----------------------------------------------------------------------------------------------------


def test_a_name_that_is_taken_is_said_by_its_code(tmp_path: Path) -> None:
    conflict = answer(b'{"message":"name in use"}', "409 Conflict")
    with serving(tmp_path, [[conflict], [answer(b'{"Id":"abc"}', "201 Created")]]) as server:
        engine = Engine(server.host)
        with pytest.raises(BackendError, match="name in use") as caught:
            engine.create("runner-x", {"Image": "i"})
        assert engine.create("runner-y", {"Image": "i"}) == "abc"
        engine.close()
    assert caught.value.code == 409


def test_a_missing_image_is_an_image_error(tmp_path: Path) -> None:
    missing = answer(b'{"message":"No such image: i"}', "404 Not Found")
    with serving(tmp_path, [[missing], [missing]]) as server:
        engine = Engine(server.host)
        with pytest.raises(ImageError, match="No such image"):
            engine.create("runner-x", {"Image": "i"})
        assert engine.image("i") is None
        engine.close()


def test_signals_and_removal_of_what_is_gone_are_no_errors(tmp_path: Path) -> None:
    with serving(tmp_path, [[answer(b"{}", "404 Not Found")], [answer(b"{}", "409 Conflict")]]) as server:
        engine = Engine(server.host)
        engine.kill("x", "SIGTERM")
        engine.remove("x")
        engine.close()


def test_names_in_addresses_are_quoted() -> None:
    assert path("images", "host:5000/a b@sha256:1", "json") == "/images/host:5000%2Fa%20b@sha256:1/json"


# -- where the engine is --------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def _context(config: Path, name: str, host: str) -> None:
    folder = config / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))


def test_the_environment_comes_first(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _context(config, "colima", "unix:///colima.sock")
    (config / "config.json").write_text('{"currentContext": "colima"}')
    assert docker_host() == "unix:///colima.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://x:1")
    assert docker_host() == "tcp://x:1"


def test_a_context_chosen_by_variable(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _context(config, "remote", "ssh://box")
    monkeypatch.setenv("DOCKER_CONTEXT", "remote")
    assert docker_host() == "ssh://box"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"currentContext": "default"}', '{"currentContext": "gone"}', "null"])
def test_a_config_that_says_nothing_leaves_the_usual_socket(config: Path, text: str) -> None:
    (config / "config.json").write_text(text)
    assert docker_host().startswith("unix:///")
