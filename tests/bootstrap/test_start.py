"""Rows 11-15: what cannot be started, and why; and which interpreter runs what."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from tests.bootstrap.conftest import Run

SH = shutil.which("sh") or "/bin/sh"
# Says its own name and its arguments, one a line: stands for programs that are not on every machine.
ECHO = f'#!{SH}\nprintf "%s\\n" "${{0##*/}}" "$@"\n'


def program(folder: Path, name: str, text: str = ECHO) -> Path:
    """An executable file."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def failed(reason: str, px: int) -> tuple[Any, ...]:
    """The row of an attempt whose script never ran."""
    return ("Failed", reason, None, None, px)


@pytest.mark.parametrize("name", ["gone.py", "gone.R", "sub/gone.sh", "./gone", "/nowhere/gone", "x" * 300 + ".py"])
def test_row_11_script_missing(run: Run, mode: str, name: str) -> None:
    result = run(name, mode=mode)
    assert result.row() == failed("ScriptNotFound", 127)
    assert result.record["message"] == f"no such script: {name}"
    assert result.stderr.decode() == f"runner: no such script: {name}\n"
    assert result.record["retryable"] is False
    assert result.record["child_pid"] is None


def test_row_11_below_a_file(run: Run, work: Path) -> None:
    (work / "file").write_text("")
    assert run("file/script.py").row() == failed("ScriptNotFound", 127)


@pytest.mark.parametrize("name", ["table.csv", "README", "script.py.bak"])
def test_row_12_not_a_script(run: Run, mode: str, work: Path, name: str) -> None:
    (work / name).write_text("print(1)\n")
    result = run(name, mode=mode)
    assert result.row() == failed("UnsupportedScript", 126)
    assert result.record["message"].startswith(f"cannot run {name}: ")
    assert ".py" in result.record["message"]
    assert "#! line and the execute bit" in result.record["message"]


@pytest.mark.parametrize("name", ["code", "code.py", "./code"])
def test_row_12_a_folder(run: Run, work: Path, name: str) -> None:
    (work / name).mkdir()
    result = run(name)
    assert result.row() == failed("UnsupportedScript", 126)
    assert "it is a folder" in result.record["message"]


def test_row_12_a_fifo(run: Run, work: Path) -> None:
    os.mkfifo(work / "pipe.py")
    assert run("pipe.py").row() == failed("UnsupportedScript", 126)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("x.py", "python3"),
        ("x.R", "Rscript"),
        ("x.r", "Rscript"),
        ("x.sh", "bash"),
        ("x.bash", "bash"),
        ("x.jl", "julia"),
        ("x.js", "node"),
        ("x.pl", "perl"),
        ("x.ipynb", "papermill (with ipykernel)"),
        ("x.Rmd", "rmarkdown (with pandoc)"),
        ("x.qmd", "quarto"),
        ("frobnicate", "frobnicate"),
    ],
)
def test_row_13_interpreter_missing(run: Run, mode: str, work: Path, name: str, wanted: str) -> None:
    if "." in name:
        (work / name).write_text("")
    env = {"PATH": "/nowhere"}
    result = run(name, mode=mode, env=env)
    place = "in this image (add it in libs.yaml)"
    if mode == "plain":
        place = "on this machine (install it, or use a backend with an image)"
    assert result.row() == failed("InterpreterNotFound", 127)
    assert result.record["message"] == f"{wanted} is not {place}"


@pytest.mark.parametrize(("backend", "words"), [("process", "on this machine"), ("docker", "in this image")])
def test_row_13_names_the_place_by_backend(run: Run, mode: str, backend: str, words: str) -> None:
    result = run("frobnicate", mode=mode, env={"PATH": "/nowhere", "RUNNER_BACKEND": backend})
    assert f"frobnicate is not {words}" in result.record["message"]


def test_row_14_no_shebang(run: Run, mode: str, work: Path) -> None:
    program(work, "tool", "echo hi\n")
    result = run("./tool", mode=mode)
    assert result.row() == failed("ExecFailed", 126)
    assert result.record["message"].startswith("cannot start ./tool: ENOEXEC (Exec format error): it has no #! line")


