"""What runner costs on Azure ML beside the SDK alone, both against the emulator, in turn.

By hand: `python -m tests.benchmarks.azure [submits|logs|polls|imports …]`. Seconds by the clock drift with the machine, so
the processor's are told beside them: of all processes of a side, up to the moment that the service has accepted.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from runner.backends.azureml import snapshot
from runner.backends.azureml.backend import AzureMLBackend
from runner.backends.azureml.target import Target
from runner.builder import build
from tests.benchmarks.azure_client import COMPUTE, composed
from tests.benchmarks.rows import RUNNER, Row, table
from tests.emulators.azureml.fixture import Doc, Service, running

NOTE = (
    "Against the emulator of this repository, which answers within milliseconds: what the service itself takes comes on top "
    "on both sides. The rival is a script with azure-ai-ml, the same job and the same snapshot, uploaded before. Medians of "
    "rounds in turn; `processor` is user and system time of all processes of a side until the job is accepted. `stream` is "
    "followed with account keys: with SAS, which a workspace has by default, 1.35 prints an error instead of the log."
)
ROUNDS, WARM_ROUNDS, POLLS = 5, 9, 200
LOG_BYTES, LOG_S, LINE = 20_000_000, 60, 100
ROOT = Path(__file__).resolve().parents[2]
CLIENT = [sys.executable, "-m", "tests.benchmarks.azure_client"]
_SUBREAPER = 36

Took = tuple[float, float]
"""Milliseconds by the clock, and of the processor."""


@dataclass(frozen=True)
class World:
    """An emulator, and a script that is submitted to it by a name that every engine would have to pull."""

    service: Service
    folder: Path
    image: str
    env: dict[str, str] = field(default_factory=dict)

    @property
    def code(self) -> Path:
        return self.folder / "code"

    @property
    def hello(self) -> list[str]:
        """The command that is measured."""
        return [*RUNNER, "submit", str(self.code / "hello.py"), "--compute", COMPUTE, "--image", self.image]

    def job_file(self) -> Path:
        """What runner sends for the script, as a job file with the same snapshot beside it."""
        env = self.service.env
        there = Target(env["AZURE_SUBSCRIPTION_ID"], env["AZURE_RESOURCE_GROUP"], env["AZURE_WORKSPACE"])
        backend = AzureMLBackend(there)
        task = composed(backend, self.folder / "boxes", self.code, self.image)
        snapshot.make(task)
        document = {key: value for key, value in backend.render(task).items() if key != "name"}
        backend.close()
        path = self.folder / "job.yml"
        path.write_text(json.dumps(document))
        return path


def rows(image: str, parts: Sequence[str] = ("submits", "logs", "polls", "imports")) -> list[Row]:
    """All rows; an emulator is started for them."""
    with tempfile.TemporaryDirectory(prefix="runner-bench-azure-") as name, world(Path(name), image) as made:
        return [row for part in parts for row in _PARTS[part](made)]


@contextmanager
def world(folder: Path, image: str) -> Iterator[World]:
    """Everything that the rows need."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)  # supervisors become our children, so that we see what they use
    pulled = f"registry.example.com/bench-{uuid.uuid4().hex[:8]}:1"
    subprocess.run(["docker", "tag", image, pulled], check=True)
    try:
        # In a repository the SDK asks git five things, and runner has it not do so.
        with running(folder / "emulator") as service, chdir(folder):
            (folder / "code").mkdir()
            (folder / "code" / "hello.py").write_text('print("hello, world")\n')
            env = {**os.environ, **service.env, "RUNNER_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
            yield World(service, folder, pulled, env)
    finally:
        subprocess.run(["docker", "rmi", "--no-prune", pulled], check=False, stdout=subprocess.DEVNULL)


# -- submit ---------------------------------------------------------------------------------------------------------


def submits(made: World) -> list[Row]:
    """From the command to the service's word, as whole processes, and with everything imported."""
    job = str(made.job_file())
    whole, script = _in_turn(
        lambda: _process(made.hello, made), lambda: _process([*CLIENT, "script", job], made), ROUNDS
    )
    given = [str(made.folder / "boxes"), str(made.code), made.image, job]
    with _serving(["submits", "runner", *given], made) as ours, _serving(["submits", "sdk", *given], made) as theirs:
        warm, rival = _in_turn(ours, theirs, WARM_ROUNDS)
    return [
        *_both("submit hello.py, whole process, until accepted", whole, "script with create_or_update", script),
        *_both("the same without start and imports", warm, "create_or_update(load_job(…))", rival),
    ]


def _both(what: str, ours: Took, name: str, rival: Took) -> list[Row]:
    return [
        Row(what, ours[0], name, rival[0], "≤ 1.1", ours[0] / rival[0] <= 1.1),
        Row(f"{what}: processor", ours[1], name, rival[1], "≤ 1.1", ours[1] / rival[1] <= 1.1),
    ]


def _in_turn(ours: Callable[[], Took], theirs: Callable[[], Took], rounds: int) -> tuple[Took, Took]:
    """Medians of both, after one warm-up each. Which one begins changes with every round."""
    found: tuple[list[Took], list[Took]] = ([], [])
    for number in range(rounds + 1):
        order = ((0, ours), (1, theirs))
        for place, one in order if number % 2 else reversed(order):
            took = one()
            if number:
                found[place].append(took)
    a, b = ([(statistics.median(column), min(column)) for column in zip(*each, strict=True)] for each in found)
    print(f"  median (least), clock and processor: {a} beside {b}; load {os.getloadavg()}", file=sys.stderr)
    return (a[0][0], a[1][0]), (b[0][0], b[1][0])


def _process(argv: Sequence[str], made: World) -> Took:
    """A whole command with the processes that it leaves behind, which have ended when this returns."""
    began = time.perf_counter()
    pid = os.posix_spawn(
        argv[0], list(argv), made.env,
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)],
    )  # fmt: skip
    _, status, usage = os.wait4(pid, 0)
    took = time.perf_counter() - began
    left = _children()
    used = usage.ru_utime + usage.ru_stime + sum(_used(child) for child in left)
    assert status == 0, argv
    for child in left:
        os.waitpid(child, 0)
    return took * 1000, used * 1000


