"""What a pipeline costs: steps on Docker and on process against the named rivals, and the engine's own share.

The rivals live in virtual environments that are made here, and are gone with the benchmark's folder.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.docker_api.containers import Engine
from tests.benchmarks.rows import RUNNER, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTE = (
    "Whole pipelines of `true`, milliseconds a step, in turn with the rival; of two rounds the better one of each. "
    "Every step of runner is a run of its own: recorded, with its log and its outcome."
)
FAN_OUT, CHAIN, KFP, PROCESS_STEPS = 200, 100, 30, 1000
_TIMEOUT_S = 900


def rows(folder: Path, image: str) -> list[Row]:
    """All rows of pipelines."""
    return [
        *docker_rows(folder / "docker", image),
        *process_rows(folder / "process"),
        delay_row(folder / "delay", image),
    ]


# -- pipelines --------------------------------------------------------------------------------------------------------


def pipeline(path: Path, steps: int, *, chain: bool = False, image: str | None = None, command: str = "true") -> Path:
    """Write a pipeline of equal steps, one after the other or all at once; on two processors at most."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "runner.yaml").write_text("computes:\n  two: {instances: 2}\n")
    lines = ["type: pipeline", "settings: {default_compute: azureml:two, force_rerun: true}", "jobs:"]
    for number in range(steps):
        lines += [f"  s{number}:", "    type: command", f"    command: {json.dumps(command)}", "    outputs: {o: }"]
        lines += [f"    environment: {{image: {image}}}"] if image else []
        lines += [f"    inputs: {{i: '${{{{parent.jobs.s{number - 1}.outputs.o}}}}'}}"] if chain and number else []
    path.write_text("\n".join(lines) + "\n")
    return path


def submit(path: Path, backend: str) -> list[str]:
    """The command that runs a pipeline to its end."""
    return [*RUNNER, "submit", str(path), "--backend", backend, "--config", str(path.parent / "runner.yaml"), "--wait"]


def per_step(argv: Sequence[str], steps: int, **options: Any) -> float:
    """Milliseconds a step, of a command that runs so many."""
    began = time.perf_counter()
    done = subprocess.run(
        argv, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_TIMEOUT_S,
        **options,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{argv[0]} …: exit code {done.returncode}\n{done.stdout.decode()[-3000:]}")
    return (time.perf_counter() - began) * 1000 / steps


# -- docker -----------------------------------------------------------------------------------------------------------


def docker_rows(folder: Path, image: str) -> list[Row]:
    """A fan-out and a chain on Docker, against docker run by xargs and against kfp's own Docker runner."""
    fan = pipeline(folder / "fan" / "job.yml", FAN_OUT, image=image)
    chain = pipeline(folder / "chain" / "job.yml", CHAIN, chain=True, image=image)
    found = []
    for what, path, steps, at_once in (("fan-out", fan, FAN_OUT, 2), ("chain", chain, CHAIN, 1)):
        ours, theirs = [], []
        for _ in range(2):
            ours.append(per_step(submit(path, "docker"), steps))
            theirs.append(per_step(_xargs(image, steps, at_once), steps))
        a, b = min(ours), min(theirs)
        rival = f"xargs -P{at_once} docker run"
        found.append(Row(f"{steps}-step {what} on Docker, a step", a, rival, b, "≤ 1.1", a / b <= 1.1))
        if (kfp := kfp_per_step(folder / "kfp", image, KFP, chain=at_once == 1)) is not None:
            found.append(
                Row(
                    f"{steps}-step {what} on Docker, a step", a, f"kfp local, {KFP} steps", kfp, "≤ 0.7", a / kfp <= 0.7
                )
            )
    return found


def _xargs(image: str, steps: int, at_once: int) -> list[str]:
    line = f"seq {steps} | xargs -P{at_once} -I_ docker run --rm {image} true"
    return ["bash", "-c", line]


_KFP = """
import sys
from kfp import dsl, local

local.init(runner=local.DockerRunner(), pipeline_root=sys.argv[3])
IMAGE, STEPS, CHAIN = sys.argv[1], int(sys.argv[2]), sys.argv[4] == "chain"

@dsl.container_component
def step():
    return dsl.ContainerSpec(image=IMAGE, command=["true"])

@dsl.pipeline(name="bench")
def bench():
    before = None
    for _ in range(STEPS):
        task = step()
        if CHAIN and before is not None:
            task.after(before)
        before = task

bench()
"""


def kfp_per_step(folder: Path, image: str, steps: int, *, chain: bool) -> float | None:
    """kfp's local Docker runner, in an environment of its own. None where it cannot be had or does not run here."""
    python = environment(folder / "venv", "kfp[docker]", "docker")
    if python is None:
        return None
    script = folder / "bench.py"
    script.write_text(_KFP)
    argv = [str(python), str(script), image, str(steps), str(folder / "root"), "chain" if chain else "fan"]
    try:
        return per_step(argv, steps, cwd=folder)
    except RuntimeError as error:
        print(f"kfp does not run here: {error}", file=sys.stderr)
        return None


def environment(folder: Path, *packages: str) -> Path | None:
    """The Python of a virtual environment with these packages; None where no index has them."""
    python = folder / "bin" / "python"
    if not python.exists():
        for argv in (["venv", "-q", str(folder)], ["pip", "install", "-q", "--python", str(python), *packages]):
            if subprocess.run([sys.executable, "-m", "uv", *argv], check=False, timeout=_TIMEOUT_S).returncode:
                return None
    return python


# -- process ----------------------------------------------------------------------------------------------------------


def process_rows(folder: Path) -> list[Row]:
    """A fan-out on process, against Snakemake and GNU parallel."""
    job = pipeline(folder / "job.yml", PROCESS_STEPS)
    ours = per_step(submit(job, "process"), PROCESS_STEPS)
    found = []
    if (python := environment(folder / "snakemake", "snakemake")) is not None:
        theirs = per_step(_snakemake(folder / "snake", python), PROCESS_STEPS, cwd=folder / "snake")
        found.append(_row(ours, "snakemake -c2", theirs, "≤ 1"))
    if (program := gnu_parallel(folder / "parallel")) is not None:
        argv = ["bash", "-c", f"seq {PROCESS_STEPS} | {program} --will-cite -j2 true"]
        found.append(_row(ours, "GNU parallel -j2", per_step(argv, PROCESS_STEPS), "report"))
    return found


def _row(ours: float, rival: str, theirs: float, aim: str) -> Row:
    holds = aim == "report" or ours / theirs <= 1
    return Row(f"{PROCESS_STEPS} steps on process, a step", ours, rival, theirs, aim, holds)


def _snakemake(folder: Path, python: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Snakefile").write_text(
        f"rule all:\n    input: expand('o{{n}}', n=range({PROCESS_STEPS}))\n"
        "rule step:\n    output: 'o{n}'\n    shell: 'touch {output}'\n"
    )
    return [str(python), "-m", "snakemake", "-c2", "--quiet", "all", "--nolock"]


def gnu_parallel(folder: Path) -> Path | None:
    """GNU parallel out of Debian's package, without installing it; the machine's own where it has one."""
    if found := shutil.which("parallel"):
        return Path(found)
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            ["apt-get", "download", "-q", "parallel"], cwd=folder, check=True, capture_output=True, timeout=60
        )
        package = next(folder.glob("parallel_*.deb"))
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True, capture_output=True)
        return folder / "root" / "usr" / "bin" / "parallel"
    return None