@pytest.mark.parametrize("line", ["#!/bin/sh\r\n", "#!/usr/bin/env python3\r\n"])
def test_row_14_crlf_in_the_shebang(run: Run, work: Path, line: str) -> None:
    program(work, "tool").write_bytes(line.encode() + b"echo hi\r\n")
    result = run("tool")
    assert result.row() == failed("ExecFailed", 126)
    assert "ENOENT" in result.record["message"]
    assert "carriage return" in result.record["message"]


def test_row_14_byte_order_mark(run: Run, work: Path) -> None:
    program(work, "tool").write_bytes(b"\xef\xbb\xbf#!/bin/sh\necho hi\n")
    result = run("tool")
    assert result.row() == failed("ExecFailed", 126)
    assert "byte-order mark" in result.record["message"]


def test_row_14_bad_shebang(run: Run, work: Path) -> None:
    program(work, "tool", "#!/no/such/interpreter -x\n")
    result = run("tool")
    assert result.row() == failed("ExecFailed", 126)
    assert result.record["message"].endswith("its #! line names /no/such/interpreter")


def test_row_14_a_folder_mounted_noexec(run: Run, mount: Callable[..., Path], mode: str) -> None:
    tool = program(mount("noexec", "-t", "tmpfs", "-o", "noexec,size=64k", "tmpfs"), "tool")
    result = run(str(tool), mode=mode)
    # access(2) knows of noexec: to the caller the file is not executable.
    assert result.row() in (failed("ExecFailed", 126), failed("UnsupportedScript", 126))
    assert str(tool) in result.record["message"]


def test_row_14_interpreter_may_not_be_executed(run: Run, work: Path) -> None:
    (work / "interpreter").write_text("")
    program(work, "tool", f"#!{work}/interpreter\n")
    result = run("tool")
    assert result.row() == failed("ExecFailed", 126)
    assert "EACCES (Permission denied)" in result.record["message"]


@pytest.mark.parametrize("size", [131_072 - len("BIG=") - 1, 131_072 - len("BIG=")])
def test_row_14_one_variable_too_long(run: Run, tmp_path: Path, size: int) -> None:
    """A secret is the only thing that can be longer for the script than it was for the bootstrapper."""
    secrets = tmp_path / "secrets.json"
    secrets.write_text(f'{{"BIG": "{"x" * size}"}}')
    result = run("sh", "-c", "exit 5", options=["--secrets", str(secrets)])
    if size + len("BIG=") + 1 <= 131_072:
        assert result.row() == ("Failed", "NonZeroExit", 5, None, 5)
    else:
        assert result.row() == failed("ExecFailed", 126)
        assert "E2BIG (Argument list too long): variable BIG alone has 131073 bytes" in result.record["message"]


def test_row_14_one_argument_too_long_is_said(module: ModuleType) -> None:
    sentence = module.explain(7, "/bin/echo", ["echo", "x" * 200_000], {b"A": b"b"})
    assert "argument 1 alone has 200001 bytes, the kernel takes at most 128 KiB" in sentence
    assert "have 2102100 bytes together" in module.explain(7, "/bin/echo", ["x" * 1000] * 2100, {})


def test_row_14_unreadable_script(run: Run, work: Path, tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    if os.geteuid() != 0 or not Path(python).exists():
        pytest.skip("needs root to become somebody else, and a Python outside root's home")
    for folder in (*reversed(tmp_path.parents), tmp_path):
        if folder.stat().st_uid == 0 and folder.parts[:2] == ("/", "tmp") and len(folder.parts) > 2:
            folder.chmod(0o755)
    tmp_path.chmod(0o777)
    (work / "secret.py").write_text("print(1)\n")
    (work / "secret.py").chmod(0o600)
    result = run("secret.py", python=python, user=65534, group=65534, extra_groups=[])
    assert result.row() == failed("ExecFailed", 126)
    assert result.record["message"] == "cannot read secret.py: EACCES (Permission denied)"


def test_row_15_no_process_can_be_forked(run: Run, cgroup: Callable[..., Path], mode: str) -> None:
    folder = cgroup("pids", max=1)
    result = run("true", mode=mode, options=["--cgroup", str(folder)])
    assert result.row() == failed("BootstrapError", 125)
    assert "EAGAIN" in result.record["message"]
    assert result.record["retryable"] is True
    assert result.record["origin"] == "bootstrapper"


def test_row_15_no_such_cgroup(run: Run) -> None:
    result = run("true", options=["--cgroup", "/nowhere"])
    assert result.row() == failed("BootstrapError", 125)
    assert "/nowhere/cgroup.procs" in result.record["message"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--timeout", "soon"], "--timeout: expected a number of seconds, got 'soon'"),
        (["--timeout", "0"], "--timeout: expected a number of seconds, got '0'"),
        (["--timeout", "nan"], "--timeout: expected a number of seconds, got 'nan'"),
        (["--grace", "-1"], "--grace: expected a number of seconds, got '-1'"),
        (["--colour", "blue"], "unknown option --colour"),
        (["--output", "outputs"], "--output: expected FOLDER=DESTINATION"),
        (["--output", "../x=/tmp/y"], "--output: expected FOLDER=DESTINATION"),
        (["--output", "/abs=/tmp/y"], "--output: expected FOLDER=DESTINATION"),
        (["--output", ".=/tmp/y"], "--output: expected FOLDER=DESTINATION"),
        (["--attempt", "k" * 257], "--attempt: at most 256 characters"),
    ],
)
def test_row_15_bad_arguments(run: Run, mode: str, options: list[str], words: str) -> None:
    result = run("touch", "ran", options=options, mode=mode)
    assert result.row() == failed("BootstrapError", 125)
    assert result.record["message"].startswith("bad arguments: " + words)
    assert result.record["retryable"] is False
    assert result.record["origin"] == "bootstrapper"


