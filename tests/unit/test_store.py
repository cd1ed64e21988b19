"""The run store: what is written is found again, by many processes at once, and a kill leaves nothing half done."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import ConflictError, NotFoundError, StoreError
from runner.model import Outcome, Reason, Status, Step
from runner.store import RunRow, Store, aside, database, iso, open_up, places, remove_tree, write_aside
from runner.store.schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE = Outcome(Reason.COMPLETED, 0, exit_code=0, elapsed_s=1.5)
FAILED = Outcome(Reason.NON_ZERO_EXIT, 3, exit_code=3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "home")
    yield made
    made.close()


def add(store: Store, name: str, **values: Any) -> RunRow:
    store.reserve(name)
    defaults: dict[str, Any] = {
        "step": Step("s", ("a.py",)), "backend": "process", "image": None, "image_name": None, "experiment": "default",
        "title": "a.py", "description": "", "tags": {},
    }  # fmt: skip
    return store.accept(name, **{**defaults, **values})


# -- schema ---------------------------------------------------------------------------------------------------------


def test_the_home_is_for_its_owner_only(store: Store) -> None:
    add(store, "a")
    assert stat.S_IMODE(store.home.stat().st_mode) == 0o700
    assert stat.S_IMODE((store.home / "runner.db").stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder("a").root.stat().st_mode) == 0o700


def test_a_fresh_store_has_the_newest_schema_in_wal_mode(store: Store) -> None:
    assert store.list() == []
    with sqlite3.connect(store.home / "runner.db") as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    db.close()


def test_an_older_store_is_migrated_and_keeps_its_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "old")
    store.close()
    scripts = (*MIGRATIONS, "CREATE TABLE later (x TEXT); INSERT INTO later VALUES ('here')")
    monkeypatch.setattr(database, "MIGRATIONS", scripts)
    newer = Store(store.home)
    assert newer.get("old").name == "old"
    newer.close()
    db = sqlite3.connect(store.home / "runner.db")
    assert db.execute("SELECT x FROM later").fetchall() == [("here",)]
    assert db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS) + 1
    db.close()


def test_a_migration_that_fails_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "old")
    store.close()
    scripts = (*MIGRATIONS, "CREATE TABLE later (x TEXT); INSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr(database, "MIGRATIONS", scripts)
    with pytest.raises(StoreError, match="nowhere"):
        Store(store.home).list()
    monkeypatch.undo()
    assert [run.name for run in Store(store.home).list()] == ["old"]
    db = sqlite3.connect(store.home / "runner.db")
    assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'later'").fetchone()[0] == 0
    db.close()


def test_a_store_of_a_newer_runner_is_left_alone(store: Store) -> None:
    add(store, "a")
    store.close()
    db = sqlite3.connect(store.home / "runner.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer runner") as caught:
        Store(store.home).list()
    assert "RUNNER_HOME" in str(caught.value)


def test_a_damaged_store_says_what_to_do(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "runner.db").write_bytes(b"this is no database, and long enough to be read as one" * 20)
    with pytest.raises(StoreError, match="cannot be used") as caught:
        Store(home).list()
    assert "move runner.db away" in str(caught.value)


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used") as caught:
        Store(tmp_path / "file" / "home").list()
    assert "RUNNER_HOME" in str(caught.value)


# -- accepting ------------------------------------------------------------------------------------------------------


def test_what_is_accepted_is_found_again(store: Store) -> None:
    step = Step("train", ("train.py", "--rounds", "50"), env={"A": "1"}, secrets=("TOKEN",))
    run = add(
        store, "a", step=step, experiment="churn", tags={"k": "ü"}, image="sha256:1", image_name="r", description="d"
    )
    assert store.get("a") == run
    assert (run.step, run.status, run.tags, run.experiment) == (step, Status.QUEUED, {"k": "ü"}, "churn")
    assert store.has("a")
    assert not store.has("b")


def test_a_name_is_taken_once(store: Store) -> None:
    add(store, "a")
    with pytest.raises(ConflictError, match="'a' already") as caught:
        store.reserve("a")
    assert "runner delete a" in str(caught.value)


def test_fresh_names_avoid_taken_ones(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["one", "one", "two"])
    monkeypatch.setattr(places, "fresh_name", lambda: next(names))
    assert store.reserve(None)[0] == "one"
    assert store.reserve(None)[0] == "two"


_SUBMIT = """
import sys
from pathlib import Path
from runner.model import Step
from runner.store import Store
store = Store(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(5):
    name, folder = store.reserve(None)
    folder.code.mkdir()
    store.accept(name, step=Step("s", ("a.py",)), backend="process", image=None, image_name=None, experiment="e",
                 title="t", description="", tags={})
    print(name)
"""


def test_many_processes_accept_at_once_into_a_store_that_none_has_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _SUBMIT, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    names = [name for process in started for name in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in started] == [0] * 8
    store = Store(home)
    assert sorted(run.name for run in store.list()) == sorted(names)
    assert len(set(names)) == 40
    store.close()


def test_every_process_sees_the_same_id(store: Store) -> None:
    def own_id(_: int) -> str:
        other = Store(store.home)
        try:
            return other.id
        finally:
            other.close()

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(own_id, range(16)))
    assert ids == {store.id}


def test_discarding_leaves_nothing(store: Store) -> None:
    _, folder = store.reserve("a")
    (folder.root / "code").mkdir()
    store.discard("a")
    assert not folder.root.exists()
    store.reserve("a")


# -- finding --------------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_name_beginning_and_last(store: Store) -> None:
    for name in ("brave-otter-1", "brave-otter-12", "calm-fox-1", "a_b", "axb", "100%"):
        add(store, name)
    assert store.resolve("brave-otter-1").name == "brave-otter-1"
    assert store.resolve("calm").name == "calm-fox-1"
    assert store.resolve("@last").name == "100%"
    assert store.resolve("a_").name == "a_b"
    assert store.resolve("10").name == "100%"


def test_an_ambiguous_beginning_names_the_runs(store: Store) -> None:
    add(store, "brave-otter")
    add(store, "brave-fox")
    with pytest.raises(NotFoundError, match="more than one run: brave-fox, brave-otter"):
        store.resolve("brave")


def test_an_unknown_run_gets_the_nearest_name(store: Store) -> None:
    add(store, "brave-otter-7f3k")
    with pytest.raises(NotFoundError, match="no run named 'brave-oter-7f3k'") as caught:
        store.resolve("brave-oter-7f3k")
    assert "did you mean brave-otter-7f3k?" in str(caught.value)
    with pytest.raises(NotFoundError, match="no run named ''"):
        store.resolve("")


def test_last_of_nothing(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no runs yet"):
        store.resolve("@last")


def test_lists_are_newest_first_and_filtered(store: Store) -> None:
    for name, experiment in (("a", "x"), ("b", "y"), ("c", "x")):
        add(store, name, experiment=experiment)
    store.end(store.get("a"), FAILED, attempts=1)
    assert [run.name for run in store.list()] == ["c", "b", "a"]
    assert [run.name for run in store.list(limit=2)] == ["c", "b"]
    assert [run.name for run in store.list(experiment="x")] == ["c", "a"]
    assert [run.name for run in store.list(status=Status.FAILED, experiment="x")] == ["a"]
    assert [run.name for run in store.live()] == ["b", "c"]
    assert [(name, runs, failed) for name, runs, failed, _ in store.experiments()] == [("x", 2, 1), ("y", 1, 0)]


# -- life of a run --------------------------------------------------------------------------------------------------


def test_the_first_end_stands(store: Store) -> None:
    run = add(store, "a")
    store.set_status(run, Status.RUNNING, started=100.0)
    store.set_status(run, Status.RUNNING, started=200.0)
    store.end(run, DONE, attempts=1)
    store.end(run, FAILED, attempts=2)
    store.set_status(run, Status.RUNNING)
    found = store.get("a")
    assert (found.status, found.outcome, found.attempts, found.started) == (Status.COMPLETED, DONE, 1, 100.0)
    assert found.finished is not None


def test_cancel_is_recorded_once_and_only_while_it_lives(store: Store) -> None:
    run = add(store, "a")
    assert store.cancels(run) == {}
    assert store.request_cancel(run, "ada")
    assert store.request_cancel(run, "bob")
    assert store.cancels(run) == {"": "ada"}
    store.end(run, DONE, attempts=1)
    assert not store.request_cancel(run, "eve")


def test_attempts_keep_their_handle_and_outcome(store: Store) -> None:
    run = add(store, "a")
    store.begin_attempt(run, 1)
    store.set_handle(run, 1, "container-1")
    store.begin_attempt(run, 1)  # after a kill: the same again
    store.end_attempt(run, 1, FAILED)
    store.begin_attempt(run, 2)
    first, second = store.attempts(run)
    assert (first.number, first.handle, first.outcome) == (1, "container-1", FAILED)
    assert (second.number, second.handle, second.outcome) == (2, None, None)
    assert store.get("a").attempts == 2


def test_only_an_ended_run_is_deleted_and_then_wholly(store: Store) -> None:
    run = add(store, "a")
    store.begin_attempt(run, 1)
    with pytest.raises(ConflictError, match="has not ended") as caught:
        store.delete(run)
    assert "runner cancel a" in str(caught.value)
    store.end(run, DONE, attempts=1)
    store.delete(store.get("a"))
    assert not store.has("a")
    assert not store.folder("a").root.exists()
    assert store.attempts(run) == []


def test_strays_are_old_folders_without_a_run_that_nobody_fills(store: Store) -> None:
    add(store, "accepted")
    for name in ("old", "young", "busy"):
        store.reserve(name)
    (store.home / "runs" / "file").write_text("")
    busy = store.lock("busy")
    assert busy is not None
    for name in ("accepted", "old", "busy", "file"):
        os.utime(store.home / "runs" / name, (0, 0))
    assert sorted(path.name for path in store.strays()) == ["file", "old"]
    os.close(busy)
    assert Store(store.home / "nowhere").strays() == []


# -- locks ----------------------------------------------------------------------------------------------------------


def test_a_lock_is_held_once_and_freed_by_its_holder(store: Store) -> None:
    add(store, "a")
    first = store.lock("a")
    assert first is not None
    assert store.lock("a") is None
    assert Store(store.home).lock("a") is None
    os.close(first)
    second = store.lock("a")
    assert second is not None
    os.close(second)


def test_a_lock_goes_with_its_descriptor_to_another_process_and_dies_with_it(store: Store) -> None:
    add(store, "a")
    lock = store.lock("a")
    assert lock is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    os.close(lock)
    assert store.lock("a") is None, "handed over, not let go"
    child.kill()
    child.communicate()
    free = store.lock("a")
    assert free is not None
    os.close(free)


# -- facts, files, time ---------------------------------------------------------------------------------------------


def test_facts_are_remembered(store: Store) -> None:
    assert store.fact("x") is None
    store.remember("x", {"a": [1, None]})
    store.remember("x", "python3")
    assert store.fact("x") == "python3"
    assert len(store.id) == 16


def test_a_store_can_be_used_by_many_threads(store: Store) -> None:
    runs = [add(store, f"r{number}") for number in range(8)]

    def live_through(run: RunRow) -> Status:
        for number in (1, 2, 3):
            store.begin_attempt(run, number)
            store.set_handle(run, number, f"{run.name}-{number}")
            store.end_attempt(run, number, FAILED)
        store.end(run, DONE, attempts=3)
        return store.get(run.name).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(live_through, runs)) == {Status.COMPLETED}
    for run in runs:
        assert [attempt.handle for attempt in store.attempts(run)] == [f"{run.name}-{number}" for number in (1, 2, 3)]


_FORK = """
import os, sys
from pathlib import Path
from runner.model import Outcome, Reason
from runner.store import Store, close_all
store = Store(Path(sys.argv[1]))
run = store.get("a")
close_all()
if os.fork() == 0:
    store.end(run, Outcome(Reason.COMPLETED, 0), attempts=1)
    os._exit(0)
os.wait()
print(store.get("a").status)
"""


def test_a_fork_opens_aconnection_of_its_own(store: Store) -> None:
    add(store, "a")
    done = subprocess.run(
        [sys.executable, "-c", _FORK, str(store.home)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.split() == ["Completed"], done.stderr


def test_write_aside_shows_the_old_or_the_new_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_aside(path, b"old")
    write_aside(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_aside(tmp_path / "folder", b"x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "status.json"]


_AS_NOBODY = """
import os, sys
from pathlib import Path
from runner.store import remove_tree, open_up
os.setgid(65534); os.setuid(65534)  # after the imports: another user may not read the installation
root = Path(sys.argv[1])
for path in (root / "a" / "b", root / "a"):
    path.chmod(0)
open_up(root / "a")
print((root / "a" / "b" / "file").read_text())
for path in (root / "a" / "b", root / "a"):
    path.chmod(0)
remove_tree(root / "a")
print((root / "a").exists(), (root / "outside" / "kept").exists())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_folders_without_permissions_are_opened_and_removed(tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/") and path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o011)
    root = tmp_path / "tree"
    (root / "a" / "b").mkdir(parents=True)
    (root / "outside").mkdir()
    (root / "outside" / "kept").write_text("kept")
    (root / "a" / "link").symlink_to(root / "outside")
    (root / "a" / "b" / "file").write_text("content")
    (root / "a" / "b" / "file").chmod(0)
    for folder, names, files in os.walk(root):
        for name in (".", *names, *files):
            os.chown(Path(folder, name), 65534, 65534, follow_symlinks=False)
    package = str(Path(database.__file__).parent.parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(root)], env={**os.environ, "PYTHONPATH": package}, cwd="/",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["content", "False", "True"], done.stderr


def test_opening_and_removing_do_not_follow_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    (outside / "file").write_text("")
    (tmp_path / "link").symlink_to(outside)
    open_up(tmp_path / "link")
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    open_up(inside)
    remove_tree(inside)
    remove_tree(inside)
    assert not inside.exists()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500
    assert (outside / "file").exists()


def test_times_in_json_are_utc() -> None:
    assert iso(None) is None
    assert iso(0.1234) == "1970-01-01T00:00:00.123Z"


_HOLDING = """
import os, sys
from pathlib import Path
from runner.store import aside
with aside(Path(sys.argv[1])) as place:
    (place / "half").write_text("")
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_folder_aside_is_one_process_s_and_forgets_one_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDING, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"holds\n"

        def taken() -> list[Path]:
            with aside(tmp_path) as place:
                return list(place.iterdir())

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(taken)
            assert not waiting.done()
            assert list((tmp_path / "bringing").iterdir()), "the other's is not touched while that lives"
            other.kill()
            assert waiting.result(30) == []
    assert list(tmp_path.iterdir()) == []
