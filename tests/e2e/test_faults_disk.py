"""A run store on a full, read-only, damaged or newer disk: clear errors, nothing half, and the truth once there is room."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cli, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MIB = 1 << 20

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(path)], check=True)
    yield path
    eventually(lambda: subprocess.run(["umount", str(path)], check=False, capture_output=True).returncode == 0,
               "nothing holds the file system")  # fmt: skip


@pytest.fixture
def home(small: Path) -> Iterator[Path]:
    """The run store, on the small disk. Whatever happens, every run must end once there is room."""
    path = small / "home"
    yield path
    subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
    if (path / "runner.db").exists():
        from runner.run import Run
        from runner.store import Store

        store = Store(path)
        for row in store.live():
            Run(store, row.name).cancel("test")
        for row in store.live():
            Run(store, row.name).wait(60)
        store.close()


def _fill(folder: Path, leave: int) -> Path:
    """Take all room but `leave` bytes."""
    path = folder / "ballast"

    def filled() -> bool:
        status = os.statvfs(folder)
        try:
            os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - leave)
        except OSError:  # the run wrote something between the two calls
            return False
        return True

    with path.open("wb") as file:
        eventually(filled, "the disk is full")
    return path


def test_submit_on_a_full_disk_is_refused_and_leaves_nothing(
    cli: Cli, where: list[str], small: Path, script: Callable[[str, str], Path]
) -> None:
    path = script("a.py", "print(1)\n")
    (path.parent / "large").write_bytes(b"x" * (20 * _MIB))
    done = cli("submit", path, *where, "--name", "it")
    assert done.code == 12, done.err
    assert "No space left" in done.err
    assert "free some space" in done.err
    assert cli("list", "--json").json == []
    assert list((cli.home / "runs").iterdir()) == []
    (path.parent / "large").unlink()
    assert cli("submit", path, *where, "--name", "it", "--wait").code == 0


def test_a_store_without_any_room_says_so(
    cli: Cli, where: list[str], small: Path, script: Callable[[str, str], Path]
) -> None:
    path = script("a.py", "print(1)\n")
    _fill(small, 0)
    done = cli("submit", path, *where)
    assert done.code == 12, done.err
    assert "Traceback" not in done.err
    (small / "ballast").unlink()
    assert cli("submit", path, *where, "--wait").code == 0


def test_a_log_that_fills_the_disk_ends_with_the_truth_once_there_is_room(
    cli: Cli, where: list[str], small: Path, script: Callable[[str, str], Path]
) -> None:
    """Where the script writes the log itself it sees the full disk and says so; elsewhere it never knows."""
    text = (
        "import os, sys\n"
        "done = 0\n"
        "try:\n"
        "    while done < 30 << 20: done += os.write(1, b'x' * 65535 + b'\\n')\n"
        "except OSError as error: sys.exit(9)\n"
        "sys.exit(3)\n"
    )
    name = cli.submit(script("loud.py", text), *where)
    log = cli.home / "runs" / name / "attempts" / "1" / "log"
    status = os.statvfs(small)
    eventually(lambda: os.statvfs(small).f_bavail * status.f_frsize < 65536, "the disk is full")
    subprocess.run(["mount", "-o", "remount,size=100m", str(small)], check=True)
    done = cli("wait", name, "--json", timeout=60)
    (row,) = done.json
    assert row["reason"] == "NonZeroExit", row["message"]
    assert row["exit_code"] in {3, 9}
    assert done.code == row["exit_code"]
    if row["exit_code"] == 3:
        assert log.stat().st_size == 30 * _MIB
    block = b"x" * 65535 + b"\n"
    content = log.read_bytes()
    assert content == (block * 500)[: len(content)]


def test_a_disk_that_is_full_at_the_end_delays_the_truth_and_does_not_change_it(
    cli: Cli, where: list[str], small: Path, script: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """Full from the middle of the run on: nothing is recorded until there is room, and then the truth."""
    gate = tmp_path / "gate"
    gate.mkdir()
    text = "import os, sys, time\nprint('began', flush=True)\n"
    text += "while not os.path.exists(os.environ['RUNNER_INPUT_GATE'] + '/go'): time.sleep(0.01)\nsys.exit(5)\n"
    name = cli.submit(script("a.py", text), *where, "--input", f"gate={gate}")
    log = cli.home / "runs" / name / "attempts" / "1" / "log"
    eventually(lambda: log.exists() and log.read_bytes() == b"began\n", "the script runs")
    ballast = _fill(small, 0)
    (gate / "go").touch()
    record = cli.home / "runs" / name / "attempts" / "1" / "box" / "record" / "status.json"
    eventually(lambda: not record.exists() or b'"final": true' in record.read_bytes(), "the script has ended")
    ballast.unlink()
    (row,) = cli("wait", name, "--json", timeout=60).json
    assert (row["reason"], row["exit_code"]) == ("NonZeroExit", 5)


# -- a store that cannot be used --------------------------------------------------------------------------------------


def _all_commands(cli: Cli, where: list[str], script: Path) -> Iterator[tuple[int, str]]:
    for command in (["submit", str(script), *where], ["list"], ["status", "@last"], ["logs", "@last"], ["prune"]):
        done = cli(*command)
        yield done.code, done.err


def test_a_read_only_store(cli: Cli, where: list[str], small: Path, script: Callable[[str, str], Path]) -> None:
    path = script("a.py", "print(1)\n")
    assert cli("submit", path, *where, "--wait", "--name", "it").code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    try:
        done = cli("submit", path, *where)
        listed = cli("list")
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    assert done.code == 12, done.err
    assert "RUNNER_HOME" in done.err
    assert (listed.code, "it" in listed.out) in {(0, True), (12, False)}, listed.err
    assert "Traceback" not in done.err + listed.err


def test_a_store_that_cannot_be_made(
    cli: Cli, where: list[str], small: Path, script: Callable[[str, str], Path]
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    try:
        for code, err in _all_commands(cli, where, script("a.py", "")):
            assert code == 12, err
            assert "Read-only file system" in err
            assert "RUNNER_HOME" in err
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)


def test_a_damaged_database(cli: Cli, where: list[str], script: Callable[[str, str], Path]) -> None:
    path = script("a.py", "print(1)\n")
    assert cli("submit", path, *where, "--wait").code == 0
    for name in ("runner.db-wal", "runner.db-shm"):
        (cli.home / name).unlink(missing_ok=True)
    (cli.home / "runner.db").write_bytes(b"this is no database" * 1000)
    for code, err in _all_commands(cli, where, path):
        assert code == 12, err
        assert "damaged" in err
        assert "runner.db" in err
    (cli.home / "runner.db").rename(cli.home / "runner.db.away")
    assert cli("submit", path, *where, "--wait").code == 0  # what the message advises works


def test_a_store_of_a_newer_runner(cli: Cli, where: list[str], script: Callable[[str, str], Path]) -> None:
    path = script("a.py", "print(1)\n")
    assert cli("submit", path, *where, "--wait", "--name", "it").code == 0
    db = sqlite3.connect(cli.home / "runner.db")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.execute("PRAGMA user_version = 999")
    db.close()
    for code, err in _all_commands(cli, where, path):
        assert code == 12, err
        assert "newer runner" in err
    db = sqlite3.connect(cli.home / "runner.db")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    assert [row["name"] for row in cli("list", "--json").json] == ["it"]


def test_a_run_whose_folder_was_deleted_by_hand_blocks_nothing(
    cli: Cli, where: list[str], script: Callable[[str, str], Path]
) -> None:
    import shutil
    import signal

    from tests.contract.helpers import supervisors

    path = script("a.py", "import time\ntime.sleep(2)\n")
    name = cli.submit(path, *where)
    for pid in supervisors(cli.home, name):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not supervisors(cli.home, name), "the supervisor is gone")
    shutil.rmtree(cli.home / "runs" / name)
    done = cli("list", "--json")
    assert done.code == 0, done.err
    (row,) = cli("wait", name, "--json").json
    assert row["status"] == "Failed"
    assert "gone" in row["message"]
    assert cli("prune").code == 0
