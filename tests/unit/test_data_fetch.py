"""Downloads over http: cached, continued, tried again, whole or not there; servers that fail, lie and dawdle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from runner.data import fetch, resolve
from runner.data.download import Patience
from runner.data.fetch import matches
from runner.errors import BackendError, NotFoundError, RunnerError, UnavailableError
from runner.spec.config import Config
from tests.conftest import eventually
from tests.unit.data_site import DataSite, Fault, File, data_site

QUICK = Patience(tries=3, first_s=0.01, longest_s=0.2)
BODY = os.urandom(3 << 20)


@pytest.fixture
def site() -> Iterator[DataSite]:
    with data_site() as found:
        yield found


class Client:
    """`fetch` with a cache of the test's own. said: its lines."""

    def __init__(self, site: DataSite, cache: Path) -> None:
        self.site, self.cache = site, cache
        self.said: list[str] = []

    def __call__(self, path: str, *, folder: bool | None = None) -> Path:
        place = resolve(self.site.address + path, Config())
        return fetch(place, self.cache, self.said.append, folder=folder, patience=QUICK)

    def error(self, path: str, kind: type[RunnerError]) -> str:
        with pytest.raises(kind) as caught:
            self(path)
        assert type(caught.value) is kind
        assert "secret" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def client(site: DataSite, tmp_path: Path) -> Client:
    return Client(site, tmp_path / "cache")


def test_what_did_not_change_is_not_downloaded_again(site: DataSite, client: Client) -> None:
    site.files["/a%20b.csv"] = File(b"one")
    first = client("/a b.csv")
    assert (first.name, first.read_bytes()) == ("a b.csv", b"one")
    assert client.said == [f"{site.address}/a b.csv  3 B"]
    assert client("/a b.csv") == first
    assert site.asked[1][1]["If-None-Match"] == '"1"'
    assert len(client.said) == 1
    site.files["/a%20b.csv"] = File(b"two", '"2"')
    second = client("/a b.csv")
    assert (second.read_bytes(), first.read_bytes()) == (b"two", b"one"), "what a step was given stays as it was"
    assert oct(second.stat().st_mode & 0o777) == "0o444"


def test_a_date_does_for_an_etag(site: DataSite, client: Client) -> None:
    site.files["/a"] = File(b"one", "", "Wed, 01 Jan 2025 00:00:00 GMT")
    assert client("/a") == client("/a")
    assert site.asked[1][1]["If-Modified-Since"] == "Wed, 01 Jan 2025 00:00:00 GMT"
    assert len(client.said) == 1


def test_the_same_content_is_kept_once(site: DataSite, client: Client) -> None:
    site.files |= {"/a": File(b"same"), "/b": File(b"same")}
    assert client("/a").samefile(client("/b"))


def test_what_somebody_wrote_to_is_downloaded_again(site: DataSite, client: Client) -> None:
    site.files["/a"] = File(b"right")
    found = client("/a")
    found.chmod(0o644)
    found.write_bytes(b"wrong")
    assert client("/a").read_bytes() == b"right"
    replaced = client("/a")
    replaced.unlink()
    replaced.symlink_to("/etc/passwd")
    assert client("/a").read_bytes() == b"right"
    shutil.rmtree(client.cache / "objects")
    assert client("/a").read_bytes() == b"right"


def test_a_reset_connection_is_tried_again(site: DataSite, client: Client) -> None:
    """How much of it arrives before the reset is up to the kernel."""
    site.files["/a"] = File(BODY, faults=[Fault(reset=1 << 20)])
    assert client("/a").read_bytes() == BODY
    assert "again in" in client.said[0]


def test_a_download_goes_on_where_it_broke(site: DataSite, client: Client) -> None:
    site.files["/a"] = File(BODY, faults=[Fault(short=1 << 20)])
    assert client("/a").read_bytes() == BODY
    begin = int(site.asked[1][1]["Range"].removeprefix("bytes=").removesuffix("-"))
    assert site.asked[1][1]["If-Range"] == '"1"'
    assert 0 < begin <= 1 << 20
    assert "again in" in client.said[0]


def test_what_changed_meanwhile_is_begun_anew(site: DataSite, client: Client) -> None:
    site.files["/a"] = File(BODY, '"1"', faults=[Fault(short=2 << 20), Fault(503), Fault(503)])
    assert "what has come is kept" in client.error("/a", UnavailableError)
    site.files["/a"] = File(BODY[::-1], '"2"')
    assert client("/a").read_bytes() == BODY[::-1]
    assert site.asked[-1][1]["If-Range"] == '"1"'


@pytest.mark.parametrize("file", [File(BODY, 'W/"1"'), File(BODY, ""), File(BODY, ranges=False)])
def test_without_ranges_or_a_firm_validator_it_is_begun_anew(site: DataSite, client: Client, file: File) -> None:
    file.faults = [Fault(short=1 << 20)]
    site.files["/a"] = file
    assert client("/a").read_bytes() == BODY


def test_a_range_that_was_not_asked_for_is_not_taken(site: DataSite, client: Client) -> None:
    site.files["/a"] = File(BODY, faults=[Fault(short=1 << 20), Fault(shifted=7)])
    assert client("/a").read_bytes() == BODY
    assert "it gave bytes from" in client.said[1]


