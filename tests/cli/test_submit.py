"""`runner submit` as it should be used: what is printed where, options, inputs, outputs, secrets, Ctrl-C."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import NO_ENGINE, PROCESS, Terminal
from tests.conftest import without_python_s_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli

    Script = Callable[[str, str], Path]


def test_stdout_of_submit_is_just_the_name(cli: Cli, hello: str) -> None:
    done = cli("submit", hello, *PROCESS)
    assert done.code == 0
    name = done.out.strip()
    assert done.out == f"{name}\n"
    assert f"runner logs -f {name}" in done.err
    assert f"runner cancel {name}" in done.err
    assert cli("wait", name).code == 0


def test_stdout_of_wait_is_just_the_scripts_bytes(cli: Cli, script: Script) -> None:
    script("raw.py", r"""
import os, sys
os.write(1, b"caf\xc3\xa9 \xff\x00 no newline")
os.write(2, b"\nto stderr")
sys.exit(3)
""")  # fmt: skip
    done = cli("submit", "raw.py", *PROCESS, "--wait")
    assert done.code == 3
    assert done.out_bytes == b"caf\xc3\xa9 \xff\x00 no newline\nto stderr"
    assert "Failed · NonZeroExit in" in done.err
    assert "script exited with code 3" in done.err
    assert "log: runner logs " in done.err


def test_what_follows_two_dashes_is_the_scripts(cli: Cli, script: Script) -> None:
    script("args.py", "import sys; print(sys.argv[1:])")
    done = cli("submit", "--wait", "args.py", *PROCESS, "--", "--wait", "--help", "--", "", "a b", "*", "${HOME}", "ü")
    assert done.out == "['--wait', '--help', '--', '', 'a b', '*', '${HOME}', 'ü']\n"
    assert cli("submit", "args.py", *PROCESS, "--wait", "--").out == "[]\n"


def test_options_stand_wherever_they_like(cli: Cli, hello: str) -> None:
    assert cli("submit", "--backend", "process", hello, "--wait", "--name", "n1").out == "hello \n"
    assert cli("submit", "--wait", *PROCESS, "--name=n2", hello, "--", "x").out == "hello x\n"


def test_the_choice_of_a_backend_is_said_in_one_line(cli: Cli, hello: str) -> None:
    done = cli("submit", hello, "--wait", env=NO_ENGINE)
    assert done.code == 0
    assert done.out == "hello \n"
    (line,) = [line for line in done.err.splitlines() if line.startswith("backend ")]
    assert "process" in line
    assert "no container engine answers" in line
    assert "--backend to choose" in line
    assert cli("submit", hello, "--wait", "--compute", "local", env=NO_ENGINE).code == 0


def test_json_of_submit_is_the_run(cli: Cli, hello: str) -> None:
    done = cli(
        "submit", hello, *PROCESS, "--json", "--name", "n", "--experiment", "churn", "--description", "ü",
        "--tag", "team=ml", "--tag", "k=a=b", "--", "x",
    )  # fmt: skip
    run = done.json
    assert (run["name"], run["backend"], run["experiment"], run["description"]) == ("n", "process", "churn", "ü")
    assert run["tags"] == {"team": "ml", "k": "a=b"}
    assert run["argv"] == ["hello.sh", "x"]
    assert done.err == ""
    assert cli("wait", "n").code == 0


def test_json_of_wait_leaves_stdout_to_the_run(cli: Cli, hello: str) -> None:
    done = cli("submit", hello, *PROCESS, "--wait", "--json")
    assert done.json["status"] == "Completed"
    assert "hello" in done.err


def test_a_name_is_taken_once(cli: Cli, hello: str) -> None:
    assert cli("submit", hello, *PROCESS, "--name", "n", "--wait").code == 0
    again = cli("submit", hello, *PROCESS, "--name", "n")
    assert again.code == 5
    assert "there is a run named 'n' already" in again.err
    assert "runner delete n" in again.err


def test_the_code_folder_is_copied_and_never_written_to(cli: Cli, script: Script) -> None:
    script("sub/data.csv", "1,2")
    script("write.sh", "cat sub/data.csv; echo changed > sub/data.csv; echo new > new.txt; rm write.sh")
    done = cli("submit", "write.sh", *PROCESS, "--wait", "--name", "n")
    assert done.out == "1,2"
    assert "written outside ./outputs and not kept: new.txt" in done.err
    assert sorted(path.name for path in cli.cwd.rglob("*")) == ["data.csv", "sub", "write.sh"]
    assert (cli.cwd / "sub" / "data.csv").read_text() == "1,2"


def test_a_script_in_a_folder_of_a_larger_project(cli: Cli, script: Script) -> None:
    script("lib/common.txt", "shared")
    script("jobs/a.sh", "cat lib/common.txt; pwd")
    done = cli("submit", "jobs/a.sh", "--code", ".", *PROCESS, "--wait", "--name", "n")
    assert done.out.startswith("shared")
    assert cli.row("n")["experiment"] == "work"
    (cli.cwd / "deep").mkdir()
    cli.cwd = cli.cwd / "deep"
    assert cli("submit", "../jobs/a.sh", "--code", "..", *PROCESS, "--wait", "--name", "m").out.startswith("shared")
    assert cli.row("m")["experiment"] == "work"


def test_key_files_stay_behind_and_are_named(cli: Cli, script: Script) -> None:
    script(".env", "TOKEN=hunter2")
    script("ls.sh", "ls -A")
    done = cli("submit", "ls.sh", *PROCESS, "--wait")
    assert done.out.split() == ["logs", "ls.sh", "outputs"]
    assert "note     left out, as it may hold a secret: .env (pass values with --secret)" in done.err


def test_inputs_and_outputs(cli: Cli, script: Script, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "x.csv").write_text("content")
    script("io.sh", """
