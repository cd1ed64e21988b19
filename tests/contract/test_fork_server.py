"""Backend process starts the first bootstrapper of a supervisor as a program, and forks the others; no step can tell."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.backends.forks import ForkServer
from runner.model import Limits, Reason, Status
from runner.plan import Plan, Pool
from runner.run import Run
from runner.store import Store
from runner.supervisor import ensure
from tests.conftest import eventually
from tests.contract.helpers import pids, steps, supervisors
from tests.plans import bash, start

if TYPE_CHECKING:
    from runner.model import Outcome
    from runner.plan import PlanStep

_FACTS = """
env | sort
grep -E '^(SigBlk|SigIgn|SigCgt|Umask|NoNewPrivs|Seccomp|Cpus_allowed_list)' /proc/self/status
cd /proc/self/fd; for fd in *; do echo "$fd"; done; cd "$OLDPWD"
ps -o sid=,pgid= -p $$ | awk -v pid=$$ '{print $1 == pid, $2 == pid}'
ulimit -a; nice; pwd; cat
"""


def _start(store: Store, *given: PlanStep, at_once: int = 1, go_on: bool = False) -> Run:
    placed = tuple(replace(each, compute="pool") for each in given)
    pools = {"pool": Pool(cpus=float(at_once), instances=at_once)}
    return Run(store, start(store, Plan(placed, pools=pools, continue_on_step_failure=go_on), backend="process"))


def _servers(home: Path, name: str) -> list[int]:
    """The fork servers of the run's supervisor, without what they have forked."""
    parents = supervisors(home, name)
    found = []
    for pid in pids():
        with suppress(OSError):
            folder = Path("/proc", str(pid))
            if b"forkserver.py" in (folder / "cmdline").read_bytes():
                state, parent = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
                if int(parent) in parents and state != "Z":
                    found.append(pid)
    return found


def _text(run: Run, step: str) -> str:
    return b"".join(run.logs(step=step)).decode()


def test_a_forked_step_finds_what_a_spawned_one_finds(home: Path) -> None:
    facts = [bash(name, _FACTS, limits=Limits(grace_s=5)) for name in ("alpha", "bravo")]
    run = _start(Store(home), *facts)
    assert run.wait(60).reason is Reason.COMPLETED
    spawned, forked = (_text(run, name) for name in ("alpha", "bravo"))
    ident = {name: _value(text, "MLFLOW_RUN_ID") for name, text in (("alpha", spawned), ("bravo", forked))}
    assert forked.replace("bravo", "alpha").replace(ident["bravo"], ident["alpha"]) == spawned
    assert "PYTHONUNBUFFERED=1" in forked


def _outcomes(home: Path, run: Run) -> dict[str, Outcome]:
    return {name: row.outcome for name, row in steps(home, run.name).items() if row.outcome is not None}


def _value(text: str, name: str) -> str:
    return next(line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}="))


def test_a_server_that_is_killed_takes_nothing_with_it(home: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"until test -e {go}; do sleep 0.05; done; exit 7"
    run = _start(Store(home), bash("a", "true"), bash("b", wait), bash("c", "echo c"), bash("d", "echo d"), go_on=True)
    eventually(lambda: steps(home, run.name)["b"].status is Status.RUNNING, "the forked step runs")
    (server,) = _servers(home, run.name)
    os.kill(server, signal.SIGKILL)
    eventually(lambda: not _servers(home, run.name), "the server is gone")
    go.touch()
    run.wait(60)
    outcomes = _outcomes(home, run)
    assert outcomes["b"].reason is Reason.NON_ZERO_EXIT
    assert outcomes["b"].exit_code == 7, "by its record, which its bootstrapper lived to write"
    assert {outcomes[name].reason for name in "acd"} == {Reason.COMPLETED}
    assert [row.attempts for row in steps(home, run.name).values()] == [1] * 4


def test_it_goes_with_its_supervisor_and_the_step_goes_on(home: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    store = Store(home)
    run = _start(store, bash("a", "true"), bash("b", f"until test -e {go}; do sleep 0.05; done"), bash("c", "true"))
    eventually(lambda: steps(home, run.name)["b"].status is Status.RUNNING, "the forked step runs")
    (server,) = _servers(home, run.name)
    for pid in supervisors(home, run.name):
        if pid != os.getpid():
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{server}").exists() or _state(server) == "Z", "the server has ended")
    eventually(lambda: not supervisors(home, run.name), "the run's lock is free")
    ensure(store, run.row)
    go.touch()
    assert run.wait(60).reason is Reason.COMPLETED
    assert [row.attempts for row in steps(home, run.name).values()] == [1] * 3


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_killed_bootstrapper_is_told_the_same_however_it_was_started(home: Path) -> None:
    run = _start(Store(home), *(bash(name, "kill -9 $PPID; sleep 60") for name in ("a", "b")), go_on=True)
    run.wait(60)
    spawned, forked = (replace(each, started=None, finished=None) for each in _outcomes(home, run).values())
    assert spawned.reason is not Reason.COMPLETED
    assert forked == spawned


def test_a_server_that_hangs_is_given_up_with_what_it_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that a request holds in the socket is free again, so that the task can be started by other means."""
    import fcntl

    monkeypatch.setattr("runner.backends.forks._ANSWER_S", 0.2)
    server = ForkServer(tmp_path / "never read")
    os.kill(server.pid, signal.SIGSTOP)
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert server.start(["--", "true"], {}, cwd=str(tmp_path), log=log, lock=lock) is None
    assert not server.alive
    os.close(lock)
    os.close(log)
    again = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again)
