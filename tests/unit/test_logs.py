"""Reading a log: the last lines, what came since, and following over attempts. The same bytes, always."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import logs
from runner.engine.logindex import ENTRY, log_offset
from runner.logs import Follower, last_lines, read
from runner.model import Outcome, Reason, Status, Step
from runner.store import RunRow, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

contents = st.lists(st.sampled_from([b"", b"a", b"bc", b"\xff\x00", b"x" * 9, b"\r"]), max_size=12).flatmap(
    lambda lines: st.sampled_from([b"\n".join(lines), b"\n".join(lines) + b"\n"])
)


def split_lines(data: bytes) -> list[bytes]:
    """bytes.splitlines also splits at a lone CR, which is no end of a line in a log."""
    lines = data.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


@given(contents, st.integers(0, 14), st.integers(1, 7))
def test_the_last_lines_are_those_that_a_plain_split_finds(data: bytes, count: int, block: int) -> None:
    before, logs._BLOCK = logs._BLOCK, block
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            found = b"".join(read(Path(file.name), tail=count))
    finally:
        logs._BLOCK = before
    assert found == (b"".join(split_lines(data)[-count:]) if count else b"")


def test_a_log_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert list(read(tmp_path / "log")) == []
    assert list(read(tmp_path / "log", tail=3)) == []
    assert last_lines(tmp_path / "log", 3) == []


def test_a_large_log_is_read_in_blocks_and_its_end_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    line = b"y" * 99 + b"\n"
    with path.open("wb") as file:
        for _ in range(50):
            file.write(line * 10_000)
    assert max(len(block) for block in read(path)) <= logs._BLOCK
    before = bytes_read()
    assert b"".join(read(path, tail=3)) == line * 3
    assert bytes_read() - before < 4 << 20, "50 MB are not read for three lines"


def bytes_read() -> int:
    """What this process has read so far, from anywhere."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_what_came_since(tmp_path: Path) -> None:
    log, index = tmp_path / "log", tmp_path / "log.index"
    log.write_bytes(b"one\ntwo\nthree\n")
    index.write_bytes(ENTRY.pack(100.0, 4) + ENTRY.pack(200.0, 8) + ENTRY.pack(300.0, 14) + b"torn")
    for since, expected in ((0, b"one\ntwo\nthree\n"), (150, b"two\nthree\n"), (250, b"three\n"), (400, b"")):
        assert b"".join(read(log, since=since, index=index)) == expected
    assert b"".join(read(log, since=150, tail=1, index=index)) == b"three\n"
    assert log_offset(tmp_path / "none", 1) == 0


@given(st.lists(st.integers(1, 50), max_size=10), st.floats(-1, 12, allow_nan=False))
def test_the_offset_is_where_the_log_was_last_seen_before(steps: list[int], since: float) -> None:
    """Entries at times 0, 1, 2 … with growing sizes."""
    sizes = [sum(steps[: number + 1]) for number in range(len(steps))]
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(ENTRY.pack(float(number), size) for number, size in enumerate(sizes)))
        file.flush()
        found = log_offset(Path(file.name), since)
    assert found == max([0, *(size for number, size in enumerate(sizes) if number < since)])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"a\nb\n\n \nc\n", ["b", "c"]),
        (b"10%\r50%\r100%\ndone\n", ["100%", "done"]),
        (b"caf\xc3\xa9 \xff\nx\r\n", ["café �", "x"]),
        (b"\x1b[31mred\x1b[0m\n\x07bell\n", ["[31mred[0m", "bell"]),
        (b"x" * 1000, ["x" * 400]),
        (b"", []),
    ],
)
def test_last_lines_for_people(tmp_path: Path, raw: bytes, expected: list[str]) -> None:
    (tmp_path / "log").write_bytes(raw)
    assert last_lines(tmp_path / "log", 2) == expected


# -- following ------------------------------------------------------------------------------------------------------

DONE = Outcome(Reason.COMPLETED, 0)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple[Store, RunRow]]:
    """A live run whose supervisor is this test: it holds the lock."""
    store = Store(tmp_path / "home")
    store.reserve("a")
    row = store.accept("a", step=Step("s", ("a.py",)), backend="process", image=None, image_name=None, experiment="e",
                       title="t", description="", tags={})  # fmt: skip
    lock = store.lock("a")
    assert lock is not None
    yield store, row
    os.close(lock)
    store.close()


def write(store: Store, row: RunRow, attempt: int, data: bytes) -> None:
    path = store.folder(row.name).attempt(attempt).log
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


