"""What the script leaves: collected whatever its end, never through a link, and owned by the caller."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.backends.base import Capabilities
    from tests.conftest import Cli
    from tests.contract.helpers import Api

_WRITE = (
    "import os, sys, time\n"
    "os.makedirs('outputs/deep', exist_ok=True)\n"
    "open('outputs/a.txt', 'w').write('a'); open('outputs/deep/b.txt', 'w').write('b')\n"
    "open('logs/run.log', 'w').write('log')\n"
    "if sys.argv[1] == 'sleep':\n"
    "    print('ready', flush=True); time.sleep(300)\n"
    "sys.exit(int(sys.argv[1]))\n"
)
_LEFT = [("logs/run.log", 3), ("outputs/a.txt", 1), ("outputs/deep/b.txt", 1)]


def _outputs(cli: Cli, name: str) -> list[tuple[str, int]]:
    return [(one["path"], one["bytes"]) for one in cli.row(name)["outputs"]]


@pytest.mark.parametrize("code", [0, 1])
def test_outputs_and_logs_are_collected_of_failed_runs_too(
    cli: Cli, api: Api, script: Callable[[str, str], Path], code: int, tmp_path: Path
) -> None:
    name = api.run(script("write.py", _WRITE), str(code))["name"]
    assert _outputs(cli, name) == _LEFT
    target = tmp_path / "to"
    done = cli("download", name, "--to", target)
    assert done.code == 0, done.err
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()) == [
        path for path, _ in _LEFT
    ]
    assert (target / "outputs" / "deep" / "b.txt").read_text() == "b"


def test_outputs_are_collected_of_canceled_and_timed_out_runs(
    cli: Cli, api: Api, script: Callable[[str, str], Path]
) -> None:
    path = script("write.py", _WRITE)
    name = api.submit(path, "sleep")
    eventually(lambda: b"ready" in api.log(name), "the script has started")
    cli("cancel", name)
    assert api.ended(name)["reason"] == "Canceled"
    assert _outputs(cli, name) == _LEFT
    row = api.run(path, "sleep", timeout="2s")
    assert row["reason"] == "Timeout"
    assert _outputs(cli, row["name"]) == _LEFT


def test_named_outputs_with_and_without_a_folder(
    cli: Cli, api: Api, can: Capabilities, where: list[str], script: Callable[[str, str], Path], tmp_path: Path
) -> None:
    text = (
        "import os, sys\n"
        "model, table = os.environ['RUNNER_OUTPUT_THE_MODEL'], os.environ['RUNNER_OUTPUT_TABLE']\n"
        "assert sys.argv[1:] == [model, table + '/t.csv'], sys.argv\n"
        "assert os.path.samefile(table, 'results/final')\n"
        "open(model + '/m.bin', 'wb').write(bytes(1000)); open(table + '/t.csv', 'w').write('1')\n"
        "open('results/beside.txt', 'w').close()\n"
    )
    done = cli(
        "submit", script("train.py", text), *where, "--wait", "--name", "it", "--output", "the-model", "--output",
        "table=results/final", "--", "${{outputs.the-model}}", "${{outputs.table}}/t.csv",
    )  # fmt: skip
    assert done.code == 0, done.err + done.out
    assert _outputs(cli, "it") == [("table/t.csv", 1), ("the-model/m.bin", 1000)]
    assert api.row("it")["warnings"] == ["written outside ./outputs and not kept: results/beside.txt"]
    one = cli("download", "it", "--output", "table", "--to", tmp_path / "t", "--json").json
    assert one["files"] == ["t.csv"]
    assert cli("download", "it", "--output", "nope", "--to", tmp_path / "n").code == 4


def test_named_outputs_of_a_failed_run_are_collected(cli: Cli, api: Api, script: Callable[[str, str], Path]) -> None:
    text = "import os, sys\nopen('res/x', 'w').close()\nopen(os.environ['RUNNER_OUTPUT_B'] + '/y', 'w').close()\n"
    text += "sys.exit(4)\n"
    row = api.run(script("fail.py", text), outputs={"a": "res", "b": None})
    assert row["exit_code"] == 4
    assert [path for path, _ in _outputs(cli, row["name"])] == ["a/x", "b/y"]


def test_links_that_lead_out_and_special_files_are_left_out_with_a_warning(
    cli: Cli, api: Api, can: Capabilities, script: Callable[[str, str], Path], tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("precious")
    text = (
        "import os\n"
        "open('outputs/real', 'w').write('r'); os.mkdir('outputs/sub')\n"
        "os.symlink('real', 'outputs/inside'); os.symlink('../real', 'outputs/sub/up')\n"
        "os.symlink('/etc/passwd', 'outputs/absolute'); os.symlink('../../../../../etc', 'outputs/relative')\n"
        "os.symlink('..', 'outputs/sub2'); os.mkfifo('outputs/fifo'); os.symlink('../logs/x', 'outputs/other')\n"
        "os.symlink('/etc', 'res/etc'); open('res/kept', 'w').close()\n"
    )
    row = api.run(script("links.py", text), outputs={"named": "res"})
    assert row["reason"] == "Completed", api.log(row["name"])
    left = [path for path, _ in _outputs(cli, row["name"])]
    assert left == ["named/kept", "outputs/inside", "outputs/real", "outputs/sub/up"]
    words = " ".join(row["warnings"])
    # Of ./outputs a service elsewhere takes what it takes, and tells nothing.
    for name in ("etc",) if can.remote else ("absolute", "relative", "sub2", "fifo", "other", "etc"):
        assert name in words
    target = tmp_path / "to"
    assert cli("download", row["name"], "--to", target).code == 0
    assert (target / "outputs" / "sub" / "up").read_text() == "r"
    assert not [path for path in target.rglob("*") if path.is_symlink() and not path.resolve().is_relative_to(target)]


@pytest.mark.parametrize("place", ["work", "outputs", "record", "work/outputs", "work/res", "work/logs"])
def test_a_link_in_the_place_of_a_folder_of_the_box_reaches_nothing(
    cli: Cli, api: Api, script: Callable[[str, str], Path], tmp_path: Path, place: str
) -> None:
    """The script owns its box; whoever collects has other rights and must not be led anywhere by it."""
    victim = tmp_path / "victim"
    for name in ("outputs", "logs", "named", "res", "other"):
        (victim / name).mkdir(parents=True)
        (victim / name / "file").write_text("precious")
    (victim / "status.json").write_text('{"precious": 1}')
    text = (
        "import os, shutil, sys\n"
        "box = os.path.dirname(os.path.abspath('.'))\n"
        "place = os.path.join(box, sys.argv[1])\n"
        "os.chdir('/')\n"
        "os.rename(place, place + '.away')\n"
        "os.symlink(os.environ.get('TARGET'), place)\n"
    )
    before = sorted(str(path) for path in victim.rglob("*"))
    row = api.run(script("swap.py", text), place, outputs={"named": "res", "other": None}, env={"TARGET": str(victim)})
    assert row["status"] in {"Completed", "Failed"}
    assert sorted(str(path) for path in victim.rglob("*")) == before
    left = api.attempt(row["name"])
    assert not [path for path in left.rglob("*") if path.is_file() and b"precious" in path.read_bytes()]


def test_outputs_belong_to_the_caller(cli: Cli, api: Api, script: Callable[[str, str], Path]) -> None:
    text = (
        "import os\n"
        "os.mkdir('outputs/closed'); open('outputs/closed/x', 'w').close()\n"
        "os.chmod('outputs/closed/x', 0o400); os.chmod('outputs/closed', 0o500)\n"
    )
    row = api.run(script("close.py", text))
    assert [path for path, _ in _outputs(cli, row["name"])] == ["outputs/closed/x"]
    for path in (api.home / "runs" / row["name"]).rglob("*"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (os.getuid(), os.getgid()), path
    assert cli("delete", row["name"]).code == 0
    assert not (api.home / "runs" / row["name"]).exists()


def test_hostile_names_in_outputs(
    cli: Cli, api: Api, can: Capabilities, script: Callable[[str, str], Path], tmp_path: Path
) -> None:
    text = (
        "import os\n"
        "names = [b'a 0', b'a\"=0\"', b\"a'; echo foo\", 'ü→'.encode(), b'-rf', b'a\\nb', b'\\xff\\xfe', b'\\x1b[31m']\n"
        "for name in names:\n"
        "    open(b'outputs/' + name, 'w').close()\n"
        "    os.makedirs(b'outputs/d/' + name)\n"
        "    open(b'outputs/d/' + name + b'/' + name, 'w').close()\n"
    )
    row = api.run(script("names.py", text))
    assert row["reason"] == "Completed"
    shown = cli("show", row["name"], "--json")
    assert shown.code == 0, shown.err
    kept = 5 if can.remote else 8  # a service elsewhere keeps names that are text on one line
    assert len(shown.json["outputs"]) == 2 * kept
    for command in (("show", row["name"]), ("download", row["name"], "--to", tmp_path / "to")):
        done = cli(*command)
        assert done.code == 0, done.err
    assert len(list((tmp_path / "to" / "outputs").iterdir())) == kept + 1


def test_nothing_of_the_box_is_left(api: Api, script: Callable[[str, str], Path]) -> None:
    name = api.run(script("write.py", "print(1)\n" + _WRITE), "0")["name"]
    assert sorted(path.name for path in api.attempt(name).iterdir()) == ["artifacts", "log", "log.index", "status.json"]
