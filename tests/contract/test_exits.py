"""Rows 1-4 and 11-14 of the status contract: every way in which a script can end by itself, or fail to start."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.backends.base import Capabilities
    from tests.conftest import Cli
    from tests.contract.helpers import Api

_FATAL = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV",
    "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR",
    "SIGSYS", "SIGRTMIN", "SIGRTMAX",
]  # fmt: skip
_SPECIAL = {1, 2, 124, 125, 127, 128, 130, 137, 139, 143, 255}


@pytest.mark.parametrize("first", range(0, 256, 64))
def test_every_exit_code_arrives_unchanged(
    api: Api, can: Capabilities, script: Callable[[str, str], Path], first: int
) -> None:
    codes = list(range(first, first + 64))
    if can.remote and not EVERYTHING:
        # The bootstrapper that reads the code is the same there, and each needs a job: every seventh, and those that mean
        # something to somebody on the way.
        codes = [code for code in codes if code % 7 == 0 or code in _SPECIAL]
    rows = api.all(script("leave.sh", 'exit "$1"\n'), map(str, codes), at_once=4 if can.images else 2)
    for code, row in zip(codes, rows, strict=True):
        seen = {
            key: row[key] for key in ("exit_code", "process_exit", "status", "reason", "signal", "origin", "attempts")
        }
        assert seen == {
            "exit_code": code,
            "process_exit": code,
            "status": "Failed" if code else "Completed",
            "reason": "NonZeroExit" if code else "Completed",
            "signal": None,
            "origin": "script",
            "attempts": 1,
        }
        assert row["message"] == (f"script exited with code {code}" if code else "")
        assert row["warnings"] == []


@pytest.mark.parametrize("code", [0, 1, 2, 125, 130, 137, 143, 255])
def test_submit_wait_exits_as_the_script_did(
    cli: Cli, where: list[str], script: Callable[[str, str], Path], code: int
) -> None:
    path = script("leave.sh", 'echo "out $1"; exit "$1"\n')
    done = cli("submit", path, *where, "--wait", "--name", "it", "--", str(code))
    assert done.code == code, done.err
    assert done.out == f"out {code}\n"


def test_wait_exits_as_the_first_that_failed_in_argument_order(
    cli: Cli, where: list[str], script: Callable[[str, str], Path]
) -> None:
    path = script("leave.sh", 'exit "$1"\n')
    for code in (0, 7, 9):
        cli("submit", path, *where, "--name", f"r{code}", "--", str(code))
    done = cli("wait", "r0", "r9", "r7", "--json")
    assert done.code == 9
    assert [(row["name"], row["exit_code"]) for row in done.json] == [("r0", 0), ("r9", 9), ("r7", 7)]
    assert cli("wait", "r0").code == 0


def test_every_fatal_signal_is_named_and_is_no_exit_code(
    api: Api, can: Capabilities, script: Callable[[str, str], Path]
) -> None:
    text = "import os, resource, signal, sys\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    text += "n = int(sys.argv[1])\nif n not in (9, 19): signal.signal(n, signal.SIG_DFL)\nos.kill(os.getpid(), n)\n"
    text += "signal.pause()\n"
    numbers = [int(getattr(signal, name)) for name in _FATAL]
    rows = api.all(script("die.py", text), map(str, numbers), at_once=4 if can.remote else 2)
    for name, number, row in zip(_FATAL, numbers, rows, strict=True):
        seen = {key: row[key] for key in ("reason", "signal", "exit_code", "process_exit", "status", "oom_kills")}
        assert seen == {
            "reason": "Signaled",
            "signal": name,
            "exit_code": None,
            "process_exit": 128 + number,
            "status": "Failed",
            "oom_kills": 0,
        }
        assert row["message"] == f"script was killed by {name}"


def test_a_signal_shows_in_the_exit_code_of_submit_wait(
    cli: Cli, where: list[str], script: Callable[[str, str], Path]
) -> None:
    done = cli("submit", script("die.sh", "ulimit -c 0; kill -SEGV $$\n"), *where, "--wait")
    assert done.code == 128 + signal.SIGSEGV
    assert "Failed · Signaled" in done.err
    assert "SIGSEGV" in done.err


@pytest.mark.parametrize(
    ("name", "text", "mode", "reason", "code", "words"),
    [
        ("a.jl", 'println("hi")\n', 0o644, "InterpreterNotFound", 127, ["julia", "is not"]),
        ("a.xyz", "hi\n", 0o644, "UnsupportedScript", 126, [".xyz", "not executable", ".py"]),
        ("noext", "echo hi\n", 0o644, "UnsupportedScript", 126, ["no extension", "not executable"]),
        ("tool", "#!/bin/sh\r\necho hi\r\n", 0o755, "ExecFailed", 126, ["ENOENT", "carriage return"]),
        ("envtool", "#!/usr/bin/env python3\r\nprint(1)\r\n", 0o755, "ExecFailed", 126, ["carriage return"]),
        ("bom", "\ufeff#!/bin/sh\necho hi\n", 0o755, "ExecFailed", 126, ["byte-order mark"]),
        ("plain", "echo hi\n", 0o755, "ExecFailed", 126, ["ENOEXEC", "#!"]),
        ("gone", "#!/no/such/interpreter\n", 0o755, "ExecFailed", 126, ["/no/such/interpreter"]),
    ],
)
def test_what_cannot_be_started_says_why(
    api: Api,
    script: Callable[[str, str], Path],
    name: str,
    text: str,
    mode: int,
    reason: str,
    code: int,
    words: list[str],
) -> None:
    path = script(name, "")
    path.write_bytes(text.encode())
    path.chmod(mode)
    row = api.run(path)
    assert (row["reason"], row["process_exit"], row["status"]) == (reason, code, "Failed")
    assert (row["exit_code"], row["signal"], row["retryable"]) == (None, None, False)
    assert not [word for word in words if word not in row["message"]], row["message"]


@pytest.mark.parametrize(
    ("name", "text", "out"),
    [
        ("bom.py", "\ufeffprint('hi')\n", b"hi\n"),
        ("crlf.py", "import sys\r\nprint('hi')\r\n", b"hi\n"),
        ("tool", "#!/bin/sh\necho hi\n", b"hi\n"),
        ("named.tool", "#!/usr/bin/env python3\nprint('hi')\n", b"hi\n"),
        ("a.bash", "[[ 1 == 1 ]] && echo hi\n", b"hi\n"),
    ],
)
def test_what_looks_odd_and_can_run_runs(
    api: Api, script: Callable[[str, str], Path], name: str, text: str, out: bytes
) -> None:
    path = script(name, "")
    path.write_bytes(text.encode())
    path.chmod(0o755)
    row = api.run(path)
    assert row["reason"] == "Completed", row["message"]
    assert api.log(row["name"]) == out