def test_half_a_file_has_no_name(site: DataSite, client: Client) -> None:
    site.files["/a.csv"] = File(BODY, "", faults=[Fault(short=1 << 20)] * 3)
    assert "could not be had" in client.error("/a.csv", UnavailableError)
    assert list(client.cache.rglob("a.csv")) == []


def test_a_server_that_wants_to_be_left_alone_is(site: DataSite, client: Client) -> None:
    site.files["/a"] = File(b"x", faults=[Fault(429, {"Retry-After": "90"}), Fault(503)])
    begin = time.monotonic()
    assert client("/a").read_bytes() == b"x"
    assert time.monotonic() - begin >= QUICK.longest_s
    assert "HTTP 429" in client.said[0]
    assert "again in 0.2 s" in client.said[0], "no longer than our own bound"


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (404, NotFoundError, "is not there (HTTP 404"),
        (401, BackendError, "may not be read without signing in (HTTP 401"),
        (403, BackendError, "a SAS"),
        (418, BackendError, "cannot be had (HTTP 418"),
        (500, UnavailableError, "could not be had: HTTP 500"),
    ],
)
def test_what_a_server_refuses(
    site: DataSite, client: Client, status: int, kind: type[RunnerError], message: str
) -> None:
    site.files["/a?sig=secret"] = File(b"", faults=[Fault(status)] * 3)
    assert message in client.error("/a?sig=secret", kind)
    assert len(site.asked) == (3 if status == 500 else 1)
    kept = [path.read_text() for path in client.cache.rglob("*") if path.is_file()]
    assert not any("secret" in text for text in (*kept, *client.said))


def test_an_address_with_strange_characters(site: DataSite, client: Client) -> None:
    site.files["/%C3%A4%5B1%5D?v=a%20b"] = File(b"x")
    assert client("/ä[1]?v=a b\n").name == "ä[1]"


def test_another_signature_is_the_same_file(site: DataSite, client: Client) -> None:
    site.files |= {"/a?sig=secret1": File(b"x"), "/a?sig=secret2": File(b"x")}
    assert client("/a?sig=secret1") == client("/a?sig=secret2")
    assert len(client.said) == 1


def test_nobody_there(client: Client) -> None:
    client.site.address = "http://127.0.0.1:9"
    assert "could not be had: Connection refused" in client.error("/a?sig=secret", UnavailableError)


def test_no_folder_over_http(client: Client) -> None:
    assert "http has none that can be listed" in client.error("/a/?sig=secret", BackendError)


def test_local_places(tmp_path: Path, client: Client) -> None:
    (tmp_path / "a").write_text("x")
    place = resolve(str(tmp_path / "a"), Config())
    assert fetch(place, client.cache, client.said.append) == tmp_path / "a"
    with pytest.raises(NotFoundError, match="is a file, and a folder is wanted"):
        fetch(place, client.cache, client.said.append, folder=True)
    with pytest.raises(NotFoundError, match=f"b is not there\n  looked in {tmp_path}"):
        fetch(resolve(str(tmp_path / "b"), Config()), client.cache, client.said.append)
    assert not client.cache.exists()


_FETCH = """
import sys
from pathlib import Path
from runner.data import fetch, resolve
from runner.spec.config import Config
print(fetch(resolve(sys.argv[1], Config()), Path(sys.argv[2]), lambda text: print(text, file=sys.stderr, flush=True)))
"""


def command(client: Client) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _FETCH, f"{client.site.address}/a", str(client.cache)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_processes_at_once_download_once(site: DataSite, client: Client) -> None:
    go = Event()
    site.files["/a"] = File(BODY, faults=[Fault(hold=go)])
    first = command(client)
    eventually(lambda: site.sent > 0, "the first is in the middle")
    second = command(client)
    assert second.stderr is not None
    assert "waiting for another runner" in second.stderr.readline()
    go.set()
    found = {process.communicate(timeout=60)[0] for process in (first, second)}
    assert len(found) == 1
    assert Path(found.pop().strip()).read_bytes() == BODY
    assert site.asked[1][1]["If-None-Match"] == '"1"'


def test_a_killed_download_goes_on_with_the_next_command(site: DataSite, client: Client) -> None:
    go = Event()
    site.files["/a"] = File(BODY, faults=[Fault(hold=go)])
    process = command(client)
    eventually(lambda: any(p.stat().st_size > 1 << 20 for p in client.cache.rglob("parts/*")), "half of it is there")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    go.set()
    assert client("/a").read_bytes() == BODY
    assert int(site.asked[1][1]["Range"].removeprefix("bytes=").removesuffix("-")) > 1 << 20


@pytest.mark.parametrize(
    ("path", "pattern", "meant"),
    [
        ("a.csv", "*.csv", True), ("b/a.csv", "*.csv", False), ("b/a.csv", "**/*.csv", True), ("a.csv", "**/*.csv", True),
        ("b/c/a.csv", "b/**", True), ("b/a1.csv", "./b/a[0-9].csv", True), ("b/ax.csv", "b/a[0-9].csv", False),
        ("a", "?", True), ("ab", "?", False), ("a/b/c", "**/**/c", True), ("a/" * 200 + "x", "**/" * 200 + "y", False),
    ],
)  # fmt: skip
def test_patterns(path: str, pattern: str, meant: bool) -> None:
    assert matches(path, pattern) is meant
