"""The log of a pipeline: the lines of all steps, each with its prefix, and no other byte changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import Outcome, Reason, Status
from runner.plan import Plan
from runner.steplogs import Follower, Prefixer, read
from runner.store import RunRow, Store
from tests.plans import accept, bash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.store import Progress

DONE = Outcome(Reason.COMPLETED, 0)


@given(st.lists(st.sampled_from([b"", b"a", b"\n", b"bc\n", b"\xff\r", b"\n\n", b"x\0"]), max_size=12))
def test_every_line_gets_the_prefix_however_the_bytes_come(blocks: list[bytes]) -> None:
    prefixer = Prefixer("s")
    found = b"".join(prefixer.feed(block) for block in blocks) + prefixer.close()
    whole = b"".join(blocks)
    lines = whole.split(b"\n")
    expected = [b"[s] " + line + b"\n" for line in lines[:-1]] + ([b"[s] " + lines[-1] + b"\n"] if lines[-1] else [])
    assert found == b"".join(expected)


def test_a_line_without_an_end_is_not_kept_whole() -> None:
    prefixer, block = Prefixer("s"), b"x" * (1 << 18)
    pieces = [prefixer.feed(block) for _ in range(64)]
    pieces.append(prefixer.close())
    assert max(map(len, pieces)) < 2 << 20
    lines = b"".join(pieces).splitlines()
    assert len(lines) > 8
    assert b"".join(line.removeprefix(b"[s] ") for line in lines) == block * 64


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "home")
    yield store
    store.close()


@pytest.fixture
def run(store: Store) -> RunRow:
    return accept(store, Plan(tuple(bash(name, "true") for name in ("a", "b", "c", "d"))))[0]


def begin(store: Store, run: RunRow, path: str, text: bytes, number: int = 1) -> RunRow:
    row = store.child(run, path)
    store.begin_attempt(row, number)
    folder = store.folder(row.name).attempt(number)
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.log.write_bytes(text)
    return store.get(row.name)


def test_step_after_step_in_the_order_in_which_they_began(store: Store, run: RunRow) -> None:
    begin(store, run, "b", b"1\n2")
    begin(store, run, "a", b"3\n\n")
    assert b"".join(read(store, run)) == b"[b] 1\n[b] 2\n[a] 3\n[a] \n"
    assert b"".join(read(store, run, tail=3)) == b"[b] 2\n[a] 3\n[a] \n"
    assert b"".join(read(store, run, tail=1)) == b"[a] \n"
    assert b"".join(read(store, run, tail=0)) == b""


def test_a_follower_shows_all_attempts_and_steps_that_it_never_saw_running(store: Store, run: RunRow) -> None:
    first = begin(store, run, "a", b"one")
    told: list[tuple[list[str], list[str]]] = []

    def note(moving: list[Progress], ended: list[Progress]) -> None:
        told.append(([step.path for step in moving], [step.path for step in ended]))

    lines = iter(Follower(store, run, told=note))  # type: ignore[arg-type]
    assert next(lines) == b""
    begin(store, run, "a", b"two\n", 2)
    store.end(first, DONE, attempts=2)
    store.end(begin(store, run, "b", b"quick"), DONE, attempts=1)
    for path in ("c", "d"):
        store.end_steps(run, [(path, Outcome(Reason.UPSTREAM_FAILED, 125))])
    store.end(run, DONE, attempts=0)
    assert b"".join(lines) == b"[a] one\n[a] two\n[b] quick\n"
    assert sorted(path for _, ended in told for path in ended) == ["a", "b", "c", "d"]


def test_with_tail_what_has_ended_is_left_out(store: Store, run: RunRow) -> None:
    store.end(begin(store, run, "a", b"old\n"), DONE, attempts=1)
    row = begin(store, run, "b", b"1\n2\n3\n")
    lines = iter(Follower(store, run, tail=2))
    assert next(lines) == b"[b] 2\n[b] 3\n"
    store.end(row, DONE, attempts=1)
    store.end(begin(store, run, "c", b"new\n"), DONE, attempts=1)
    store.end(run, DONE, attempts=0)
    assert b"".join(lines) == b"[c] new\n"


def test_no_file_of_an_ended_step_is_held_open(store: Store) -> None:
    plan = Plan(tuple(bash(f"s{number}", "true") for number in range(300)))
    run, _ = accept(store, plan)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for each in plan.steps:
        store.end(begin(store, run, each.name, b"x\n"), DONE, attempts=1)
    store.end(run, DONE, attempts=0)
    most = 0
    for _ in Follower(store, run):
        most = max(most, len(list(Path("/proc/self/fd").iterdir())))
    assert most <= before + 3
    assert store.counts(run) == {Status.COMPLETED: 300}
