"""launch.py: what Azure ML starts arrives at the bootstrapper byte for byte, and what it leaves is where it belongs."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import tracking
from runner.backends.azureml.command import EMPTY
from runner.bootstrapper import final_outcome
from runner.model import Limits, Reason, Remote
from tests.azure_node import Ended, Node, ended, make_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHOW = """
import json, os, sys
print(json.dumps([[os.fsencode(a).decode("latin-1") for a in sys.argv[1:]],
                  {k: os.fsencode(v).decode("latin-1") for k, v in os.environ.items()}, os.getcwd()]))
"""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "node")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "show.py").write_text(SHOW)
    return folder


def shown(result: Ended) -> tuple[list[bytes], dict[str, str], str]:
    assert result.code == 0, result.log
    words, env, cwd = json.loads(result.log)
    return [word.encode("latin-1") for word in words], env, cwd


def as_bytes(words: tuple[str, ...]) -> list[bytes]:
    return [os.fsencode(word) for word in words]


# -- what arrives ---------------------------------------------------------------------------------------------------

HOSTILE = (
    "", " ", "'", '"', "\\", "\\\\n", "$HOME", "${HOME}", "`id`", "$(id)", "a\nb", "\n", "\r\n", "\t", "*", "~", "!x", "#",
    "$[[ x ]]", "$[[${{inputs.missing}}]]", "${{name}}", "{{x}}", "RUNNER-0", "EOF", "\x01\x7f\x1b[0m", "é 数 🙂", "\u2028",
    "\udcff", "--", "-n", "%s", "\\u0024", '{"a": 1}', "a" * 5000,
)  # fmt: skip


def test_arguments_arrive_byte_for_byte(node: Node, code: Path, tmp_path: Path) -> None:
    result = node.run(make_task(tmp_path, ["show.py", *HOSTILE], code=code, env={"ODD": "$x'\"\n${{y}} $[[z]]"}))
    words, env, _ = shown(result)
    assert words == as_bytes(HOSTILE)
    assert env["ODD"] == "$x'\"\n${{y}} $[[z]]"


_ANY = st.text(st.characters(exclude_characters="\0"), max_size=30)
_NASTY = st.lists(st.sampled_from([*HOSTILE[:-1], "${{", "}}", "inputs.", "$", "[[", "]]"]), max_size=6).map("".join)
_WORD = (_ANY | _NASTY).filter(lambda text: not re.search(r"\$\{\{\s*(inputs|outputs)\.", text))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(st.lists(_WORD, max_size=8), _WORD, _ANY)
def test_any_words_arrive(tmp_path: Path, words: list[str], variable: str, value: str) -> None:
    root = tmp_path / "any"
    shutil.rmtree(root, ignore_errors=True)
    (root / "code").mkdir(parents=True)
    (root / "code" / "show.py").write_text(SHOW)
    try:
        value.encode()
    except UnicodeEncodeError:
        value = "x"  # a path that Azure makes is text
    task = make_task(
        root, ["show.py", *words, "<${{inputs.data}}>"], code=root / "code", env={"ODD": variable},
        remote=Remote(environment={"image": "x"}, inputs={"data": {"type": "uri_file", "path": "azureml:d:1"}}),
    )  # fmt: skip
    found, env, _ = shown(Node(root / "node", values={"inputs.data": value}).run(task))
    assert found == as_bytes((*words, f"<{value}>"))
    assert env["ODD"].encode("latin-1") == os.fsencode(variable)


@pytest.mark.parametrize("value", ["/mnt/a b", '/mnt/it\'s "x"', "C:\\new", "a\nb", "", "$HOME", "RUNNER-1 inputs.x"])
def test_what_azure_puts_in_arrives_in_arguments_and_variables(
    node: Node, code: Path, tmp_path: Path, value: str
) -> None:
    node.values = {"inputs.data": value, "outputs.model": "/mnt/out"}
    remote = Remote(environment={"image": "x"}, inputs={"data": {"type": "uri_folder", "path": "azureml:d:1"}})
    task = make_task(
        tmp_path, ["show.py", "--in=${{inputs.data}}", "${{ inputs.data }}${{outputs.model}}!"], code=code, remote=remote,
        outputs={"model": None}, env={"RUNNER_INPUT_DATA": "${{inputs.data}}", "B": "<${{inputs.data}}>"},
    )  # fmt: skip
    words, env, _ = shown(node.run(task))
    assert words == as_bytes((f"--in={value}", f"{value}/mnt/out!"))
    assert (env["RUNNER_INPUT_DATA"], env["B"]) == (value, f"<{value}>")


def test_a_command_is_as_raw_as_azure_has_it(node: Node, tmp_path: Path) -> None:
    node.values = {"inputs.data": "a   b; echo more"}
    remote = Remote(environment={"image": "x"}, inputs={"data": {"type": "uri_folder", "path": "azureml:d:1"}})
    text = "echo ${{inputs.data}} \"$HOME\" 'it'\"'\"'s' \\\n  && cat <<EOF\n$((1+1))\nEOF\n"
    result = node.run(make_task(tmp_path, ["bash", "-c", text], remote=remote))
    assert result.log.decode() == f"a b\nmore {node.root} it's\n2\n"


def test_a_command_too_large_for_linux_is_refused(node: Node, tmp_path: Path) -> None:
    from runner.errors import SpecError

    with pytest.raises(SpecError, match="128 KiB"):
        node.run(make_task(tmp_path, ["show.py", "x" * 131_000]))
    # What a shell would need beside it is left out first.
    (tmp_path / "code2").mkdir()
    (tmp_path / "code2" / "show.py").write_text(SHOW)
    task = make_task(tmp_path, ["show.py", "x" * 90_000], code=tmp_path / "code2")
    assert shown(node.run(task))[0] == [b"x" * 90_000]


# -- the world of the script ----------------------------------------------------------------------------------------


def test_the_folder_is_out_of_the_way(node: Node, code: Path, tmp_path: Path) -> None:
    python = "import importlib.util as u; assert u.find_spec('runner_plots')"
    (code / "list.sh").write_text(f'ls -A; cat $R_PROFILE_USER | head -c 1; python3 -c "{python}"\n')
    result = node.run(make_task(tmp_path, ["list.sh"], code=code))
    assert result.log.decode().split("\n")[:4] == ["list.sh", "logs", "outputs", "show.py"]
    assert result.code == 0, result.log
    assert not (result.work / ".runner").exists()


def test_links_modes_empty_folders_and_ignore_files_are_there(node: Node, code: Path, tmp_path: Path) -> None:
    (code / "it's a tool").write_text("#!/bin/sh\necho ran\n")
    (code / "it's a tool").chmod(0o755)
    (code / "-link").symlink_to("show.py")
    (code / "empty" / "deep").mkdir(parents=True)
    for name in (".amlignore", ".gitignore"):
        (code / name).write_text("*\n")
    (code / "sub").mkdir()
    (code / "sub" / ".gitignore").write_text("*.csv\n")
    (code / "all.sh").write_text(
        'readlink ./-link; ls -d empty/deep; cat .amlignore .gitignore sub/.gitignore; "./it\'s a tool"'
    )
    result = node.run(make_task(tmp_path, ["all.sh"], code=code))
    assert result.log.decode() == "show.py\nempty/deep\n*\n*\n*.csv\nran\n"


@pytest.fixture
def open_node() -> Iterator[Node]:
    """A node in a place that every user can reach; root's own Python can be of no use to another user."""
    root = Path(tempfile.mkdtemp(prefix="runner-test-node-"))
    root.chmod(0o755)
    yield Node(root, path="/usr/bin:/bin")
    shutil.rmtree(root)


