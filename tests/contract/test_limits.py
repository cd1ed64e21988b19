"""Rows 4-10 and 17 of the status contract: memory, time, cancel, leftovers, retries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.run import Run
from runner.store import Store
from tests.conftest import eventually
from tests.contract.helpers import running_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.backends.base import Capabilities
    from tests.conftest import Cli
    from tests.contract.helpers import Api

_SLEEP = "import time\nprint('ready', flush=True)\ntime.sleep(300)\n"
_DEAF = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(300)\n"
)
_POLITE = (
    "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[1])))\n"
    "print('ready', flush=True)\ntime.sleep(300)\n"
)


def _started(api: Api, script: Path, *args: str, **options: Any) -> str:
    name = api.submit(script, *args, **options)
    eventually(lambda: b"ready" in api.log(name), "the script has started")
    return name


# -- memory ---------------------------------------------------------------------------------------------------------


def _needs_memory(can: Capabilities) -> None:
    if not can.memory:
        pytest.skip("this backend cannot hold a memory limit here")


def test_out_of_memory(api: Api, can: Capabilities, script: Callable[[str, str], Path]) -> None:
    _needs_memory(can)
    row = api.run(script("eat.py", "print('eating', flush=True)\nx = b'x' * (400 << 20)\n"), memory="64m")
    seen = {key: row[key] for key in ("status", "reason", "exit_code", "signal", "process_exit", "retryable")}
    assert seen == {
        "status": "Failed",
        "reason": "OutOfMemory",
        "exit_code": None,
        "signal": "SIGKILL",
        "process_exit": 137,
        "retryable": False,
    }
    assert row["oom_kills"] >= 1
    assert "limit 64 MiB" in row["message"]


def test_a_child_out_of_memory_is_a_warning_when_the_script_survives(
    api: Api, can: Capabilities, script: Callable[[str, str], Path]
) -> None:
    _needs_memory(can)
    text = (
        "import subprocess, sys\n"
        "code = subprocess.call([sys.executable, '-c', \"x = b'x' * (400 << 20)\"])\n"
        "print('child', code)\nsys.exit(int(sys.argv[1]))\n"
    )
    path = script("parent.py", text)
    for code, reason in ((0, "Completed"), (3, "NonZeroExit")):
        row = api.run(path, str(code), memory="64m")
        assert (row["reason"], row["exit_code"], row["signal"]) == (reason, code, None)
        assert row["oom_kills"] == 1
        assert row["warnings"] == ["1 process OOM-killed"]
        assert api.log(row["name"]) == b"child -9\n"


def test_a_kill_without_memory_pressure_is_not_called_out_of_memory(
    api: Api, can: Capabilities, script: Callable[[str, str], Path]
) -> None:
    _needs_memory(can)
    row = api.run(script("die.sh", "kill -9 $$\n"), memory="64m")
    assert (row["reason"], row["signal"], row["oom_kills"]) == ("Signaled", "SIGKILL", 0)


# -- time -----------------------------------------------------------------------------------------------------------


def test_timeout_honoured(api: Api, script: Callable[[str, str], Path]) -> None:
    row = api.run(script("sleep.py", _SLEEP), timeout="1s")
    assert (row["status"], row["reason"], row["process_exit"]) == ("Failed", "Timeout", 124)
    assert (row["exit_code"], row["signal"], row["message"]) == (None, "SIGTERM", "timed out after 1 s")
    assert 1.0 <= row["elapsed_s"] < 10


def test_timeout_ignored_is_escalated(api: Api, script: Callable[[str, str], Path]) -> None:
    row = api.run(script("deaf.py", _DEAF), timeout="1s", grace="1s")
    assert (row["reason"], row["process_exit"], row["signal"]) == ("Timeout", 124, "SIGKILL")
    assert row["message"] == "timed out after 1 s (needed SIGKILL)"


def test_timeout_that_the_script_answers_with_zero_is_a_timeout(api: Api, script: Callable[[str, str], Path]) -> None:
    row = api.run(script("polite.py", _POLITE), "0", timeout="1s")
    assert (row["reason"], row["process_exit"], row["exit_code"], row["status"]) == ("Timeout", 124, 0, "Failed")


# -- cancel ---------------------------------------------------------------------------------------------------------


def test_cancel_while_running(cli: Cli, api: Api, can: Capabilities, script: Callable[[str, str], Path]) -> None:
    name = _started(api, script("sleep.py", _SLEEP))
    done = cli("cancel", name)
    assert done.code == 0
    grace = "" if can.remote else " (grace 10 s)"  # elsewhere the service decides, and nothing is promised
    assert f"asked to end{grace}." in done.out
    row = api.ended(name)
    assert (row["status"], row["reason"], row["signal"], row["process_exit"]) == (
        "Canceled",
        "Canceled",
        "SIGTERM",
        143,
    )
    assert row["cancel"]["signal"] == "SIGTERM"
    assert row["cancel"]["escalated"] is False
    assert row["message"] == "canceled (SIGTERM)"
    assert cli("wait", name).code == 143


def test_cancel_answered_with_an_exit_code(api: Api, cli: Cli, script: Callable[[str, str], Path]) -> None:
    path = script("polite.py", _POLITE)
    for code in (0, 5):
        name = _started(api, path, str(code))
        cli("cancel", name)
        row = api.ended(name)
        assert (row["reason"], row["exit_code"], row["signal"], row["process_exit"]) == ("Canceled", code, None, 143)
        assert row["message"] == f"canceled (SIGTERM); script exited {code}"


def test_cancel_ignored_is_escalated(api: Api, cli: Cli, script: Callable[[str, str], Path]) -> None:
    name = _started(api, script("deaf.py", _DEAF), grace="1s")
    cli("cancel", name)
    row = api.ended(name)
    assert (row["reason"], row["signal"], row["process_exit"]) == ("Canceled", "SIGKILL", 137)
    assert row["cancel"]["escalated"] is True
    assert row["message"] == "canceled (SIGTERM); killed after 1 s"


def test_cancel_in_the_breath_of_the_submit(api: Api, script: Callable[[str, str], Path]) -> None:
    """However early it comes, it is neither lost nor late: a container's first process is deaf while it starts."""
    path = script("sleep.py", _SLEEP)
    names = [api.submit(path, cancel=True, grace="30s") for _ in range(5)]
    for name in names:
        row = api.ended(name, timeout=25)  # well below the grace, after which it would be killed
        assert (row["status"], row["reason"]) == ("Canceled", "Canceled")
        assert row["cancel"]["by"] == "test"
        assert row["cancel"]["escalated"] is False
        assert row["process_exit"] == 143


