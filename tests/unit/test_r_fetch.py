"""Downloads: what is kept, whom a login goes to, and servers that stumble, lie or are not trusted."""

from __future__ import annotations

import gzip
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from runner.builder.r.cranlike import Repository
from runner.builder.r.fetch import Fetcher, logins_of, reason, without_login
from tests.unit.r_sites import Answer, Site, package, serving

pytestmark = pytest.mark.usefixtures("r_environment")


def test_an_archive_is_fetched_once(site: Site) -> None:
    site.put("/a.tar.gz", package("a", "1"))
    first = Fetcher(None).archive(f"{site.address}/a.tar.gz")
    assert Fetcher(None).archive(f"{site.address}/a.tar.gz") == first
    assert site.paths == ["/a.tar.gz"]
    first.path.write_bytes(b"the disk lied")
    assert Fetcher(None).archive(f"{site.address}/a.tar.gz") == first
    assert first.path.read_bytes() == package("a", "1")
    assert len(site.paths) == 2


def test_a_server_that_stumbles_is_asked_again(site: Site) -> None:
    answers = [Answer(status=503), Answer(status=502), Answer(b"fine")]
    site.pages["/x"] = lambda _: answers.pop(0)
    assert Fetcher(None).text(f"{site.address}/x") == b"fine"


def test_half_an_answer_is_none(site: Site) -> None:
    site.pages["/x"] = Answer(b"half", headers={"Content-Length": "8"})
    with pytest.raises(OSError, match="the connection broke"):
        Fetcher(None).archive(f"{site.address}/x")
    assert site.paths == ["/x"] * 3


def test_a_login_in_an_address_reaches_that_server_only(site: Site) -> None:
    with serving() as other:
        other.put("/b", b"there")
        site.pages["/a"] = Answer(status=302, headers={"Location": f"{other.address}/b"})
        address = site.address.replace("http://", "http://me:pass%21@")
        assert Fetcher(None).text(f"{address}/a") == b"there"
        assert site.headers("/a")["Authorization"] == "Basic bWU6cGFzcyE="
        assert "Authorization" not in other.headers("/b")
    assert without_login(f"{address}/a") == f"{site.address}/a"


def test_a_login_for_a_server_is_used_again_after_a_redirect_to_it(site: Site) -> None:
    def guarded(headers: Mapping[str, str]) -> Answer:
        return Answer(b"in") if headers.get("Authorization") == "Basic bWU6eA==" else Answer(status=401)

    site.pages["/b"] = guarded
    site.pages["/a"] = Answer(status=301, headers={"Location": "/b"})
    logins = logins_of([site.address.replace("http://", "http://me:x@")])
    assert Fetcher(None, logins).text(f"{site.address}/a") == b"in"
    with pytest.raises(OSError, match="401"):
        Fetcher(None).text(f"{site.address}/a")


def test_who_goes_no_further_waits_for_no_download() -> None:
    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(ConnectionError):
                while self.path == "/endless":
                    self.wfile.write(bytes(1 << 16))
            gone.set()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Quiet."""

    gone = Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    fetch = Fetcher(None)

    def work(path: str) -> object:
        return fetch.text(address + path) if path == "/short" else fetch.archive(address + path)

    try:
        results = fetch.each(work, ["/endless", "/short"])
        assert next(results) == ("/short", b"")
        gone.clear()
        results.close()
        assert gone.wait(20)
    finally:
        server.shutdown()
        server.server_close()


def test_an_index_that_is_cut_off_is_none(site: Site) -> None:
    repository = Repository(Fetcher(None), site.address)
    site.put("/src/contrib/PACKAGES.gz", gzip.compress(b"Package: a\nVersion: 1\n")[:-9])
    assert list(repository.names) == []
    assert repository.failure == "its PACKAGES.gz is cut off, or larger than any index is"
    site.put("/src/contrib/PACKAGES.gz", b"no gzip")
    site.put("/src/contrib/PACKAGES", b"Package: a\nVersion: 1\n")
    assert list(Repository(Fetcher(None), site.address).names) == ["a"]


def test_no_redirect_to_a_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    site.pages["/a"] = Answer(status=302, headers={"Location": (tmp_path / "secret").as_uri()})
    with pytest.raises(OSError, match="302"):
        Fetcher(None).text(f"{site.address}/a")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_a_private_authority(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key),
         "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as site:
        site.put("/a", b"private")
        assert Fetcher(certificate).text(f"{site.address}/a") == b"private"
        with pytest.raises(OSError, match="certificate verify failed") as caught:
            Fetcher(None).text(f"{site.address}/a")
        assert "CERTIFICATE_VERIFY_FAILED" in reason(caught.value)
        with serving() as plain:
            site.pages["/b"] = Answer(status=302, headers={"Location": f"{plain.address}/a"})
            with pytest.raises(OSError, match="from https to an address without"):
                Fetcher(certificate).text(f"{site.address}/b")
            assert plain.asked == []