set -e
cat "$RUNNER_INPUT_MY_DATA/x.csv" "$RUNNER_INPUT_FILE"
[ "$1" = "$RUNNER_INPUT_FILE" ]
echo m > "$RUNNER_OUTPUT_MODEL/m.rds"
mkdir -p results && echo r > results/r.txt
echo o > outputs/o.txt
""")  # fmt: skip
    done = cli(
        "submit", "io.sh", *PROCESS, "--wait", "--name", "n", "--input", f"my-data={data}",
        "--input", f"file={data}/x.csv", "--output", "model", "--output", "table=results", "--", "${{inputs.file}}",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out == "contentcontent"
    assert [one["path"] for one in cli.row("n")["outputs"]] == ["model/m.rds", "outputs/o.txt", "table/r.txt"]
    assert "outputs: model/m.rds, o.txt, table/r.txt" in done.err
    assert "runner download n" in done.err


def test_variables_and_where_the_script_is(cli: Cli, script: Script) -> None:
    script("env.sh", 'echo "$A|$B|$RUNNER_RUN|$RUNNER_EXPERIMENT|$RUNNER_ATTEMPT"')
    done = cli("submit", "env.sh", *PROCESS, "--wait", "--name", "n", "--env", "A=x=y z", "--env", "B=")
    assert done.out == "x=y z||n|work|1\n"


def test_a_limit_of_time(cli: Cli, script: Script) -> None:
    script("slow.sh", "echo begun; exec tail -f /dev/null")
    done = cli("submit", "slow.sh", *PROCESS, "--wait", "--timeout", "300ms", "--grace", "5s")
    assert done.code == 124
    assert "Failed · Timeout" in done.err
    assert "try: --timeout" in done.err


def test_retries_of_what_was_named(cli: Cli, script: Script, tmp_path: Path) -> None:
    script("flaky.sh", f'echo "attempt $RUNNER_ATTEMPT"; [ -e {tmp_path}/ok ] || {{ touch {tmp_path}/ok; exit 7; }}')
    done = cli("submit", "flaky.sh", *PROCESS, "--wait", "--retries", "2", "--retry-on", "nonzeroexit", "--name", "n")
    assert done.code == 0, done.err
    assert done.out == "attempt 1\nattempt 2\n"
    row = cli.row("n")
    assert (row["status"], row["attempts"]) == ("Completed", 2)
    assert [one["outcome"]["reason"] for one in row["attempt_list"]] == ["NonZeroExit", "Completed"]


# -- secrets --------------------------------------------------------------------------------------------------------


def everywhere(home: Path, value: bytes) -> list[str]:
    return [str(path) for path in home.rglob("*") if path.is_file() and value in path.read_bytes()]


def test_secrets_reach_the_script_and_are_kept_nowhere(cli: Cli, script: Script, home: Path) -> None:
    script(
        "secret.py",
        "import os; print(len(os.environ['TOKEN']), os.environ['KEY'].split() == ['sword' + 'fish', 'line', '2'])",
    )
    keys = cli.cwd.parent / "key.txt"
    keys.write_text("swordfish\nline 2\n")
    done = cli(
        "submit", "secret.py", *PROCESS, "--wait", "--secret", "TOKEN", "--secret", f"KEY=@{keys}", "--name", "n",
        env={"TOKEN": "hunter2-hunter2"},
    )  # fmt: skip
    assert done.out == "15 True\n", done.err
    assert "hunter2" not in done.err
    assert everywhere(home, b"hunter2-hunter2") == []
    assert everywhere(home, b"swordfish") == []
    assert "hunter2" not in cli("show", "n", "--json").out


@pytest.mark.parametrize(
    "wrong", ["keyvault:", "keyvault:a/b/c", "keyvault:https://v.vault.azure.net/x", "keyvault:v/n_1"]
)
def test_a_name_that_key_vault_cannot_have(cli: Cli, hello: str, wrong: str) -> None:
    done = cli("submit", hello, *PROCESS, "--secret", f"TOKEN={wrong}")
    assert done.code == 3
    assert f"--secret TOKEN: '{wrong}' names no secret of Key Vault" in done.err
    assert "expected keyvault:NAME or keyvault:VAULT/NAME" in done.err


def test_key_vault_is_read_by_jobs_on_azure_only(cli: Cli, hello: str) -> None:
    done = cli("submit", hello, *PROCESS, "--secret", "TOKEN=keyvault:team-vault/token")
    assert done.code == 6
    assert "--secret TOKEN=keyvault:…: backend process reads no vault" in done.err
    assert cli("list", "--json").json == []


def test_a_secret_is_asked_for_on_a_terminal_and_not_shown(
    cli: Cli, script: Script, terminal: Callable[..., Terminal]
) -> None:
    script("secret.sh", 'echo "length ${#TOKEN}"')
    asked = terminal("submit", "secret.sh", *PROCESS, "--wait", "--secret", "TOKEN")
    asked.expect(b"TOKEN: ")
    asked.send(b"hunter2\n")
    asked.expect(b"length 7")
    assert asked.wait() == 0
    assert b"hunter2" not in asked.shown


def test_ctrl_c_while_a_secret_is_asked_for_starts_nothing(
    cli: Cli, hello: str, terminal: Callable[..., Terminal]
) -> None:
    asked = terminal("submit", hello, *PROCESS, "--secret", "TOKEN")
    asked.expect(b"TOKEN: ")
    asked.send(b"\x03")
    assert asked.wait() == 130
    assert b"Traceback" not in asked.shown
    assert cli("list", "--json").json == []


# -- terminals ------------------------------------------------------------------------------------------------------


def test_on_a_terminal_there_are_colours_and_a_sentence(
    cli: Cli, hello: str, terminal: Callable[..., Terminal]
) -> None:
    shown = terminal("submit", hello, *PROCESS, "--wait")
    assert shown.wait() == 0
    assert b"\x1b[32mCompleted\x1b[0m" in shown.shown
    shown = terminal("submit", hello, *PROCESS, "--name", "n")
    assert shown.wait() == 0
    assert b"n  Queued on process" in shown.shown
    assert cli("wait", "n").code == 0


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_none_are_wanted(
    cli: Cli, hello: str, terminal: Callable[..., Terminal], env: dict[str, str]
) -> None:
    shown = terminal("submit", hello, *PROCESS, "--wait", env=env)
    assert shown.wait() == 0
    assert b"Completed in" in shown.shown
    assert b"\x1b" not in shown.shown


def test_no_escape_codes_in_pipes(cli: Cli, script: Script) -> None:
    script("fail.sh", "exit 1")
    coloured = {"NO_COLOR": "", "TERM": "xterm-256color"}
    done = cli("submit", "fail.sh", *PROCESS, "--wait", "--name", "n", env=coloured)
    for one in (done, cli("list", env=coloured), cli("show", "n", env=coloured), cli("status", "x", env=coloured)):
        assert "\x1b" not in one.out + one.err


def test_ctrl_c_leaves_the_run_going_and_says_how_to_cancel_it(
    cli: Cli, script: Script, terminal: Callable[..., Terminal]
) -> None:
    script("slow.sh", "echo begun; exec tail -f /dev/null")
    shown = terminal("submit", "slow.sh", *PROCESS, "--wait", "--name", "n")
    shown.expect(b"begun")
    shown.send(b"\x03")
    assert shown.wait() == 130
    assert b"n goes on." in shown.shown
    assert b"runner cancel n" in shown.shown
    assert b"Traceback" not in shown.shown
    assert cli.row("n")["status"] == "Running"
    assert "n  asked to end" in cli("cancel", "n").out
    assert cli("wait", "n").code == 143


def test_the_run_outlives_its_terminal(
    cli: Cli, script: Script, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    script(
        "slow.sh", f"echo begun; while [ ! -e {tmp_path}/go ]; do read -t 0.05 < <(:) || :; sleep 0.05; done; echo done"
    )
    shown = Terminal(cli, "submit", "slow.sh", *PROCESS, "--wait", "--name", "n")
    try:
        shown.expect(b"begun")
        os.killpg(shown.process.pid, signal.SIGKILL)
    finally:
        shown.close()
    assert cli.row("n")["status"] == "Running"
    (tmp_path / "go").touch()
    assert cli("wait", "n").code == 0
    assert cli("logs", "n").out == "begun\ndone\n"


def test_ctrl_c_at_any_moment_is_no_traceback(cli: Cli, hello: str) -> None:
    """From the moment that `main` is called; the start of the interpreter is not ours to guard."""
    code = "from runner.cli import main; print('ready', flush=True); main()"
    for number in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", code, "submit", hello, *PROCESS, "--name", f"n{number}"], cwd=cli.cwd, env=cli.env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            process.wait(0.02 + number * 0.03)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        # The last moment is the interpreter's own end, where the signal itself ends it: 130 to a shell, too.
        assert process.returncode in {0, 130, -signal.SIGINT}, err
        assert b"Traceback" not in without_python_s_own(err)
        accepted = {run["name"] for run in cli("list", "--json", "--limit", "99").json}
        if b"nothing was submitted" in err:
            assert f"n{number}" not in accepted
        if process.returncode == 0 or b"was submitted" in err.replace(b"nothing was submitted", b""):
            assert f"n{number}" in accepted
    for run in cli("list", "--json").json:
        assert cli("wait", run["name"]).code == 0
        assert cli("logs", run["name"]).out == "hello \n"


# -- files ----------------------------------------------------------------------------------------------------------


def test_names_that_are_no_text(cli: Cli, script: Script) -> None:
    odd = os.fsdecode(b"caf\xe9.sh")
    script(odd, 'printf x > outputs/$(printf "a\\377.txt"); printf x > "outputs/esc\033[31m"')
    done = cli("submit", odd, *PROCESS, "--wait", "--name", "n")
    assert done.code == 0, done.err
    assert "\x1b" not in done.err
    for argv in (["show", "n"], ["list"], ["download", "n", "--to", "d"], ["experiments"]):
        one = cli(*argv)
        assert one.code == 0, one.err
        assert "\x1b" not in one.out
    assert "a\\udcff.txt" in cli("show", "n", "--json").out
    assert (cli.cwd / "d" / "outputs" / os.fsdecode(b"a\xff.txt")).read_text() == "x"


def test_what_is_downloaded_belongs_to_the_caller(cli: Cli, script: Script) -> None:
    script("out.sh", "echo x > outputs/o.txt; chmod 000 outputs/o.txt; chmod 500 outputs")
    assert cli("submit", "out.sh", *PROCESS, "--wait", "--name", "n").code == 0
    assert cli("download", "n").code == 0
    found = (cli.cwd / "n" / "outputs" / "o.txt").stat()
    assert found.st_uid == os.getuid()
    assert stat.S_IMODE(found.st_mode) & 0o600 == 0o600


def test_exit_codes_of_the_script_are_the_commands(cli: Cli, script: Script) -> None:
    script("code.sh", "exit $1")
    for code in (0, 3, 130, 255):  # the contract suite has all 256
        assert cli("submit", "code.sh", *PROCESS, "--wait", "--", str(code)).code == code
    script("kill.sh", "kill -SEGV $$")
    assert cli("submit", "kill.sh", *PROCESS, "--wait").code == 139


def test_a_full_disk_behind_stdout(cli: Cli, hello: str) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        for argv in (["--help"], ["--version"], ["submit", hello, *PROCESS, "--wait", "--name", "n"], ["show", "n"]):
            process = cli.start(*argv, stdout=full)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 1, argv
            assert err.splitlines()[-1] == b"error: cannot write to standard output: No space left on device"


def test_outputs_of_an_earlier_run_in_the_code_folder_are_not_claimed(cli: Cli, script: Script) -> None:
    script("outputs/old.txt", "stale")
    script("a.py", "open('outputs/new.txt', 'w').write('1')")
    done = cli("submit", "a.py", "--backend", "process", "--wait")
    assert done.code == 0, done.err
    assert "every run starts with an empty one: outputs" in done.err
    assert [one["path"] for one in cli.row("@last")["outputs"]] == ["outputs/new.txt"]
