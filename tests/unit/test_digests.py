"""Content as one number: what counts, what does not, and that the cache never says more than the truth."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import digests
from runner.digests import Digests

PLAIN = Digests(None)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "sub" / "b.txt").write_text("b")
    (root / "link").symlink_to("sub/b.txt")
    return root


def age(path: Path, seconds: float = 100) -> None:
    """As if it had been written long ago; only the kernel sets ctime, so the racy window is shortened with it."""
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this test are old enough at once, which no test could wait for without sleeping."""
    monkeypatch.setattr(digests, "_RACY_NS", -(10**12))


def test_a_file_is_what_sha256sum_says(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"hello" * 100_000)
    assert PLAIN.of(file) == hashlib.sha256(b"hello" * 100_000).hexdigest()


def swap(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "a.txt").write_text("A"),
    "name": lambda root: (root / "a.txt").rename(root / "c.txt"),
    "folder": lambda root: (root / "sub").rename(root / "sup"),
    "empty folder": lambda root: (root / "empty").mkdir(),
    "another file": lambda root: (root / "sub" / "c").write_text(""),
    "missing file": lambda root: (root / "a.txt").unlink(),
    "x bit": lambda root: (root / "a.txt").chmod(0o755),
    "link's text": lambda root: swap(root / "link", lambda link: link.symlink_to("a.txt")),
    "link to a file": lambda root: swap(root / "link", lambda link: link.write_text("b")),
    "a pipe": lambda root: os.mkfifo(root / "pipe"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_counts(tree: Path, change: str) -> None:
    before = PLAIN.of(tree)
    CHANGES[change](tree)
    assert PLAIN.of(tree) != before


def test_what_does_not_count(tree: Path) -> None:
    before = PLAIN.of(tree)
    age(tree / "a.txt")
    (tree / "a.txt").chmod(0o600)
    moved = tree.rename(tree.with_name("moved"))
    assert PLAIN.of(moved) == before
    moved.with_name("other").symlink_to(moved)
    assert PLAIN.of(moved.with_name("other")) == before


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.text("ab:1 \n", max_size=4)), min_size=2, max_size=2, unique=True))
def test_no_two_records_read_the_same(pair: list[tuple[str, str]]) -> None:
    (one, first), (two, second) = pair
    assert digests._record("file", one, first) != digests._record("file", two, second)


def test_a_link_that_leads_out_counts_with_what_it_leads_to(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "data").write_text("1")
    (tree / "out").symlink_to(outside)
    (outside / "back").symlink_to(tree)  # round and round
    before = PLAIN.of(tree)
    (outside / "data").write_text("2")
    assert PLAIN.of(tree) != before
    (tree / "dangling").symlink_to("/nowhere/at/all")
    assert PLAIN.of(tree)


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, calm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "big"
    file.write_bytes(bytes(100_000))
    cache = Digests(tmp_path / "cache")
    found = cache.of(file)

    def no_reading(*_: object) -> None:
        pytest.fail("it was read")

    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", no_reading)
        assert Digests(tmp_path / "cache").of(file) == found
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "cache").iterdir()] == [0o600]


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, calm: None) -> None:
    file = tmp_path / "big"
    file.write_bytes(b"a" * 10_000)
    cache = Digests(tmp_path / "cache")
    before, times = cache.of(file), file.stat()
    file.write_bytes(b"b" * 10_000)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert cache.of(file) != before
    aside = tmp_path / "aside"
    aside.write_bytes(b"c" * 10_000)
    os.utime(aside, ns=(times.st_atime_ns, times.st_mtime_ns))
    aside.replace(file)
    assert cache.of(file) == hashlib.sha256(b"c" * 10_000).hexdigest()


def test_a_file_just_written_is_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "big"
    cache = Digests(tmp_path / "cache")
    for content in (b"a", b"b", b"c") * 20:  # faster than any file system's clock ticks
        file.write_bytes(content * 10_000)
        assert cache.of(file) == hashlib.sha256(content * 10_000).hexdigest()


def test_a_damaged_cache_is_none(tmp_path: Path, calm: None) -> None:
    file = tmp_path / "big"
    file.write_bytes(b"a" * 10_000)
    cache = Digests(tmp_path / "cache")
    found = cache.of(file)
    (entry,) = (tmp_path / "cache").iterdir()
    for damage in (b"", b"{", b"[]", b'{"x": 1}', b"\xff\xfe", b'{"' + os.fsencode(file) + b'": [1]}'):
        entry.write_bytes(damage)
        assert cache.of(file) == found


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, calm: None) -> None:
    file = tmp_path / "big"
    file.write_bytes(b"a" * 10_000)
    (tmp_path / "occupied").write_text("")
    assert Digests(tmp_path / "occupied" / "cache").of(file) == PLAIN.of(file)


def test_a_file_that_is_written_to_all_the_time_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "growing"
    file.write_bytes(b"a")
    real = hashlib.file_digest

    def write_meanwhile(opened: object, name: str) -> object:
        with file.open("ab") as more:
            more.write(b"b")
        return real(opened, name)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr("hashlib.file_digest", write_meanwhile)
    with pytest.raises(OSError) as caught:
        PLAIN.of(file)
    assert caught.value.errno == errno.ESTALE


def test_processes_share_the_cache_without_waiting(tmp_path: Path, calm: None) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(50):
        (root / str(number)).write_bytes(str(number).encode() * 5000)
    expected = PLAIN.of(root)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.extend(Digests(tmp_path / "cache").of(root) for _ in range(10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {expected}
    assert len(found) == 40


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PLAIN.of(tmp_path / "nothing")