def test_cancel_at_many_moments_of_the_start(api: Api, script: Callable[[str, str], Path]) -> None:
    path = script("sleep.py", _SLEEP)
    for step in range(8):
        name = api.submit(path, grace="30s")
        store = Store(api.home)
        deadline = time.monotonic() + step * 0.05
        while time.monotonic() < deadline:
            api.row(name)
        Run(store, name).cancel("test")
        store.close()
        row = api.ended(name, timeout=25)
        assert (row["reason"], row["cancel"]["escalated"]) == ("Canceled", False)


def test_cancel_after_the_end_changes_nothing(api: Api, cli: Cli, script: Callable[[str, str], Path]) -> None:
    row = api.run(script("leave.sh", "exit 3\n"))
    done = cli("cancel", row["name"])
    assert done.code == 0
    assert "had ended already" in done.out
    assert api.row(row["name"]) == row


# -- leftovers ------------------------------------------------------------------------------------------------------


def test_a_daemon_that_the_script_leaves_is_stopped_and_counted(api: Api, script: Callable[[str, str], Path]) -> None:
    text = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        open('outputs/up', 'w').close()\n"
        "        time.sleep(300)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "while not os.path.exists('outputs/up'): time.sleep(0.01)\n"
    )
    row = api.run(script("daemon.py", text), env={"LEFT_BY": "daemon-of-contract"})
    assert (row["reason"], row["exit_code"]) == ("Completed", 0)
    assert row["warnings"] == ["1 process was still running and was stopped"]
    assert running_with(f"RUNNER_RUN={row['name']}") == []


def test_a_thousand_children_are_reaped(api: Api, script: Callable[[str, str], Path]) -> None:
    text = "import os\nfor n in range(1000):\n    if os.fork() == 0: os._exit(0)\nprint('forked', flush=True)\n"
    row = api.run(script("many.py", text))
    assert (row["reason"], row["warnings"]) == ("Completed", [])


# -- retries --------------------------------------------------------------------------------------------------------


def test_the_scripts_own_failure_is_not_retried(api: Api, script: Callable[[str, str], Path]) -> None:
    row = api.run(script("leave.sh", "exit 3\n"), retries=2)
    assert (row["exit_code"], row["attempts"]) == (3, 1)


def test_retry_on_a_named_reason(api: Api, cli: Cli, script: Callable[[str, str], Path]) -> None:
    text = "import os, sys\nn = int(os.environ['RUNNER_ATTEMPT'])\nprint('attempt', n)\n"
    text += "open(f'outputs/{n}', 'w').close()\nsys.exit(0 if n == 3 else 9)\n"
    row = api.run(script("third.py", text), retries=3, retry_on=["NonZeroExit"])
    assert (row["reason"], row["attempts"], row["process_exit"]) == ("Completed", 3, 0)
    name = row["name"]
    assert [cli("logs", name, "--attempt", str(n)).out for n in (1, 2, 3)] == [f"attempt {n}\n" for n in (1, 2, 3)]
    assert cli("logs", name).out == "attempt 3\n"
    assert cli("logs", name, "--follow").out == "attempt 1\nattempt 2\nattempt 3\n"
    assert cli("logs", name, "--attempt", "4").code == 4
    shown = cli.row(name)
    assert [one["outcome"]["exit_code"] for one in shown["attempt_list"]] == [9, 9, 0]
    assert [one["path"] for one in shown["outputs"]] == ["outputs/3"]


def test_retries_end(api: Api, script: Callable[[str, str], Path]) -> None:
    row = api.run(script("leave.sh", "exit 3\n"), retries=1, retry_on=["nonzeroexit"])
    assert (row["reason"], row["exit_code"], row["attempts"]) == ("NonZeroExit", 3, 2)


def test_a_cancel_between_attempts_ends_the_run(api: Api, cli: Cli, script: Callable[[str, str], Path]) -> None:
    name = api.submit(script("leave.sh", "exit 3\n"), retries=9, retry_on=["NonZeroExit"])
    eventually(lambda: api.row(name)["attempts"] >= 3, "the third attempt")
    cli("cancel", name)
    row = api.ended(name)
    assert row["attempts"] < 9
    assert row["status"] in {"Canceled", "Failed"}  # Failed only where the attempt in flight ended by itself
    assert row["reason"] in {"Canceled", "NonZeroExit"}