# -- from one step to the next ----------------------------------------------------------------------------------------

_STAMPS = "date +%s%N > ${{outputs.o}}/began; date +%s%N > ${{outputs.o}}/ended"


def delay_row(folder: Path, image: str) -> Row:
    """From a step's last command to its successor's first one, against bare containers one after the other."""
    steps = 20
    path = pipeline(folder / "job.yml", steps, chain=True, image=image, command=_STAMPS)
    home = folder / "home"
    per_step(submit(path, "docker"), steps, env={**os.environ, "RUNNER_HOME": str(home)})
    ours, floor = _delay([_stamps(home, f"s{number}") for number in range(steps)]), _delay(_bare(image, steps))
    what = "from a step's end to its successor's start, Docker"
    return Row(what, ours, "containers one by one", floor, "+30 ms", ours - floor <= 30)


def _stamps(home: Path, step: str) -> tuple[int, int]:
    (folder,) = home.glob(f"runs/*/steps/{step}/attempts/1/artifacts/o")
    return int((folder / "began").read_text()), int((folder / "ended").read_text())


def _bare(image: str, rounds: int) -> list[tuple[int, int]]:
    """The same with nothing but the engine's calls: create, start, wait, and the next. Removed only afterwards."""
    engine = Engine()
    names = [f"bench-{os.getpid()}-{number}" for number in range(rounds)]
    for name in names:
        argv = ["bash", "-c", "date +%s%N; date +%s%N"]
        container = engine.create(name, {"Image": image, "Entrypoint": [], "Cmd": argv})
        engine.start(container)
        engine.wait_stopped(container, 60)
    times = []
    for name in names:
        said = subprocess.run(["docker", "logs", name], check=True, capture_output=True, text=True).stdout.split()
        times.append((int(said[0]), int(said[1])))
        subprocess.run(["docker", "rm", name], check=True, capture_output=True)
    engine.close()
    return times


def _delay(times: Sequence[tuple[int, int]]) -> float:
    """Median milliseconds from an end to the next beginning."""
    return statistics.median((after[0] - before[1]) / 1e6 for before, after in pairwise(times))