def following(follower: Follower) -> tuple[bytearray, threading.Thread]:
    got = bytearray()

    def collect() -> None:
        for block in follower:
            got.extend(block)

    thread = threading.Thread(target=collect)
    thread.start()
    return got, thread


def ended(thread: threading.Thread) -> bool:
    thread.join(30)
    return not thread.is_alive()


def test_following_shows_what_is_written_until_the_end(
    run: tuple[Store, RunRow], eventually: Callable[..., None]
) -> None:
    store, row = run
    got, thread = following(Follower(Store(store.home), row))
    store.begin_attempt(row, 1)
    write(store, row, 1, b"one\n")
    eventually(lambda: bytes(got) == b"one\n", "the first line")
    write(store, row, 1, b"tw")
    eventually(lambda: bytes(got) == b"one\ntw", "half a line, at once")
    write(store, row, 1, b"o\n")
    store.end(row, DONE, attempts=1)
    assert ended(thread)
    assert bytes(got) == b"one\ntwo\n"


def test_following_goes_on_with_the_next_attempt(run: tuple[Store, RunRow], eventually: Callable[..., None]) -> None:
    store, row = run
    got, thread = following(Follower(Store(store.home), row))
    for number in (1, 2, 3):
        store.begin_attempt(row, number)
        if number != 2:  # one that ended before it wrote anything
            write(store, row, number, b"attempt %d\n" % number)
    eventually(lambda: b"3" in got, "the third attempt")
    store.end(row, DONE, attempts=3)
    assert ended(thread)
    assert bytes(got) == b"attempt 1\nattempt 3\n"


def test_following_one_attempt_ends_with_it(run: tuple[Store, RunRow]) -> None:
    store, row = run
    for number in (1, 2):
        store.begin_attempt(row, number)
        write(store, row, number, b"attempt %d\n" % number)
    got, thread = following(Follower(Store(store.home), store.get("a"), attempt=1))
    assert ended(thread), "attempt 2 has begun, so nothing more comes to attempt 1"
    assert bytes(got) == b"attempt 1\n"


def test_following_from_the_last_lines(run: tuple[Store, RunRow], eventually: Callable[..., None]) -> None:
    store, row = run
    store.begin_attempt(row, 1)
    write(store, row, 1, b"old\n" * 100 + b"last\n")
    got, thread = following(Follower(Store(store.home), store.get("a"), tail=1))
    eventually(lambda: bytes(got) == b"last\n", "the last line")
    write(store, row, 1, b"new\n")
    store.end(row, DONE, attempts=1)
    assert ended(thread)
    assert bytes(got) == b"last\nnew\n"


def test_following_a_run_that_ended_before_anything_was_written(run: tuple[Store, RunRow]) -> None:
    store, row = run
    store.end(row, DONE, attempts=0)
    assert list(Follower(store, row)) == []


def test_the_end_of_the_supervisor_is_seen_by_its_descriptor(run: tuple[Store, RunRow]) -> None:
    store, row = run
    store.begin_attempt(row, 1)
    gone, held = os.pipe()
    follower = Follower(Store(store.home), row, gone=gone)
    got, thread = following(follower)
    write(store, row, 1, b"x\n")
    store.end(row, DONE, attempts=1)
    os.close(held)
    assert ended(thread)
    assert bytes(got) == b"x\n"
    assert follower._gone is None, "and the descriptor is closed"


def test_a_supervisor_that_dies_while_its_log_is_followed_gets_a_successor(
    tmp_path: Path, eventually: Callable[..., None]
) -> None:
    """Followed from another process, which has no descriptor of it: the lock alone tells."""
    store = Store(tmp_path / "home")
    _, folder = store.reserve("a")
    folder.code.mkdir()
    (folder.code / "a.sh").write_text("echo from the successor\n")
    row = store.accept("a", step=Step("s", ("a.sh",)), backend="process", image=None, image_name=None, experiment="e",
                       title="t", description="", tags={})  # fmt: skip
    lock = store.lock("a")
    assert lock is not None
    got, thread = following(Follower(Store(store.home), row))
    os.close(lock)
    assert ended(thread)
    assert bytes(got) == b"from the successor\n"
    assert store.get("a").status is Status.COMPLETED
    # It lives on for a moment, and its files are in the folder that the test removes.
    eventually(lambda: _free(store), "the successor is gone")
    store.close()


def _free(store: Store) -> bool:
    if (lock := store.lock("a")) is None:
        return False
    os.close(lock)
    return True