def _children() -> list[int]:
    """Orphans that came to us: supervisors. The emulator is in no case among them: it is of a process that goes on."""
    found = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return [int(pid) for pid in found if b"submit" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _used(pid: int) -> float:
    """Seconds of the processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _serving(argv: Sequence[str], made: World) -> Iterator[Callable[[], Took]]:
    """A client that does its work once for each call."""
    with subprocess.Popen(
        [*CLIENT, *argv],
        env=made.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answers = process.stdin, process.stdout

        def once() -> Took:
            ask.write("\n")
            ask.flush()
            wall, used = json.loads(answers.readline())
            return wall * 1000, used * 1000

        yield once
        ask.close()


# -- logs -----------------------------------------------------------------------------------------------------------


def logs(made: World) -> list[Row]:
    """One job that prints 20 MB within a minute, followed by both at once: bytes by the service's count, and the lag."""
    made.service.admin.switch(secrets="AccountKey")
    (made.code / "chatty.py").write_text(
        f"import time\nfor part in range({LOG_S * 5}):\n    for _ in range({LOG_BYTES // LINE // LOG_S // 5}):\n"
        f"        print(str(time.time()).ljust({LINE - 1}, '.'))\n    print(end='', flush=True)\n    time.sleep(0.2)\n"
    )
    argv = [*made.hello[:-4], *made.hello[-4:]]
    argv = [*RUNNER, "submit", str(made.code / "chatty.py"), *made.hello[len(RUNNER) + 2 :]]
    before = len(made.service.admin.requests())
    submitted = subprocess.run(argv, env=made.env, check=True, capture_output=True, text=True)
    name, handle = submitted.stdout.strip(), re.findall(r"accepted as (\w+)", submitted.stderr)[0]
    ours, theirs = _followed([[*RUNNER, "logs", "--follow", name], [*CLIENT, "stream", handle]], made)
    for child in _children():
        os.waitpid(child, 0)
    asked = [one for one in made.service.admin.requests(before) if f"dcid.{handle}/user_logs" in one["path"]]
    by_us, by_them = (_sent(asked, ours=side) / 1e6 for side in (True, False))
    made.service.admin.reset()
    what = f"a log of {LOG_BYTES // 1_000_000} MB in {LOG_S} s"
    worst, rival_worst = (max(lags[20:]) if lags[20:] else float("nan") for lags in (ours, theirs))
    median, rival = (statistics.median(lags[20:] or [float("nan")]) for lags in (ours, theirs))
    print(f"  lines: {len(ours)} beside {len(theirs)}", file=sys.stderr)
    return [
        Row(f"{what}: downloaded", by_us, "jobs.stream", by_them, "≤ 0.1", by_us <= 0.1 * by_them, unit="MB"),
        Row(f"{what}: lag of a line, median", median, "jobs.stream", rival, "≤ 2 s", median <= 2000),
        Row(f"{what}: lag of a line, worst", worst, "jobs.stream", rival_worst, "≤ 2 s", worst <= 2000),
    ]


def _followed(commands: Sequence[Sequence[str]], made: World) -> list[list[float]]:
    """Of each command the milliseconds from print() to here, for every line that says when it was printed."""
    lags: list[list[float]] = [[] for _ in commands]

    def read(argv: Sequence[str], found: list[float]) -> None:
        with subprocess.Popen(
            argv, env=made.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                with suppress(ValueError):
                    found.append((time.time() - float(line[:18].rstrip(".\n"))) * 1000)

    threads = [threading.Thread(target=read, args=pair) for pair in zip(commands, lags, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return lags


def _sent(asked: Sequence[Doc], *, ours: bool) -> int:
    return sum(one.get("sent") or 0 for one in asked if (one["agent"] == "runner") == ours)


# -- states ---------------------------------------------------------------------------------------------------------


def polls(made: World) -> list[Row]:
    """The states of 200 jobs, in one call and one by one."""
    _process(made.hello, made)
    admin = made.service.admin
    job, run = admin.documents("job")[-1], admin.documents("run")[-1]
    names = [f"r{number:031x}" for number in range(POLLS)]
    for name in names:
        admin.change("job", name, **{**job, "name": name})
        admin.change("run", name, **{**run, "runId": name, "rootRunId": name, "_job": name})
    listed = made.folder / "names"
    listed.write_text("\n".join(names))
    with (
        _serving(["polls", "runner", str(listed)], made) as ours,
        _serving(["polls", "sdk", str(listed)], made) as theirs,
    ):
        a, b = _in_turn(ours, theirs, 3)
        counts = []
        for one in (ours, theirs):
            before = len(admin.requests())
            one()
            counts.append(len(admin.requests(before)))
    what = f"states of {POLLS} jobs"
    rival = f"{POLLS} times jobs.get"
    return [
        Row(f"{what}: requests", counts[0], rival, counts[1], "1", counts[0] == 1, unit=""),
        Row(what, a[0], rival, b[0], "report", holds=True),
        Row(f"{what}: processor", a[1], rival, b[1], "report", holds=True),
    ]


# -- imports --------------------------------------------------------------------------------------------------------

_DUMP = """
import sys
from runner.cli import main
sys.argv = ["runner", *sys.argv[1:]]
try:
    main()
finally:
    sys.stderr.write("\\nMODULES " + " ".join(sys.modules))
"""


def imports(made: World) -> list[Row]:
    """Every command on a run of Azure ML: processor time, modules, and whether it pays for the SDK."""
    subprocess.run([*made.hello, "--wait", "--name", "bench-seen"], env=made.env, check=True, capture_output=True)
    (made.folder / "pipe.yml").write_text(
        f"type: pipeline\nsettings: {{default_compute: azureml:{COMPUTE}}}\n"
        f"jobs:\n  one: {{command: echo one, environment: {{image: {made.image}}}}}\n"
    )
    pipe, there = str(made.folder / "pipe.yml"), ("--backend", "azureml")
    made_rows = []
    for argv, pays in (
        (["--version"], False), (["--help"], False), (["backends"], False), (["list"], False), (["list", *there], False),
        (["status", "bench-seen"], False), (["show", "bench-seen"], False), (["logs", "bench-seen"], False),
        (["wait", "bench-seen"], False), (["open", "bench-seen"], False),
        (["download", "bench-seen", "--to", str(made.folder / "got")], False),
        (["compute", "list"], False), (["doctor", *there], False), (["export", pipe, "--to", "azureml"], False),
        ([*made.hello[len(RUNNER):], "--dry-run"], False), (made.hello[len(RUNNER):], True),
        (["pipeline", "register", pipe, "--name", "bench", *there], True),
    ):  # fmt: skip
        made_rows.append(_cost(argv, made, pays=pays))
    return made_rows


def _cost(argv: Sequence[str], made: World, *, pays: bool) -> Row:
    command = [sys.executable, "-c", _DUMP, *argv]
    used, modules = [], set[str]()
    for _ in range(2):
        before = os.times()
        done = subprocess.run(command, env=made.env, cwd=made.folder, capture_output=True, text=True, check=False)
        after = os.times()
        modules = set(done.stderr.rpartition("MODULES ")[2].split())
        assert modules, done.stderr
        used.append(after.children_user + after.children_system - before.children_user - before.children_system)
        for child in _children():
            os.waitpid(child, 0)
    sdk = "azure.ai.ml" in modules
    packages = "azure.ai.ml" if sdk else "azure.identity" if "azure.identity" in modules else "nothing of Azure"
    shown = " ".join(Path(part).name if part.startswith("/") else part for part in argv).replace(made.image, "IMAGE")
    what = f"runner {shown}: {len(modules)} modules, {packages}; processor"
    return Row(what, min(used) * 1000, "", None, "may import the SDK" if pays else "no SDK", pays or not sdk)


_PARTS: dict[str, Callable[[World], list[Row]]] = {
    "submits": submits, "logs": logs, "polls": polls, "imports": imports,
}  # fmt: skip


if __name__ == "__main__":
    print(f"load {os.getloadavg()}", file=sys.stderr)
    base = build(ROOT / "tests" / "images" / "small" / "libs.yaml").tag
    print(table(rows(base, sys.argv[1:] or list(_PARTS))))
    print(f"load {os.getloadavg()}", file=sys.stderr)
