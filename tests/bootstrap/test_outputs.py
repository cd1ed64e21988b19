"""Row 16 and --output: what the script wrote arrives, whatever its ending, and nothing from outside its folder does."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bootstrap.conftest import Run, Start


@pytest.fixture(params=["same", "other"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that is not there yet: on the script's filesystem (renamed) and on another one (copied)."""
    if request.param == "same":
        return tmp_path / "kept" / "outputs"
    mount: Callable[..., Path] = request.getfixturevalue("mount")
    return mount("disk", "-t", "tmpfs", "-o", "size=8m", "tmpfs") / "kept" / "outputs"


def tree(folder: Path) -> dict[str, str]:
    """Relative name → content; a link → its target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = "-> " + str(path.readlink())
        elif path.is_file():
            found[name] = path.read_text()
    return found


WRITE = "mkdir -p outputs/sub/empty; echo a > outputs/a; echo b > outputs/sub/b; chmod 755 outputs/a"


@pytest.mark.parametrize("ending", ["exit 0", "exit 3", "kill -9 $$"])
def test_outputs_arrive_whatever_the_ending(run: Run, mode: str, destination: Path, work: Path, ending: str) -> None:
    result = run("bash", "-c", f"{WRITE}; {ending}", options=["--output", f"outputs={destination}"], mode=mode)
    assert result.record["warnings"] == []
    assert result.record["reason"] == {"exit 0": "Completed", "exit 3": "NonZeroExit"}.get(ending, "Signaled")
    assert tree(destination) == {"a": "a\n", "sub/b": "b\n"}
    assert (destination / "sub/empty").is_dir()
    assert (destination / "a").stat().st_mode & 0o777 == 0o755
    assert tree(work / "outputs") == {}


def test_outputs_of_a_canceled_and_of_a_timed_out_script(start: Start, run: Run, mode: str, destination: Path) -> None:
    option = ["--output", f"outputs={destination}"]
    started = start("bash", "-c", "echo a > outputs/a; echo ready; sleep 60", options=option, mode=mode)
    assert started.process.stdout is not None
    assert started.process.stdout.readline() == b"ready\n"
    started.send(signal.SIGTERM)
    assert started.finish().record["reason"] == "Canceled"
    assert tree(destination) == {"a": "a\n"}
    late = run("bash", "-c", "echo b > outputs/b; sleep 60", options=[*option, "--timeout", "0.3"], mode=mode)
    assert late.record["reason"] == "Timeout"
    assert tree(destination) == {"a": "a\n", "b": "b\n"}


def test_what_leftovers_wrote_is_complete(run: Run, mode: str, destination: Path) -> None:
    """Outputs are saved after the last process of the script is gone."""
    left = "trap 'echo end >> outputs/log; exit' TERM; echo begin > outputs/log; while :; do sleep 0.05; done"
    script = 'bash -c "$0" & while [ ! -s outputs/log ]; do :; done'
    result = run("bash", "-c", script, left, options=["--output", f"outputs={destination}"], mode=mode)
    assert result.record["warnings"] == ["1 process was still running and was stopped"] or (
        result.record["warnings"] == ["2 processes were still running and were stopped"]
    )
    assert tree(destination) == {"log": "begin\nend\n"}


def test_several_and_nested_outputs(run: Run, tmp_path: Path) -> None:
    options = [
        part for name in ("outputs", "outputs/model", "x=y") for part in ("--output", f"{name}={tmp_path}/{name[-5:]}")
    ]
    script = "echo a > outputs/a; echo m > outputs/model/m; echo x > x=y/x"
    assert run("bash", "-c", script, options=options).record["reason"] == "Completed"
    assert tree(tmp_path / "tputs") == {"a": "a\n"}
    assert tree(tmp_path / "model") == {"m": "m\n"}
    assert tree(tmp_path / "x=y") == {"x": "x\n"}


def test_hostile_folder_names(run: Run, mode: str, tmp_path: Path, hostile: str) -> None:
    script = 'echo 1 > "./$0/file $0"'
    option = ["--output", f"{hostile}={tmp_path / hostile}"]
    assert run("bash", "-c", script, hostile, options=option, mode=mode).record["reason"] == "Completed"
    assert tree(tmp_path / hostile) == {f"file {hostile}": "1\n"}


def test_links(run: Run, mode: str, destination: Path, tmp_path: Path, work: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    script = f"""
        {WRITE}; cd outputs
        ln -s a inside; ln -s ../a sub/up; ln -s "$PWD/sub/b" absolute; ln -s sub folder; ln -s nowhere dangling
        ln -s {tmp_path}/private outside; ln -s ../../private/key sub/outside; ln -s outside/key twice
        ln -s .. parent; ln -s / root; mkfifo pipe
    """
    result = run("bash", "-c", script, options=["--output", f"outputs={destination}"], mode=mode)
    assert result.record["reason"] == "Completed"
    assert tree(destination) == {
        "a": "a\n",
        "sub/b": "b\n",
        "inside": "-> a",
        "sub/up": "-> ../a",
        "absolute": "-> sub/b",
        "folder": "-> sub",
        "dangling": "-> nowhere",
    }
    assert (destination / "absolute").read_text() == "b\n"
    left_out = sorted(warning.split()[1] for warning in result.record["warnings"])
    assert left_out == [f"outputs/{name}" for name in ("outside", "parent", "pipe", "root", "sub/outside", "twice")]
    assert (tmp_path / "private" / "key").read_text() == "secret"
    assert (tmp_path / "private").exists()


@pytest.mark.parametrize("code", [0, 4])
def test_row_16_the_folder_replaced_by_a_link(run: Run, mode: str, tmp_path: Path, code: int) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    script = f"rmdir outputs; ln -s {tmp_path}/private outputs; exit {code}"
    result = run("bash", "-c", script, options=["--output", f"outputs={tmp_path}/kept"], mode=mode)
    message = "outputs of outputs could not be saved: ELOOP"
    if code:
        assert result.row() == ("Failed", "NonZeroExit", 4, None, 4)
        assert result.record["warnings"][0].startswith(message)
    else:
        assert result.row() == ("Failed", "OutputError", 0, None, 125)
        assert result.record["message"].startswith(message)
        assert result.record["origin"] == "bootstrapper"
        assert result.stderr.decode() == f"runner: {result.record['message']}\n"
    assert not (tmp_path / "kept").exists()
    assert (tmp_path / "private" / "key").exists()


def test_a_folder_that_is_a_link_from_the_start(run: Run, work: Path, tmp_path: Path) -> None:
    (work / "outputs").symlink_to(tmp_path)
    result = run("touch", "ran", options=["--output", f"outputs={tmp_path}/kept"])
    assert result.row() == ("Failed", "BootstrapError", None, None, 125)
    assert "symbolic link" in result.record["message"]
    assert not (work / "ran").exists()


@pytest.mark.parametrize("code", [0, 4])
def test_row_16_read_only_destination(
    run: Run, mode: str, mount: Callable[..., Path], tmp_path: Path, code: int
) -> None:
    (tmp_path / "source").mkdir()
    locked = mount("locked", "--bind", "-o", "ro", str(tmp_path / "source"))
    options = ["--output", f"outputs={locked}"]
    result = run("bash", "-c", f"echo a > outputs/a; exit {code}", options=options, mode=mode)
    message = f"outputs of outputs could not be saved: EROFS (Read-only file system): {locked}"
    if code:
        assert result.row() == ("Failed", "NonZeroExit", 4, None, 4)
        assert result.record["warnings"][0].startswith(message)
    else:
        assert result.row() == ("Failed", "OutputError", 0, None, 125)
        assert result.record["message"].startswith(message)


def test_row_16_full_destination_keeps_what_fits(run: Run, mode: str, mount: Callable[..., Path]) -> None:
    small = mount("small", "-t", "tmpfs", "-o", "size=64k", "tmpfs")
    script = "echo a > outputs/a; head -c 1000000 /dev/zero > outputs/big; echo z > outputs/z"
    result = run("bash", "-c", script, options=["--output", f"outputs={small}/kept"], mode=mode)
    assert result.row() == ("Failed", "OutputError", 0, None, 125)
    assert "ENOSPC" in result.record["message"]


def test_read_only_outputs_folder_of_the_script(
    run: Run, mount: Callable[..., Path], work: Path, tmp_path: Path
) -> None:
    """The script's own failure to write is the script's failure."""
    (tmp_path / "source").mkdir()
    (work / "outputs").mkdir()
    inside = mount("work/ro", "--bind", "-o", "ro", str(tmp_path / "source"))
    result = run("bash", "-c", f"set -e; echo a > {inside}/a", options=["--output", f"outputs={tmp_path}/kept"])
    assert result.row() == ("Failed", "NonZeroExit", 1, None, 1)
    assert b"Read-only file system" in result.stderr


def test_existing_files_are_replaced_and_links_not_followed(run: Run, destination: Path, tmp_path: Path) -> None:
    (destination / "sub").mkdir(parents=True)
    (destination / "a").write_text("old")
    (destination / "kept").write_text("kept")
    (tmp_path / "private").write_text("secret")
    (destination / "sub" / "b").symlink_to(tmp_path / "private")
    assert run("bash", "-c", WRITE, options=["--output", f"outputs={destination}"]).record["reason"] == "Completed"
    assert tree(destination) == {"a": "a\n", "kept": "kept", "sub/b": "b\n"}
    assert (tmp_path / "private").read_text() == "secret"


def test_outputs_of_a_script_that_was_never_started(run: Run, tmp_path: Path, work: Path) -> None:
    result = run("gone.py", options=["--output", f"outputs={tmp_path}/kept"])
    assert result.row() == ("Failed", "ScriptNotFound", None, None, 127)


def test_protected_folders_are_moved_for_other_users_too(run: Run, work: Path, tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    if os.geteuid() != 0 or not Path(python).exists():
        pytest.skip("needs root to become somebody else, and a Python outside root's home")
    for folder in tmp_path.parents:
        if folder.parent != folder and folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    for folder in (tmp_path, work):
        folder.chmod(0o777)
    script = "mkdir -p outputs/d; echo b > outputs/d/b; chmod 555 outputs/d"
    options = ["--output", f"outputs={tmp_path}/kept"]
    result = run("bash", "-c", script, options=options, python=python, user=65534, group=65534, extra_groups=[])
    assert result.row() == ("Completed", "Completed", 0, None, 0)
    assert tree(tmp_path / "kept") == {"d/b": "b\n"}
