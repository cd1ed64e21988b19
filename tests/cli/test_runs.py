"""The commands on runs, as a user reads them."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import NO_ENGINE, PROCESS, Terminal, failed
from tests.conftest import ROOT, eventually
from tests.contract.helpers import holders

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli

    Script = Callable[[str, str], Path]


def submit(cli: Cli, name: str, script: str, *args: str, code: int = 0) -> str:
    done = cli("submit", script, *PROCESS, "--wait", "--name", name, *args)
    assert done.code == code, done.err
    return name


@pytest.fixture
def lines(cli: Cli, script: Script) -> str:
    script("lines.sh", "for i in 1 2 3 4 5; do echo line $i; done; printf last")
    return submit(cli, "lines", "lines.sh")


@pytest.fixture
def forever(cli: Cli, script: Script) -> str:
    """A run that goes on until it is canceled; it has begun."""
    script("forever.sh", "echo begun; exec tail -f /dev/null")
    cli.submit("forever.sh", *PROCESS, "--name", "forever")
    following = cli.start("logs", "-f", "forever")
    assert following.stdout is not None
    assert following.stdout.readline() == b"begun\n"
    following.kill()
    following.communicate()
    return "forever"


# -- unknown runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["logs", "status", "wait", "show", "cancel", "download", "delete"])
def test_an_unknown_run(cli: Cli, lines: str, command: str) -> None:
    failed(cli(command, "linse"), 4, "no run named 'linse'", "did you mean lines?", "see them: runner list")


def test_last_beginnings_and_none_yet(cli: Cli, hello: str) -> None:
    failed(cli("show", "@last"), 4, "no runs yet", "runner submit SCRIPT")
    submit(cli, "brave-otter", hello)
    submit(cli, "brave-fox", hello)
    assert cli("status", "@last").out == "brave-fox  Completed\n"
    assert cli("status", "brave-o").out == "brave-otter  Completed\n"
    failed(cli("status", "brave"), 4, "more than one run: brave-fox, brave-otter", "type more of it")
    failed(cli("status", ""), 4, "no run named ''")


# -- logs -----------------------------------------------------------------------------------------------------------

WHOLE = "line 1\nline 2\nline 3\nline 4\nline 5\nlast"


def test_logs_are_byte_for_byte(cli: Cli, lines: str) -> None:
    assert cli("logs", lines).out == WHOLE
    assert cli("logs", lines, "--follow").out == WHOLE
    assert cli("logs", lines, "--tail", "2").out == "line 5\nlast"
    assert cli("logs", lines, "--tail", "0").out == ""
    assert cli("logs", lines, "--tail", "99").out == WHOLE
    assert cli("logs", lines, "-f", "--tail", "1").out == "last"
    assert cli("logs", lines).err == ""


def test_logs_since(cli: Cli, lines: str) -> None:
    assert cli("logs", lines, "--since", "10m").out == WHOLE
    later = datetime.now(UTC) + timedelta(hours=1)
    assert cli("logs", lines, "--since", later.isoformat()).out == ""
    assert cli("logs", lines, "--since", "2020-01-01T00:00").out == WHOLE
    failed(
        cli("logs", lines, "--since", "yesterday"), 3, "--since: 'yesterday' is not a time", "10m", "2026-06-01T12:00"
    )


def test_logs_of_an_attempt(cli: Cli, script: Script) -> None:
    script("fail.sh", "echo attempt $RUNNER_ATTEMPT; exit 1")
    submit(cli, "n", "fail.sh", "--retries", "1", "--retry-on", "NonZeroExit", code=1)
    assert cli("logs", "n").out == "attempt 2\n"
    assert cli("logs", "n", "--attempt", "1").out == "attempt 1\n"
    assert cli("logs", "n", "--follow").out == "attempt 1\nattempt 2\n"
    assert cli("logs", "n", "--follow", "--attempt", "1").out == "attempt 1\n"
    failed(cli("logs", "n", "--attempt", "3"), 4, "n has no attempt 3", "it has 2")
    failed(cli("logs", "n", "--attempt", "0"), 2, "'--attempt'")
    failed(cli("logs", "n", "--tail", "-1"), 2, "'--tail'")


def test_a_reader_that_has_seen_enough(cli: Cli, script: Script) -> None:
    script("many.py", "print('x' * 99 + '\\n', end='', flush=True)\nprint(('y' * 99 + '\\n') * 20000)")
    submit(cli, "n", "many.py")
    for argv in (["logs", "n"], ["logs", "-f", "n"]):
        reading = cli.start(*argv)
        assert reading.stdout is not None
        assert reading.stdout.readline() == b"x" * 99 + b"\n"
        reading.stdout.close()
        assert reading.stderr is not None
        with reading.stderr:
            assert reading.stderr.read() == b""
        assert reading.wait(60) == 141


@pytest.mark.parametrize("argv", [["list"], ["show", "lines"], ["--help"], ["list", "--json"]])
def test_a_reader_that_is_gone(cli: Cli, lines: str, argv: list[str]) -> None:
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    assert reader.stdin is not None
    with reader.stdin:
        command = cli.start(*argv, stdout=reader.stdin)
        _, err = command.communicate(timeout=60)
    assert err == b""
    assert command.returncode == 141


def test_ctrl_c_while_following(cli: Cli, forever: str, terminal: Callable[..., Terminal]) -> None:
    following = terminal("logs", "-f", forever)
    following.expect(b"begun")
    following.send(b"\x03")
    assert following.wait() == 130
    assert b"forever goes on." in following.shown
    assert b"Traceback" not in following.shown
    waiting = terminal("wait", forever)
    # Sent at once, it would meet the interpreter's own start, which answers in its own words.
    eventually(lambda: waiting.process.pid in holders(cli.home / "runner.db"), "it has read which run that is")
    waiting.send(b"\x03")
    assert waiting.wait() == 130, waiting.shown
    assert b"Traceback" not in waiting.shown
    assert cli("status", forever).out == "forever  Running\n"


# -- status, wait, show ---------------------------------------------------------------------------------------------


def test_status_is_one_line(cli: Cli, script: Script) -> None:
    script("fail.sh", "exit 3")
    submit(cli, "n", "fail.sh", code=3)
    assert cli("status", "n").out == "n  Failed · NonZeroExit  script exited with code 3\n"
    assert cli("status", "n", "--json").json["exit_code"] == 3


def test_wait_exits_as_the_first_that_did_not_end_with_0(cli: Cli, script: Script) -> None:
    script("code.sh", "exit $1")
    for name, code in (("ok", 0), ("seven", 7), ("nine", 9)):
        cli.submit("code.sh", *PROCESS, "--name", name, "--", str(code))
    done = cli("wait", "ok", "nine", "seven")
    assert done.code == 9
    assert done.out.splitlines() == [
        "ok  Completed", "nine  Failed · NonZeroExit  script exited with code 9",
        "seven  Failed · NonZeroExit  script exited with code 7",
    ]  # fmt: skip
    assert cli("wait", "ok").code == 0
    found = cli("wait", "seven", "ok", "--json")
    assert found.code == 7
    assert [run["name"] for run in found.json] == ["seven", "ok"]
    failed(cli("wait"), 2, "missing argument 'RUN...'")


def test_show_says_how_it_ended_and_what_to_do(cli: Cli, script: Script) -> None:
    script("fail.py", "print('epoch 3')\nimport os\nopen('outputs/m.rds', 'w').write('x')\nraise SystemExit('no data')")
    submit(cli, "n", "fail.py", "--description", "first try", "--tag", "a=b", "--", "--rounds", "5", code=1)
    shown = cli("show", "n").out
    first, *rest = shown.splitlines()
    assert re.match(r"n   Failed · NonZeroExit   fail\.py   process   \d+\.\d s", first)
    for line in (
        "  script exited with code 1", "  last lines:", "    epoch 3", "    no data", "  log: runner logs n",
        "  command     fail.py --rounds 5", "  description first try", "  tags        a=b",
        "  output      outputs/m.rds  1 B",
    ):  # fmt: skip
        assert line in rest, shown


def test_show_quotes_words_as_a_shell_wants_them(cli: Cli, lines: str) -> None:
    submit(cli, "n", "lines.sh", "--", "a b", "", "$x")
    assert "  command     lines.sh 'a b' '' '$x'" in cli("show", "n").out.splitlines()


def test_show_of_a_run_that_never_started(cli: Cli, script: Script) -> None:
    script("x.unknown", "")
    submit(cli, "n", "x.unknown", code=126)
    shown = cli("show", "n").out
    assert "Failed · UnsupportedScript" in shown
    assert cli.row("n")["outputs"] == []
    failed(cli("download", "n", "--output", "model"), 4, "has no output 'model'")


def test_show_of_a_success_is_short(cli: Cli, lines: str) -> None:
    shown = cli("show", lines).out
    assert shown.startswith("lines   Completed   lines.sh   process   ")
    assert "last lines" not in shown
    assert "try:" not in shown


# -- list, experiments ----------------------------------------------------------------------------------------------


def test_lists(cli: Cli, script: Script, hello: str) -> None:
    nothing = cli("list")
    assert (nothing.code, nothing.out) == (0, "")
    assert "no runs yet; start one: runner submit SCRIPT" in nothing.err
    assert cli("list", "--json").json == []
    assert "no experiments yet" in cli("experiments").err
    script("fail.sh", "exit 3")
    submit(cli, "a", hello, "--experiment", "x")
    submit(cli, "b", "fail.sh", "--experiment", "y", code=3)
    submit(cli, "c", hello, "--experiment", "x")
    table = cli("list").out.splitlines()
    assert table[0].split() == ["NAME", "STATUS", "SCRIPT", "BACKEND", "EXPERIMENT", "CREATED", "TOOK"]
    assert [line.split()[0] for line in table[1:]] == ["c", "b", "a"]
    assert all(line == line.rstrip() for line in table)
    for options, names in (
        (["--limit", "1"], ["c"]),
        (["--status", "failed"], ["b"]),
        (["--status", "Completed", "--experiment", "x"], ["c", "a"]),
        (["--experiment", "none"], []),
    ):
        assert [run["name"] for run in cli("list", "--json", *options).json] == names
    assert "no runs" in cli("list", "--status", "Running").err
    failed(cli("list", "--status", "Exploded"), 2, "'Exploded' is not a status", "Running", "Failed")
    failed(cli("list", "--limit", "0"), 2, "'--limit'")
    assert cli("experiments").out.splitlines()[1].split()[:3] == ["x", "2", "0"]
    assert [(one["name"], one["runs"], one["failed"]) for one in cli("experiments", "--json").json] == [
        ("x", 2, 0), ("y", 1, 1),
    ]  # fmt: skip


# -- cancel, delete, prune ------------------------------------------------------------------------------------------


def test_cancel(cli: Cli, forever: str) -> None:
    failed(cli("delete", forever), 5, "forever has not ended", "runner cancel forever")
    failed(cli("download", forever), 5, "forever has not ended", "runner wait forever")
    asked = cli("cancel", forever)
    assert asked.code == 0
    assert asked.out == "forever  asked to end (grace 10 s).  see: runner wait forever\n"
    assert cli("wait", forever).code == 143
    row = cli.row(forever)
    assert (row["status"], row["reason"], row["signal"], row["exit_code"]) == ("Canceled", "Canceled", "SIGTERM", None)
    again = cli("cancel", forever)
    assert (again.code, again.out) == (0, "forever  had ended already: Canceled\n")
    assert cli("cancel", forever, "--json").json["status"] == "Canceled"
    assert cli("delete", forever).out == "forever  deleted\n"


def test_delete_removes_all_or_nothing(cli: Cli, hello: str, home: Path) -> None:
    submit(cli, "a", hello)
    submit(cli, "b", hello)
    failed(cli("delete", "a", "nope"), 4, "no run named 'nope'")
    assert len(cli("list", "--json").json) == 2
    assert cli("delete", "a", "b").out == "a  deleted\nb  deleted\n"
    assert list((home / "runs").iterdir()) == []
    failed(cli("status", "a"), 4, "no run named 'a'")
    assert cli("submit", hello, *PROCESS, "--wait", "--name", "a").code == 0


def test_prune(cli: Cli, hello: str, home: Path) -> None:
    submit(cli, "old", hello)
    nothing = cli("prune", env=NO_ENGINE)
    assert (nothing.code, nothing.out) == (0, "")
    assert "nothing to remove" in nothing.err
    (home / "runs" / "debris").mkdir()
    subprocess.run(["touch", "-d", "2 days ago", home / "runs" / "debris"], check=True)
    assert cli("prune", env=NO_ENGINE).out == "folder  debris  removed\n"
    assert cli("prune", "--older-than", "1d", "--json", env=NO_ENGINE).json == {
        "run": [],
        "folder": [],
        "container": [],
    }
    assert cli("prune", "--older-than", "0", env=NO_ENGINE).out == "run  old  removed\n"
    assert cli("list", "--json").json == []
    failed(cli("prune", "--older-than", "old"), 3, "--older-than: 'old' is not a duration")


# -- download -------------------------------------------------------------------------------------------------------


@pytest.fixture
def left(cli: Cli, script: Script) -> str:
    script(
        "out.sh", "mkdir outputs/plots; echo p > outputs/plots/p.png; echo l > logs/l; echo m > $RUNNER_OUTPUT_MODEL/m"
    )
    return submit(cli, "left", "out.sh", "--output", "model")


def test_download(cli: Cli, left: str) -> None:
    done = cli("download", left)
    assert done.out.splitlines() == ["left/logs/l", "left/model/m", "left/outputs/plots/p.png"]
    assert (cli.cwd / "left/outputs/plots/p.png").read_text() == "p\n"
    one = cli("download", left, "--output", "model", "--to", "deep/er", "--json")
    assert one.json == {"folder": "deep/er", "files": ["m"]}
    assert (cli.cwd / "deep/er/m").read_text() == "m\n"
    assert cli("download", left, "--output", "outputs", "--to", "o").out == "o/plots/p.png\n"
    failed(cli("download", left, "--output", "nope"), 4, "left has no output 'nope'", "it has: logs, model, outputs")
    failed(cli("download", left, "--output", "../.."), 3, "--output")
    failed(cli("download", left, "--to", "out.sh"), 5, "out.sh is not a folder", "--to")
    failed(cli("download", left, "--to", "out.sh/x"), 5, "out.sh/x", "--to")


def test_download_of_a_run_that_left_nothing(cli: Cli, lines: str) -> None:
    done = cli("download", lines)
    assert (done.code, done.out) == (0, "")
    assert "left no files" in done.err


def test_links_that_lead_out_are_never_downloaded(cli: Cli, script: Script) -> None:
    secret = cli.cwd.parent / "secret.txt"
    secret.write_text("not yours")
    script(
        "sly.sh",
        f"ln -s {secret} outputs/a; ln -s ../../../../../../secret.txt outputs/b; ln -s ok outputs/c; echo x > outputs/ok",
    )
    done = cli("submit", "sly.sh", *PROCESS, "--wait", "--name", "n")
    assert "left out of the outputs, as links that lead out or special files: outputs/a, outputs/b" in done.err
    cli("download", "n")
    assert sorted(path.name for path in (cli.cwd / "n" / "outputs").iterdir()) == ["c", "ok"]
    assert secret.read_text() == "not yours"


# -- doctor, backends -----------------------------------------------------------------------------------------------


def test_doctor_names_what_is_missing_with_the_fix(cli: Cli) -> None:
    done = cli("doctor", env=NO_ENGINE)
    assert done.code == 0, "an engine is not needed: process runs without"
    assert "note     container engine  no container engine answers at unix:///nonexistent" in done.out
    assert re.search(r"→ start it .*DOCKER_HOST", done.out)
    found = {one["name"]: one for one in cli("doctor", "--json", env=NO_ENGINE).json}
    assert found["run store"]["ok"]
    assert not found["container engine"]["ok"]
    broken = cli("doctor", env={**NO_ENGINE, "RUNNER_HOME": "/proc/nope"})
    assert broken.code == 1
    assert "missing  run store" in broken.out


def test_backends(cli: Cli) -> None:
    found = {one["name"]: one for one in cli("backends", "--json", env=NO_ENGINE).json}
    assert list(found) == ["process", "docker", "azureml"]
    assert found["process"]["state"] == "ready"
    assert "secrets" in found["process"]["capabilities"]
    assert "no container engine answers" in found["docker"]["state"]
    assert cli("backends", env=NO_ENGINE).out.startswith("BACKEND")


# -- help, version, completion --------------------------------------------------------------------------------------

COMMANDS = ("build", "schema", "submit", "logs", "status", "wait", "show", "list", "experiments", "cancel", "download",
            "delete", "prune", "doctor", "backends")  # fmt: skip


def test_help(cli: Cli) -> None:
    whole = cli("--help")
    assert whole.code == 0
    assert cli("-h").out == whole.out
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\S", whole.out, re.MULTILINE)
    assert "..." not in whole.out.partition("Commands:")[2].partition("Exit codes")[0], "no sentence is cut off"
    bare = cli()
    assert bare.code == 2
    assert (bare.out, bare.err.strip()) == ("", whole.out.strip())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(cli: Cli, command: str) -> None:
    done = cli(command, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: runner {command} ")
    assert not re.search(r"<(str|int|path)", done.out), "what is expected is said in words of ours"
    assert not re.search(r"^  --\w[\w-]*(, -\w)?( [A-Z]+)?$", done.out, re.MULTILINE), "every option is explained"


def test_every_exit_code_is_in_the_help(cli: Cli) -> None:
    from runner import errors

    text = " ".join(cli("--help").out.partition("Exit codes:")[2].split())
    codes = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.RunnerError) and value is not errors.RunnerError
    }
    assert codes | {124, 125, 130, 137, 143} <= {int(number) for number in re.findall(r"\d+", text)}


def test_version(cli: Cli) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", cli("--version").out)


def test_unknown_commands(cli: Cli) -> None:
    failed(cli("lists"), 2, "no such command 'lists'", "did you mean list, libs?", "runner --help")
    failed(cli("--nope"), 2, "no such option: --nope")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(cli: Cli, shell: str) -> None:
    done = cli(env={"_RUNNER_COMPLETE": f"source_{shell}"})
    assert done.code == 0
    assert "_RUNNER_COMPLETE" in done.out
    completed = cli(env={"_RUNNER_COMPLETE": f"complete_{shell}", "COMP_WORDS": "runner sub", "COMP_CWORD": "1",
                         "_TYPER_COMPLETE_ARGS": "runner sub", "_TYPER_COMPLETE_FISH_ACTION": "get-args"})  # fmt: skip
    assert "submit" in completed.out


# -- JSON -----------------------------------------------------------------------------------------------------------

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "null": type(None),
    "array of strings": list, "array of objects": list, "array of integers": list,
}  # fmt: skip


def documented(heading: str) -> dict[str, str]:
    """key → type, of the first table below a heading of docs/json.md."""
    text = (ROOT / "docs" / "json.md").read_text("utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE))


def agrees(value: dict[str, Any], table: dict[str, str]) -> None:
    assert list(value) == list(table), "the same keys in the same order"
    for key, text in table.items():
        allowed = tuple(_TYPES[one] for one in text.split(" or "))
        flat = tuple(kind for one in allowed for kind in (one if isinstance(one, tuple) else (one,)))
        assert isinstance(value[key], flat), f"{key}: {value[key]!r} is not {text}"
        assert bool in flat or not isinstance(value[key], bool), key


def test_the_shape_of_a_run_is_the_documented_one(cli: Cli, script: Script, forever: str) -> None:
    table = documented("A run")
    assert len(table) > 20
    script("fail.sh", "exit 3")
    submit(cli, "n", "fail.sh", "--tag", "a=b", code=3)
    for run in (
        cli("status", "n", "--json").json, cli("status", forever, "--json").json, cli("list", "--json").json[0],
        cli("wait", "n", "--json").json[0], cli("cancel", forever, "--json").json,
    ):  # fmt: skip
        agrees(run, table)
    shown = cli("show", "n", "--json").json
    agrees(shown, {**table, **documented("`show`")})
    outcome = shown["attempt_list"][0]["outcome"]
    words = set(
        re.findall(
            r"`(\w+)`",
            (ROOT / "docs" / "json.md").read_text("utf-8").partition("An `outcome` has")[2].partition("## ")[0],
        )
    )
    assert set(outcome) == words


def test_the_shape_of_a_dry_run_is_the_documented_one(cli: Cli, hello: str) -> None:
    agrees(cli("submit", hello, *PROCESS, "--dry-run").json, documented("`submit --dry-run`"))


def test_other_shapes_are_the_documented_ones(cli: Cli, left: str) -> None:
    text = (ROOT / "docs" / "json.md").read_text("utf-8").partition("## Others")[2]
    shapes: dict[str, set[str]] = {}
    command = ""
    for first, keys in re.findall(r"^\| (?:`(\w+)`(?: \(array\))?)? ?\| (`\w+`(?:, `\w+`)*) \|", text, re.MULTILINE):
        command = first or command
        shapes.setdefault(command, set()).update(re.findall(r"\w+", keys))
    values = {
        "experiments": cli("experiments", "--json").json[0],
        "download": cli("download", left, "--json").json,
        "prune": cli("prune", "--json", env=NO_ENGINE).json,
        "doctor": cli("doctor", "--json", env=NO_ENGINE).json[0],
        "backends": cli("backends", "--json", env=NO_ENGINE).json[0],
    }
    for name, value in values.items():
        assert set(value) == shapes[name], name


def test_json_is_ascii_where_the_stream_is(cli: Cli, hello: str) -> None:
    submit(cli, "n", hello, "--description", "café → ü")
    for encoding in ("utf-8", "ascii", "latin-1"):
        done = cli("status", "n", "--json", env={"PYTHONIOENCODING": encoding})
        assert json.loads(done.out_bytes)["description"] == "café → ü"
    assert cli("show", "n", env={"PYTHONIOENCODING": "ascii"}).code == 0
