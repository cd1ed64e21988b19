"""What the script sees: its arguments, variables, inputs, working directory, HOME and stdin; and its code left alone."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.backends.base import Capabilities
    from tests.conftest import Cli
    from tests.contract.helpers import Api

_ARGUMENTS = [
    "", " ", "a b", "'", '"', "\\", "a\\nb", "a\nb", "\t", "$(touch pwned)", "`id`", "$HOME", "${HOME}", "*", "~", "--",
    "-x", "--wait", "--name", "a=b", ";ls", "|", "&&", "ü→😀", "{{x}}", "$", "#", "!", "%s", "x" * 100_000,
]  # fmt: skip
_HOSTILE = ["a 0.py", 'a"=0".py', "a'; echo foo.py", "ü→.py", "$(id).py", "a\nb.py", "-x.py", "%s.py", "a\\b.py"]

_DUMP = """
import json, os, sys
seen = {
    "argv": [os.fsencode(word).hex() for word in sys.argv[1:]],
    "cwd": os.getcwd(), "home": os.environ["HOME"], "env": dict(os.environ),
    "files": sorted(os.listdir(".")), "stdin": sys.stdin.read(),
}
with open("outputs/seen.json", "w") as file:
    json.dump(seen, file)
"""


def _seen(api: Api, name: str) -> dict[str, Any]:
    seen = json.loads((api.artifacts(name) / "outputs" / "seen.json").read_text())
    assert isinstance(seen, dict)
    return seen


def test_arguments_arrive_byte_for_byte(
    cli: Cli, api: Api, where: list[str], script: Callable[[str, str], Path]
) -> None:
    done = cli("submit", script("dump.py", _DUMP), *where, "--wait", "--name", "it", "--", *_ARGUMENTS)
    assert done.code == 0, done.err
    assert _seen(api, "it")["argv"] == [os.fsencode(argument).hex() for argument in _ARGUMENTS]
    shown = cli("show", "it", "--json")
    assert shown.code == 0, shown.err
    listed = cli("show", "it")
    assert listed.code == 0, listed.err


def test_an_argument_that_is_no_text_arrives_or_is_refused_but_is_never_changed(
    cli: Cli, api: Api, where: list[str], script: Callable[[str, str], Path]
) -> None:
    """An engine's API is JSON, and JSON is text."""
    done = cli("submit", script("dump.py", _DUMP), *where, "--wait", "--name", "it", "--", "\udcff\udcfe")
    if done.code == 0:
        assert _seen(api, "it")["argv"] == ["fffe"]
    else:
        assert "UTF-8" in done.err, done.err
        assert not (api.artifacts("it") / "outputs" / "seen.json").exists()


@pytest.mark.parametrize("name", _HOSTILE)
def test_a_script_of_any_name_runs(api: Api, work: Path, name: str) -> None:
    folder = work / "-d 'x\" $(id)"
    folder.mkdir()
    (folder / name).write_text("import sys\nprint('ran', sys.argv[1:])\n")
    row = api.run(folder / name, "one")
    assert row["reason"] == "Completed", row["message"]
    assert api.log(row["name"]) == b"ran ['one']\n"


def test_stdin_is_empty_and_nothing_hangs(api: Api, script: Callable[[str, str], Path]) -> None:
    row = api.run(script("ask.py", "input('name? ')\n"), timeout="20s")
    assert (row["reason"], row["exit_code"]) == ("NonZeroExit", 1)
    assert b"EOFError" in api.log(row["name"])
    row = api.run(script("read.sh", 'read -r x; echo "$? [$x]"; cat; echo done\n'), timeout="20s")
    assert row["exit_code"] == 0
    assert api.log(row["name"]) == b"1 []\ndone\n"


def test_variables(cli: Cli, api: Api, where: list[str], script: Callable[[str, str], Path]) -> None:
    values = {"PLAIN": "1", "EMPTY": "", "ODD": "a b'\"$(x)\\ü=;\n|", "LONG": "y" * 50_000, "PATHLIKE": "/a:/b"}
    options = [part for name, value in values.items() for part in ("--env", f"{name}={value}")]
    done = cli("submit", script("dump.py", _DUMP), *where, *options, "--experiment", "exp 1", "--name", "it", "--wait")
    assert done.code == 0, done.err
    env = _seen(api, "it")["env"]
    assert {name: env[name] for name in values} == values
    assert (env["RUNNER_RUN"], env["RUNNER_EXPERIMENT"], env["RUNNER_ATTEMPT"]) == ("it", "exp 1", "1")


