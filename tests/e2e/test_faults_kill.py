"""Our own processes killed with -9 at random moments: no run is lost, runs twice or for ever, and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import eventually
from tests.contract.helpers import no_secrets_left, pids, running_with
from tests.e2e.phases import PHASES, Submit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Cli

_SEED = int(os.environ.get("RUNNER_FAULT_SEED", "20261121"))
_RUNS = 25

# Says that it has started, in a way that works through a read-only mount: a datagram to the test's socket.
_SCRIPT = """
import os, socket, sys, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mark:
    mark.sendto(os.environ["RUNNER_RUN"].encode(), os.environ["RUNNER_INPUT_MARKS"] + "/s")
print("began", flush=True)
time.sleep(float(sys.argv[2]))
with open("outputs/left", "w") as file:
    file.write(os.environ["RUNNER_RUN"])
print("ended", flush=True)
sys.exit(int(sys.argv[1]))
"""


@dataclass(frozen=True)
class Plan:
    """What is done to one run.

    kill_command: the phase in which the command is killed, and seconds from when that is seen. kill_supervisor: seconds from
    when it is seen.
    """

    name: str
    code: int
    length: float
    secret: bool
    wait: bool
    kill_command: tuple[str, float] | None
    kill_supervisor: float | None


def _plans(seed: int) -> list[Plan]:
    dice = random.Random(seed)
    plans = []
    for number in range(_RUNS):
        victim = dice.choice(("command", "supervisor", "supervisor", "both"))
        plans.append(
            Plan(
                name=f"r{number}",
                code=dice.choice((0, 3, 7)),
                length=dice.choice((0.0, 0.1, 0.4)),
                secret=dice.random() < 0.3,
                wait=dice.random() < 0.5,
                kill_command=(
                    dice.choice((*PHASES, "accepted", "supervised")),
                    dice.choice((0.0, dice.uniform(0, 0.2))),
                )
                if victim != "supervisor"
                else None,
                kill_supervisor=dice.choice((0.0, dice.uniform(0, 0.05), dice.uniform(0, 0.8)))
                if victim != "command"
                else None,
            )
        )
    return plans


class Marks:
    """Counts how often the script of each run has started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "s"))
        (folder / "s").chmod(0o777)
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self) -> None:
        while name := self._socket.recv(200).decode():
            self.counts[name] += 1

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(self.folder / "s"))
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def marks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marks]:
    folder = tmp_path_factory.mktemp("m")  # short: a socket's path has at most 107 bytes
    folder.chmod(0o755)
    marks = Marks(folder)
    yield marks
    marks.close()


def _attack(cli: Cli, where: list[str], script: Path, marks: Marks, plan: Plan) -> None:
    """Submit one run and kill what the plan says, when it says so."""
    options = [*where, "--name", plan.name, "--input", f"marks={marks.folder}"]
    options += ["--secret", "TOKEN"] if plan.secret else []
    options += ["--wait"] if plan.wait else []
    command = cli.start("submit", script, *options, "--", str(plan.code), str(plan.length), env={"TOKEN": "x" * 40})
    killer = threading.Thread(target=_kill_supervisor, args=(cli.home, plan, command.pid))
    killer.start()
    if plan.kill_command is not None:
        phase, delay = plan.kill_command
        submit = Submit(cli.home, plan.name, command.pid)
        eventually(lambda: command.poll() is not None or PHASES[phase](submit), f"{plan} is {phase}")
        with suppress(subprocess.TimeoutExpired):
            command.wait(delay)
        command.kill()
    killer.join()
    command.communicate(timeout=90)