@pytest.mark.parametrize("tail", [[], ["--"], ["--", ""], ["--timeout"]])
def test_row_15_no_command(python: str, installed: Path, tmp_path: Path, tail: list[str]) -> None:
    status = tmp_path / "status.json"
    argv = [python, "-I", "-S", str(installed), "--status", str(status), *tail]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "no command after --" in done.stderr
    assert '"reason": "BootstrapError"' in status.read_text()


def test_bad_arguments_leave_no_secrets_behind(run: Run, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text("{}")
    assert run("true", options=["--frob", "--secrets", str(secrets)]).code == 125
    assert not secrets.exists()


def test_contract_version(python: str, installed: Path, module: ModuleType) -> None:
    done = subprocess.run([python, "-I", "-S", str(installed), "--contract"], capture_output=True, check=True)
    assert done.stdout == b"%d\n" % module.CONTRACT == b"1\n"


def test_scripts_run_by_extension(run: Run, mode: str, work: Path) -> None:
    (work / "x.py").write_text("import sys; print(sys.argv[1:]); sys.exit(3)\n")
    (work / "x.sh").write_text('[[ $1 == a ]] && echo "$@"; exit 4\n')  # [[ is bash
    (work / "x.pl").write_text('print "@ARGV\\n"; exit 5;\n')
    assert run("x.py", "a", "b c", mode=mode).stdout == b"['a', 'b c']\n"
    assert run("x.sh", "a", "b c", mode=mode).stdout == b"a b c\n"
    assert run("x.sh", mode=mode).record["exit_code"] == 4
    if shutil.which("perl"):
        assert run("x.pl", "a", mode=mode).row() == ("Failed", "NonZeroExit", 5, None, 5)


def test_crlf_is_fine_in_python(run: Run, work: Path) -> None:
    (work / "x.py").write_bytes(b"\xef\xbb\xbfimport sys\r\nprint('ok')\r\n")
    assert run("x.py").stdout == b"ok\n"


def test_every_interpreter_gets_exactly_this(run: Run, work: Path, tmp_path: Path, module: ModuleType) -> None:
    bin_ = tmp_path / "bin"
    for name in ("python3", "Rscript", "bash", "julia", "node", "perl", "papermill", "quarto"):
        program(bin_, name)
    r = ["Rscript", "--no-site-file", "--no-environ", "--no-restore"]
    expected = {
        "a b.py": ["python3", "a b.py"],
        "a b.R": [*r, "a b.R"],
        "a b.r": [*r, "a b.r"],
        "a b.sh": ["bash", "a b.sh"],
        "a b.bash": ["bash", "a b.bash"],
        "a b.jl": ["julia", "a b.jl"],
        "a b.js": ["node", "a b.js"],
        "a b.pl": ["perl", "a b.pl"],
        "a b.ipynb": ["papermill", "a b.ipynb", "outputs/a b.ipynb"],
        "a b.Rmd": [*r, "-e", module.RENDER, "a b.Rmd"],
        "a b.qmd": ["quarto", "render", "a b.qmd", "--output-dir", "outputs"],
        "-e.py": ["python3", "./-e.py"],
    }
    for name, argv in expected.items():
        (work / name).write_text("")
        result = run(name, "1", env={"PATH": str(bin_)})
        assert result.stdout.decode().splitlines() == [*argv, "1"]
        assert result.record["warnings"] == []
    assert (work / "outputs").is_dir()


def test_second_choices(run: Run, work: Path, tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    for name in ("sh", "jupyter"):
        program(bin_, name)
    for name in ("x.sh", "x.ipynb"):
        (work / name).write_text("")
    result = run("x.sh", env={"PATH": str(bin_)})
    assert result.stdout == b"sh\nx.sh\n"
    assert result.record["warnings"] == ["bash is not here: the script was run by sh"]
    assert run("x.ipynb", env={"PATH": str(bin_)}).stdout.split() == [
        *b"jupyter nbconvert --to notebook --execute --output-dir=outputs --output=x.ipynb x.ipynb".split()
    ]


def test_rmarkdown_missing_is_row_13(run: Run, work: Path, tmp_path: Path) -> None:
    (work / "x.Rmd").write_text("---\ntitle: x\n---\n")
    program(tmp_path / "bin", "Rscript", f"#!{SH}\nexit 127\n")
    result = run("x.Rmd", env={"PATH": str(tmp_path / "bin")})
    assert result.row() == failed("InterpreterNotFound", 127)
    assert result.record["message"].startswith("rmarkdown (with pandoc) is not")


def test_command_for_is_pure(module: ModuleType) -> None:
    assert module.command_for(["bash", "-c", "x"]) == ["bash", "-c", "x"]
    assert module.command_for(["x.sh", "1"]) == ["bash", "x.sh", "1"]
    assert module.command_for(["x.sh", "1"], lambda name: name == "sh") == ["sh", "x.sh", "1"]
    assert module.command_for(["x.qmd"], lambda name: name == "Rscript")[-1] == "x.qmd"


def test_shebang_and_execute_bit(run: Run, mode: str, work: Path) -> None:
    program(work, "tool")
    assert run("./tool", "a b", mode=mode).stdout == b"tool\na b\n"
    assert run("tool", mode=mode).stdout == b"tool\n"


def test_a_plain_program_is_found_on_the_scripts_path(run: Run, work: Path, tmp_path: Path) -> None:
    (work / "tool").write_text("only data, and not executable\n")
    program(tmp_path / "bin", "tool")
    assert run("tool", env={"PATH": str(tmp_path / "bin")}).stdout == b"tool\n"
    assert run("true", env={}).row() == ("Completed", "Completed", 0, None, 0)


@pytest.mark.parametrize("extension", [".py", ".sh", ""])
def test_hostile_names(run: Run, mode: str, work: Path, hostile: str, extension: str) -> None:
    text = {".py": "import sys; print(sys.argv[1])", ".sh": 'echo "$1"', "": '#!/bin/sh\necho "$1"'}[extension]
    program(work, hostile + extension, text + "\n")
    result = run(hostile + extension, hostile, mode=mode, env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert result.stdout.decode() == hostile + "\n"
    assert result.record["reason"] == "Completed"


def test_file_names_that_are_not_utf_8(run: Run, work: Path) -> None:
    name = os.fsdecode(b"caf\xe9.sh")
    (work / name).write_text("echo ok\n")
    assert run(name).stdout == b"ok\n"
    assert run(os.fsdecode(b"gone\xe9.sh")).record["message"] == "no such script: gone?.sh"


def test_syntax_is_that_of_python_3_8(module: ModuleType) -> None:
    import ast

    assert module.__file__ is not None
    ast.parse(Path(module.__file__).read_text(), feature_version=(3, 8))


def test_the_usual_path_imports_nothing_dear(python: str, installed: Path, tmp_path: Path) -> None:
    argv = [
        python,
        "-I",
        "-S",
        "-X",
        "importtime",
        str(installed),
        "--status",
        str(tmp_path / "s"),
        "--",
        "true",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "_signal" in loaded
    assert not loaded & {"json", "enum", "re", "subprocess", "argparse", "signal", "shutil", "pathlib", "typing"}


def test_signal_names_are_known(module: ModuleType) -> None:
    for number in signal.Signals:
        assert module.signal_name(int(number)) in (number.name, "SIGABRT", "SIGIO")
    assert module.signal_name(36) == "SIGRTMIN+2"