def test_the_working_directory_is_a_writable_copy_of_the_code(
    api: Api, can: Capabilities, work: Path, script: Callable[[str, str], Path]
) -> None:
    script("data/in.txt", "shipped")
    (work / "link.txt").symlink_to("data/in.txt")
    text = (
        "import os\n"
        "print(open('data/in.txt').read(), open('link.txt').read(), os.access('data/run.sh', os.X_OK))\n"
        "open('data/in.txt', 'w').write('changed')\n"
        "open('new.txt', 'w').close(); os.mkdir('sub'); os.remove('write.py')\n"
        "home = os.environ['HOME']; open(home + '/.runner-contract-test', 'w').close()\n"
        "os.remove(home + '/.runner-contract-test')\n"
    )
    path = script("write.py", text)
    script("data/run.sh", "#!/bin/sh\n").chmod(0o755)
    before = _tree(work)
    row = api.run(path)
    assert row["reason"] == "Completed", (row["message"], api.log(row["name"]))
    assert api.log(row["name"]) == b"shipped shipped True\n"
    assert _tree(work) == before
    if not can.remote:  # where it is not seen from here
        assert any("new.txt" in warning for warning in row["warnings"])


def _tree(root: Path) -> dict[str, object]:
    """Names, modes, times and contents of everything below."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        found[str(path.relative_to(root))] = (status.st_mode, status.st_mtime_ns, content)
    return found


def test_a_read_only_code_folder_is_no_obstacle(api: Api, work: Path, script: Callable[[str, str], Path]) -> None:
    path = script("sub/write.py", "open('new', 'w').close()\nopen('write.py', 'a').close()\n")
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        row = api.run(path)
    finally:
        path.parent.chmod(0o755)
    assert row["reason"] == "Completed", api.log(row["name"])


def test_inputs_are_there_by_variable_and_by_expression(
    cli: Cli, api: Api, where: list[str], script: Callable[[str, str], Path], tmp_path: Path
) -> None:
    data = tmp_path / "data 'x"
    data.mkdir()
    (data / "a b.csv").write_text("1,2\n")
    text = (
        "import os, sys\n"
        "one, folder = os.environ['RUNNER_INPUT_ONE_FILE'], os.environ['RUNNER_INPUT_DATA']\n"
        "assert sys.argv[1:] == [one, '--dir=' + folder + '/sub'], sys.argv\n"
        "assert os.path.basename(one) == 'a b.csv', one\n"
        "with open(one) as file: print(file.read(), sorted(os.listdir(folder)))\n"
    )
    done = cli(
        "submit", script("read.py", text), *where, "--wait", "--input", f"one-file={data / 'a b.csv'}", "--input",
        f"data={data}", "--", "${{inputs.one-file}}", "--dir=${{ inputs.data }}/sub",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "1,2\n ['a b.csv']\n"), done.err


def test_inputs_cannot_be_written_to_where_the_backend_isolates(
    api: Api, can: Capabilities, script: Callable[[str, str], Path], tmp_path: Path
) -> None:
    if not can.isolates:
        pytest.skip("a plain process sees the inputs where they are")
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").write_text("1\n")
    data.chmod(0o777)
    (data / "a.csv").chmod(0o666)
    text = (
        "import os\n"
        "folder, one = os.environ['RUNNER_INPUT_DATA'], os.environ['RUNNER_INPUT_ONE']\n"
        "for path in (folder + '/a.csv', folder + '/new', one):\n"
        "    try: open(path, 'a').close()\n"
        "    except OSError as error: print(error.strerror)\n"
    )
    row = api.run(script("write.py", text), inputs={"data": str(data), "one": str(data / "a.csv")})
    assert api.log(row["name"]) == b"Read-only file system\n" * 3
    assert list(data.iterdir()) == [data / "a.csv"]


def test_an_expression_that_names_nothing_is_refused(
    cli: Cli, where: list[str], script: Callable[[str, str], Path]
) -> None:
    path = script("a.py", "")
    for argument in ("${{inputs.nope}}", "${{outputs.nope}}", "${{other.x}}"):
        done = cli("submit", path, *where, "--", argument)
        assert done.code == 3, done.err
        assert "nope" in done.err or "other.x" in done.err
    assert cli("list", "--json").json == []


def test_arguments_too_large_together_say_so(api: Api, script: Callable[[str, str], Path]) -> None:
    """Linux takes 128 KiB in one argument and about 2 MiB in all; the latter is only known when it is tried."""
    row = api.run(script("a.py", ""), *["x" * 120_000] * 30)
    assert row["status"] == "Failed"
    assert row["reason"] in {"ExecFailed", "StartFailed"}
    assert "rgument" in row["message"], row["message"]


def test_a_file_in_the_place_of_outputs_is_an_error_and_no_endless_wait(
    api: Api, cli: Cli, where: list[str], script: Callable[[str, str], Path]
) -> None:
    script("outputs", "a file")
    done = cli("submit", script("a.py", ""), *where, "--wait", timeout=60)
    assert done.code != 0
    assert "outputs" in done.err
    assert not [row for row in cli("list", "--json").json if row["status"] not in {"Failed", "Completed"}]