def _kill_supervisor(home: Path, plan: Plan, command: int) -> None:
    """Wait until the command has forked a supervisor, and kill that at the planned moment."""
    if plan.kill_supervisor is None:
        return
    end = time.monotonic() + 60
    lock = home / "runs" / plan.name / "lock"
    found: list[int] = []
    while not found:
        if time.monotonic() > end or not Path(f"/proc/{command}/exe").exists():
            return  # the command was killed first, or the run was quicker than we are
        if lock.exists():
            found = _forked(home, plan.name, command)
        time.sleep(0.002)
    time.sleep(plan.kill_supervisor)  # the random moment itself: there is no state to wait for
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _forked(home: Path, name: str, command: int) -> list[int]:
    """The command's forks, by the command line that they share with it. Cheaper than to look for who holds the lock.

    Not their own forks, which share it until they have become something else: the process that copies the log is not what is
    to be killed here, and a script that cannot write its log ends of that.
    """
    words = f"\0--name\0{name}\0".encode()
    found: dict[int, int] = {}
    for pid in pids():
        with suppress(OSError):
            folder = Path("/proc", str(pid))
            if pid == command or words not in (folder / "cmdline").read_bytes():
                continue
            if f"RUNNER_HOME={home}\0".encode() in (folder / "environ").read_bytes():
                found[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return [pid for pid, parent in found.items() if parent not in found]


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_killed_at_random_moments(
    cli: Cli, where: list[str], script: Callable[[str, str], Path], marks: Marks, part: int
) -> None:
    seed = _SEED + part + 100 * len(where)
    path = script("once.py", _SCRIPT)
    plans = _plans(seed)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda plan: _attack(cli, where, path, marks, plan), plans))
    rows = {row["name"]: row for row in cli("list", "--limit", "100", "--json").json}
    done = cli("wait", *rows, "--json", timeout=120)
    ended = {row["name"]: row for row in done.json}
    problems = []
    for plan in plans:
        if plan.name in ended:
            problems += [f"{plan}: {text}" for text in _untrue(cli, plan, ended[plan.name], marks.counts[plan.name])]
        elif marks.counts[plan.name]:
            problems.append(f"{plan}: ran, and was never accepted")
        if plan.name not in ended and plan.kill_command is None:
            problems.append(f"{plan}: the command was not killed, and the run is not there")
    assert not problems, f"seed {seed}:\n" + "\n".join(problems)
    assert len(ended) > _RUNS // 3, "many runs are killed after they were accepted, or this test tests nothing"
    assert _left(cli) == [], f"seed {seed}"


def _untrue(cli: Cli, plan: Plan, row: dict[str, Any], count: int) -> Iterator[str]:
    """What is wrong with the story of a run."""
    if plan.secret and row["reason"] == "SecretMissing":  # the supervisor was killed before it had handed it over
        if count:
            yield f"the script ran {count} times without its secret"
        return
    wanted = ("NonZeroExit" if plan.code else "Completed", plan.code, plan.code)
    seen = (row["reason"], row["exit_code"], row["process_exit"])
    if seen != wanted:
        yield f"{seen} and not {wanted}: {row['message']}"
    if count != 1:
        yield f"the script ran {count} times"
    folder = cli.home / "runs" / plan.name / "attempts" / "1"
    log = (folder / "log").read_bytes() if (folder / "log").exists() else None
    if log != b"began\nended\n":
        yield f"the log is {log!r}"
    if not (folder / "artifacts" / "outputs" / "left").exists():
        yield "the outputs are not there"


def _left(cli: Cli) -> list[str]:
    """What is left that nothing needs; the fixture `home` looks after supervisors and containers."""
    from runner.store import Store

    store = Store(cli.home)
    own = store.id
    store.close()
    left = [str(path) for path in cli.home.glob("runs/*/attempts/*/box")]
    left += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/runner-{own}-*")]
    left += [f"process {pid}" for pid in running_with(f"RUNNER_KEY={own}-")]
    left += [] if no_secrets_left(cli.home) else ["secrets"]
    return left


@pytest.mark.slow
def test_fifty_submits_at_once_on_a_fresh_store(cli: Cli, script: Callable[[str, str], Path]) -> None:
    path = script("a.sh", 'echo "$1"; exit $(( $1 % 3 ))\n')
    started = [cli.start("submit", path, "--backend", "process", "--json", "--", str(number)) for number in range(50)]
    errors = []
    for process in started:
        _, err = process.communicate(timeout=120)
        if process.returncode:
            errors.append(err.decode())
    assert not errors, errors[0]
    rows = cli("list", "--limit", "100", "--json").json
    assert len(rows) == len({row["name"] for row in rows}) == 50
    done = cli("wait", *(row["name"] for row in rows), "--json")
    assert {(row["argv"][1], row["exit_code"]) for row in done.json} == {(str(n), n % 3) for n in range(50)}
