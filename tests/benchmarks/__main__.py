"""`make bench`: what runner costs, side by side with the named rival in one run, written to docs/benchmarks.md.

Ratios, not times, are what counts: the two commands of a row run in turn (A B A B …), so a slow moment hits both.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner.builder import build
from runner.docker_api.containers import Engine
from runner.model import Outcome, Reason, Step
from runner.store import Store
from tests.benchmarks import azure, builds, pipelines, reading, scheduling
from tests.benchmarks.rows import ROUNDS, RUNNER, Row, pair, seconds, table

ROOT = Path(__file__).resolve().parent.parent.parent


def start_up(folder: Path) -> list[Row]:
    """The command itself against the import that no typer program can avoid."""
    bare = folder / "typer_only.py"
    bare.write_text("import typer\n")
    seconds([*RUNNER, "submit", str(folder / "hello.py"), "--backend", "process", "--wait"])
    rows = []
    for command in (["--help"], ["status", "@last"], ["list"]):
        ours, rival = pair([*RUNNER, *command], [sys.executable, str(bare)])
        rows.append(Row(f"runner {' '.join(command)}", ours, "import typer", rival, "≤ 2", ours / rival <= 2))
    return rows


def submit_rows(folder: Path, image: str) -> list[Row]:
    """A whole run against the same script without runner."""
    hello = str(folder / "hello.py")
    docker = ["docker", "run", "--rm", "-v", f"{folder}:/w:ro", "-w", "/w", image, "python3", "hello.py"]
    ours, rival = pair([*RUNNER, "submit", hello, "--backend", "docker", "--image", image, "--wait"], docker)
    rows = [Row("submit --wait hello.py on docker", ours, "docker run --rm", rival, "≤ 1.6", ours / rival <= 1.6)]
    ours, rival = pair([*RUNNER, "submit", hello, "--backend", "process", "--wait"], ["python3", hello])
    rows.append(
        Row("submit --wait hello.py on process", ours, "python3 hello.py", rival, "+150 ms", ours - rival <= 150)
    )
    return rows


def floor_rows(folder: Path, image: str) -> list[Row]:
    """What the pieces of a run on Docker cost by themselves: nothing that runs one container can be below them."""
    engine = Engine()
    bare: list[float] = []
    booted: list[float] = []
    user = {"HostConfig": {"Mounts": [{"Type": "bind", "Source": str(folder), "Target": "/w"}]}, "WorkingDir": "/w"}
    boot = ["/usr/bin/python3", "-I", "-S", "/opt/runner/bootstrap.pyc", "--", "hello.py"]
    for number in range(ROUNDS + 1):
        for name, argv, times in (("bare", ["python3", "hello.py"], bare), ("boot", boot, booted)):
            began = time.perf_counter()
            container = engine.create(f"bench-{os.getpid()}-{name}-{number}",
                                      {"Image": image, "Entrypoint": [], "Cmd": argv, **user})  # fmt: skip
            engine.start(container)
            engine.wait_stopped(container, 60)
            took = (time.perf_counter() - began) * 1000
            engine.remove(container)
            if number:
                times.append(took)
    engine.close()
    empty, _ = pair([sys.executable, "-c", "pass"], [sys.executable, "-c", "pass"])
    a, b = statistics.median(booted), statistics.median(bare)
    return [
        Row("floor: python3 -c pass", empty, "", None, "", holds=True),
        Row("floor: create, start, wait of a container", b, "", None, "", holds=True),
        Row("the bootstrapper in a container", a, "without it", b, "+10 ms", a - b <= 10),
    ]


def log_row(folder: Path) -> Row:
    """From print() in the script to the line in `runner logs --follow`."""
    script = folder / "ticks.py"
    script.write_text("import time\nfor _ in range(60):\n    print(time.time(), flush=True)\n    time.sleep(0.05)\n")
    name = subprocess.run(
        [*RUNNER, "submit", str(script), "--backend", "process"], check=True, capture_output=True, text=True
    ).stdout.strip()
    delays = []
    with subprocess.Popen([*RUNNER, "logs", "--follow", name], stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        delays = [(time.time() - float(line)) * 1000 for line in follower.stdout]
    live = delays[20:]  # the first lines were printed before the follower had started
    return Row("a log line, print to logs --follow (median)", statistics.median(live), "", None, "≤ 50 ms",
               statistics.median(live) <= 50)  # fmt: skip


def list_row(folder: Path) -> Row:
    """`runner list` with 1,000 finished runs against 10."""
    for count in (10, 1000):
        store = Store(folder / f"home-{count}")
        for number in range(count):
            row = store.accept(
                f"run-{number}", step=Step("hello", ("hello.py",)), backend="process", image=None, image_name=None,
                experiment="bench", title="hello.py", description="", tags={},
            )  # fmt: skip
            store.end(row, Outcome(Reason.COMPLETED, 0, exit_code=0, elapsed_s=1.0), attempts=1)
        store.close()
    listed = ["env", f"RUNNER_HOME={folder}/home-%d", *RUNNER, "list"]
    ours, rival = pair([part.replace("%d", "1000") for part in listed], [part.replace("%d", "10") for part in listed])
    return Row("runner list, 1,000 finished runs", ours, "10 runs", rival, "≤ 2", ours / rival <= 2)


def memory_row(folder: Path) -> Row:
    """What a supervisor holds while its run goes on (private and shared, each page once)."""
    script = folder / "pause.py"
    script.write_text("import time\ntime.sleep(4)\n")
    name = subprocess.run(
        [*RUNNER, "submit", str(script), "--backend", "process"], check=True, capture_output=True, text=True
    ).stdout.strip()
    time.sleep(1.5)
    lock = str(Store().folder(name).lock)
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(fd.readlink()) == lock for fd in (process / "fd").iterdir()):
                text = (process / "smaps_rollup").read_text()
                found = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        except OSError:
            continue
    subprocess.run([*RUNNER, "wait", name], check=True, capture_output=True)
    return Row("memory of a supervisor", found / 1024, "", None, "report", found > 0, unit="MiB")


def main() -> None:
    """Measure, print the table, write docs/benchmarks.md."""
    image = build(ROOT / "tests" / "images" / "small" / "libs.yaml").tag
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        folder = Path(name)
        (folder / "code").mkdir()
        os.environ["RUNNER_HOME"] = str(folder / "home")
        code = folder / "code"
        (code / "hello.py").write_text('print("hello, world")\n')
        rows = [
            *start_up(code), *submit_rows(code, image), *floor_rows(code, image), log_row(code), list_row(folder),
            memory_row(code),
        ]  # fmt: skip
        parts = [("Runs", f"Medians of {ROUNDS} runs of whole processes, in turn with the rival.", rows)]
        parts.append(("Pipelines", pipelines.NOTE, pipelines.rows(folder / "pipelines", image)))
        parts.append(("Scheduling", scheduling.NOTE, scheduling.rows()))
        parts.append(("Reading", reading.NOTE, reading.rows(folder / "reading")))
        parts.append(("Builds", builds.NOTE, builds.rows(folder)))
        parts.append(("Azure ML", azure.NOTE, azure.rows(image)))
    text = (
        f"# Benchmarks\n\nMade by `make bench` on {os.cpu_count()} cores, runner and rival in one run. Times drift with the "
        "machine; the ratio is what counts.\n"
    )
    for title, note, measured in parts:
        text += f"\n## {title}\n\n{note}\n\n{table(measured)}\n"
    print(text)
    (ROOT / "docs" / "benchmarks.md").write_text(text)


if __name__ == "__main__":
    main()