def test_a_working_directory_that_cannot_be_written_to(open_node: Node, tmp_path: Path, code: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root writes everywhere")
    if shutil.which("python3", path=open_node.path) is None:
        pytest.skip("no Python of the system here")
    work, argv, env = open_node.prepare(make_task(tmp_path, ["show.py", "x"], code=code))
    for path in (work, *work.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    lower = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run([*lower, *argv], cwd=work, env=env, capture_output=True, check=False)
    result = ended(done.returncode, done.stdout, work)
    assert done.stderr == b""
    words, seen, _ = shown(result)
    assert words == [b"x"]
    assert os.path.realpath(seen["HOME"]) != os.path.realpath(env["HOME"])
    assert result.record is None
    assert final_outcome(result.last, "store-calm-otter-1") is not None
    assert (work / ".runner" / "launch.py").is_file()


def test_home_is_one_that_can_be_written_to(node: Node, code: Path, tmp_path: Path) -> None:
    task = make_task(tmp_path, ["show.py"], code=code)
    assert shown(node.run(task))[1]["HOME"] == str(node.root)
    for missing in ("/nonexistent", ""):
        shutil.rmtree(node.root)
        node.variables = {"HOME": missing}
        home = shown(node.run(task))[1]["HOME"]
        assert os.access(home, os.W_OK)


def test_variables_of_the_run_are_beside_the_command_and_the_key_is_not_the_scripts(
    node: Node, code: Path, tmp_path: Path
) -> None:
    _, env, _ = shown(
        node.run(make_task(tmp_path, ["show.py"], code=code, env={"PATH": f"/own:{node.path}", "A": "b"}))
    )
    assert env["RUNNER_RUN"] == "calm-otter"
    assert (env["PATH"], env["A"], env["RUNNER_BACKEND"]) == (f"/own:{node.path}", "b", "azureml")
    assert "RUNNER_KEY" not in env


def test_two_runs_of_the_same_have_the_same_command(tmp_path: Path, code: Path) -> None:
    from runner.backends.azureml import command

    one = command.given(make_task(tmp_path, ["show.py"], code=code))
    two = command.given(make_task(tmp_path, ["show.py"], code=code, key="other-2", env={"RUNNER_RUN": "warm-owl"}))
    assert one.command == two.command
    assert one.variables != two.variables


# -- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limits", "reason", "px"),
    [
        ("exit 0", Limits(), Reason.COMPLETED, 0),
        ("exit 3", Limits(), Reason.NON_ZERO_EXIT, 3),
        ("kill -9 $$", Limits(), Reason.SIGNALED, 137),
        ("sleep 60", Limits(timeout_s=0.2, grace_s=0.1), Reason.TIMEOUT, 124),
    ],
)
def test_endings(node: Node, tmp_path: Path, text: str, limits: Limits, reason: Reason, px: int) -> None:
    result = node.run(make_task(tmp_path, ["bash", "-c", f"printf end; {text}"], limits=limits))
    outcome = final_outcome(result.record, "store-calm-otter-1")
    assert outcome is not None
    assert (outcome.reason, outcome.process_exit, result.code) == (reason, px, px)
    assert result.record == result.last
    assert result.log == b"end"


@pytest.mark.parametrize(
    ("argv", "reason", "px"),
    [(["no.py"], Reason.SCRIPT_NOT_FOUND, 127), (["a.jl"], Reason.INTERPRETER_NOT_FOUND, 127)],
)
def test_what_cannot_be_started(
    node: Node, tmp_path: Path, code: Path, argv: list[str], reason: Reason, px: int
) -> None:
    (code / "a.jl").write_text("1")
    result = node.run(make_task(tmp_path, argv, code=code))
    outcome = final_outcome(result.record, "store-calm-otter-1")
    assert outcome is not None
    assert (outcome.reason, result.code) == (reason, px)
    if argv == ["a.jl"]:
        assert "in this image" in outcome.message


def test_a_cancel_reaches_the_script(node: Node, tmp_path: Path, until: Callable[..., object]) -> None:
    """The service's signal goes to what it started: bash, in whose place the launcher stands."""
    text = "trap 'echo bye; exit 0' TERM; echo ready > started; while :; do sleep 0.05; done"
    work, argv, env = node.prepare(make_task(tmp_path, ["bash", "-c", text]))
    process = subprocess.Popen(argv, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until((work / "started").exists, "the script")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    result = ended(process.returncode, output, work)
    outcome = final_outcome(result.record, "store-calm-otter-1")
    assert outcome is not None
    assert (outcome.reason, outcome.exit_code, result.code, result.log[-4:]) == (Reason.CANCELED, 0, 143, b"bye\n")


def test_outputs_are_brought_to_where_azure_has_them(node: Node, tmp_path: Path) -> None:
    kept = tmp_path / "mounted"
    node.values = {"outputs.model": f"{kept}/model", "outputs.table": f"{kept}/t/table", "outputs.free": f"{kept}/free"}
    remote = Remote(environment={"image": "x"}, outputs={"table": {"type": "uri_file"}})
    task = make_task(
        tmp_path, ["bash", "-c", "echo m > out/model/m.txt; echo t > ${{outputs.table}}; ls -d ${{outputs.free}}"],
        outputs={"model": "out/model", "table": None, "free": None}, remote=remote,
    )  # fmt: skip
    result = node.run(task)
    assert result.code == 0, result.log
    assert (kept / "model" / "m.txt").read_text() == "m\n"
    assert (kept / "t" / "table").read_text() == "t\n"
    assert result.log.decode() == f"{kept}/free\n"


def test_an_output_has_one_place_by_either_of_its_names(node: Node, code: Path, tmp_path: Path) -> None:
    node.values = {"outputs.table": f"{tmp_path}/mounted/table"}
    task = make_task(
        tmp_path, ["show.py", "${{outputs.table}}"], code=code, outputs={"table": "results/final"},
        env={"RUNNER_OUTPUT_TABLE": "${{outputs.table}}"},
    )  # fmt: skip
    words, env, cwd = shown(node.run(task))
    assert words == [os.fsencode(f"{cwd}/results/final")]
    assert env["RUNNER_OUTPUT_TABLE"] == f"{cwd}/results/final"


def marked(where: Node, tmp_path: Path) -> set[str]:
    """What a job leaves in its outputs that writes into one of three."""
    where.values = {f"outputs.{name}": f"{tmp_path}/mounted/{name}" for name in ("full", "empty", "own")}
    task = make_task(
        tmp_path, ["bash", "-c", "echo 1 > ${{outputs.full}}/f"], outputs={"full": None, "empty": None, "own": "out"}
    )
    assert where.run(task).code == 0
    return {str(path.relative_to(tmp_path / "mounted")) for path in (tmp_path / "mounted").rglob("*") if path.is_file()}


def test_an_empty_output_is_there_for_who_reads_it(node: Node, tmp_path: Path) -> None:
    assert marked(node, tmp_path) == {"full/f", f"empty/{EMPTY}", f"own/{EMPTY}"}


def test_a_log_that_is_a_file_is_not_truncated_by_the_script(node: Node, tmp_path: Path) -> None:
    text = "echo 1; echo 2 > /dev/stderr; echo 3 > /dev/stdout; head -c 3000000 /dev/zero; echo 4"
    work, argv, env = node.prepare(make_task(tmp_path, ["bash", "-c", text]))
    with (tmp_path / "log").open("ab") as log:
        done = subprocess.run(argv, cwd=work, env=env, stdout=log, stderr=log, check=False, timeout=30)
    result = ended(done.returncode, (tmp_path / "log").read_bytes(), work)
    assert result.log == b"1\n2\n3\n" + bytes(3_000_000) + b"4\n"
    assert result.record == result.last


def test_what_is_logged_is_in_a_store_as_runner_makes_it(node: Node, tmp_path: Path, code: Path) -> None:
    seen = "/anything"
    env = tracking.variables(seen, run="calm-otter", experiment="trials")
    result = node.run(make_task(tmp_path, ["show.py"], code=code, env=env, tracking=seen))
    folder = result.work / "logs" / "runner" / "mlflow"
    assert tracking.untouched(folder, "calm-otter")
    _, found, _ = shown(result)
    wanted = tracking.variables(str(folder), run="calm-otter", experiment="trials")
    assert {name: found[name] for name in wanted} == wanted
    tracking.prepare(tmp_path / "ours", seen=str(folder), run="calm-otter", experiment="trials")
    for path in sorted((tmp_path / "ours").rglob("*")):
        other = folder / path.relative_to(tmp_path / "ours")
        assert other.is_dir() == path.is_dir()
        if path.is_file():
            assert re.sub(r"\d{13}", "TIME", other.read_text()) == re.sub(r"\d{13}", "TIME", path.read_text())


def test_a_tracking_server_of_the_users_own_stays(node: Node, tmp_path: Path, code: Path) -> None:
    env = {"MLFLOW_TRACKING_URI": "https://mine", "RUNNER_TRACKING": "/x"}
    _, found, _ = shown(node.run(make_task(tmp_path, ["show.py"], code=code, env=env, tracking="/x")))
    assert found["MLFLOW_TRACKING_URI"] == "https://mine"
    assert "MLFLOW_RUN_ID" not in found
    assert found["RUNNER_TRACKING"].endswith("/" + tracking.run_id("calm-otter"))


@pytest.mark.parametrize("variables", [{"AZUREML_CR_NODE_RANK": "1"}, {"RANK": "1", "AZUREML_CR_NODE_RANK": "0"}])
def test_the_other_nodes_have_records_of_their_own(node: Node, tmp_path: Path, variables: dict[str, str]) -> None:
    node.variables = variables
    members = {"distribution": {"type": "pytorch", "process_count_per_instance": 2}, "resources": {"instance_count": 2}}
    task = make_task(
        tmp_path, ["bash", "-c", "exit 4"], remote=Remote(environment={"image": "x"}, members=members), tracking="/x",
        env=tracking.variables("/x", run="calm-otter", experiment="trials"),
    )  # fmt: skip
    work, argv, env = node.prepare(task)
    done = subprocess.run(argv, cwd=work, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (4, b"")
    assert ended(4, b"", work, "status-1.json").record is not None
    assert not (work / "logs" / "runner" / "status.json").exists()
    assert not (work / "logs" / "runner" / "mlflow").exists()
    assert (work / ".runner" / "launch.py").is_file(), "other processes start from it"


# -- without Python -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["bash", "dash", "busybox"])
def bare(request: pytest.FixtureRequest, node: Node, tmp_path: Path) -> Node:
    """A node whose image has a shell and no Python."""
    tools = tmp_path / "tools"
    tools.mkdir()
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"no {request.param} here")
    (tools / "sh").symlink_to(shell)
    for name in ("bash", "cat", "cp", "date", "env", "ln", "chmod", "mkdir", "rm", "sleep", "printf", "ls"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    node.path = str(tools)
    return node


def test_without_python_the_exit_code_is_kept(bare: Node, tmp_path: Path, code: Path) -> None:
    (code / "a.sh").write_text('printf "<%s>" "$@"; printf "[%s]" "$ODD"; ls -A; exit 7\n')
    words = [text for text in HOSTILE if re.fullmatch(r"[^\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]*", text)]
    bare.values = {"inputs.data": 'it\'s "x" $HOME\nb'}
    remote = Remote(environment={"image": "x"}, inputs={"data": {"type": "uri_folder", "path": "azureml:d:1"}})
    task = make_task(
        tmp_path, ["a.sh", *words, "${{inputs.data}}"], code=code, env={"ODD": "$x' ${{inputs.data}}"}, remote=remote
    )
    result = bare.run(task)
    wanted = "".join(f"<{word}>" for word in (*words, bare.values["inputs.data"]))
    assert result.log.decode() == f"{wanted}[$x' {bare.values['inputs.data']}]a.sh\nlogs\noutputs\nshow.py\n"
    outcome = final_outcome(result.record, "store-calm-otter-1")
    assert outcome is not None
    assert (outcome.reason, outcome.exit_code, outcome.process_exit, result.code) == (Reason.NON_ZERO_EXIT, 7, 7, 7)
    assert "no record kept" in outcome.warnings[0]
    assert result.record == result.last


def test_without_python_a_command_runs_and_outputs_are_brought(bare: Node, tmp_path: Path) -> None:
    bare.values = {"outputs.model": f"{tmp_path}/kept it/model"}
    task = make_task(tmp_path, ["bash", "-c", "echo m > out/m; echo ran"], outputs={"model": "out"})
    result = bare.run(task)
    outcome = final_outcome(result.record, "store-calm-otter-1")
    assert outcome is not None
    assert (outcome.reason, result.code, result.log) == (Reason.COMPLETED, 0, b"ran\n")
    assert (tmp_path / "kept it" / "model" / "m").read_text() == "m\n"


def test_without_python_an_empty_output_is_there_too(bare: Node, tmp_path: Path) -> None:
    assert marked(bare, tmp_path) == {"full/f", f"empty/{EMPTY}", f"own/{EMPTY}"}


def test_without_python_a_cancel_is_passed_on(bare: Node, tmp_path: Path, until: Callable[..., object]) -> None:
    work, argv, env = bare.prepare(make_task(tmp_path, ["bash", "-c", "echo ready > started; exec sleep 60"]))
    process = subprocess.Popen(argv, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until((work / "started").exists, "the script")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    result = ended(process.returncode, output, work)
    outcome = final_outcome(result.record, "store-calm-otter-1")
    assert outcome is not None
    assert (outcome.reason, result.code) == (Reason.CANCELED, 143)


def test_an_old_python_is_as_none(bare: Node, tmp_path: Path, code: Path) -> None:
    """Python 3.7 and older: the launcher itself hands over to the shell's."""
    wrapper = Path(bare.path) / "python3"
    wrapper.write_text(
        f"#!{BASH_PATH}\nexec {sys.executable} -c 'import sys, runpy; sys.version_info = (3, 7); "
        'sys.argv = sys.argv[6:]; runpy.run_path(sys.argv[0], run_name="__main__")\' "$@"\n'
    )
    wrapper.chmod(0o755)
    (code / "a.sh").write_text("exit 5\n")
    result = bare.run(make_task(tmp_path, ["a.sh"], code=code))
    assert result.code == 5, result.log
    assert result.record is not None
    assert result.record["origin"] == "executor"


BASH_PATH = shutil.which("bash") or "/bin/bash"


# -- figures --------------------------------------------------------------------------------------------------------


def test_it_is_quick(node: Node, tmp_path: Path) -> None:
    """Loose on purpose, and processor time: a busy machine must not fail it, an accidental half second must."""
    work, argv, env = node.prepare(make_task(tmp_path, ["bash", "-c", ":"]))
    best = min(_seconds(argv, work, env) for _ in range(5))
    assert best < 0.5, f"{best:.3f} s"


def _seconds(argv: list[str], work: Path, env: dict[str, str]) -> float:
    """Of the processor, for the job and all that it started."""
    copy = work.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(work, copy)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, cwd=copy, env=env, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
