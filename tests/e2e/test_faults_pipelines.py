"""Pipelines under attack: our processes killed at random moments, a dying engine, a full disk, two submits at once, links.

The run goes on where it was: no step is lost, none runs twice, nothing is left behind.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.model import Status
from tests.conftest import eventually
from tests.contract.helpers import running_with, steps, stored, supervisors
from tests.e2e.second_engine import SecondEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cli

_SEED = int(os.environ.get("RUNNER_FAULT_SEED", "20261121"))
_KILLS = 5
_STEPS = 20

own_engine = pytest.mark.skipif(os.getuid() != 0 or not shutil.which("dockerd"), reason="needs root and dockerd")


def pipeline(
    path: Path, marks: Path, needs: dict[str, list[str]], *, body: str = "", image: str = "", more: str = ""
) -> Path:
    """Write a pipeline in which each step notes in `marks` that it began. needs: step → those whose output it reads.

    body: what a step does then. image: of all steps, which then get the folder as an input. more: further members of each.
    """
    lines = ["type: pipeline", "jobs:"]
    for name, reads in needs.items():
        place = "${{inputs.marks}}" if image else str(marks)
        command = f"echo $RUNNER_RUN >> {place}/ran; {body or ':'}; echo {name} > ${{{{outputs.out}}}}/done"
        inputs = [f"{each}: '${{{{parent.jobs.{each}.outputs.out}}}}'" for each in reads]
        inputs += [f"marks: {{type: uri_folder, path: {marks}, mode: rw_mount}}"] if image else []
        lines += [
            f"  {name}:", "    type: command", f"    command: >-\n      {command}", "    outputs: {out: }",
            f"    inputs: {{{', '.join(inputs)}}}",
            *([f"    environment: {{image: {image}}}"] if image else []), *([f"    {more}"] if more else []),
        ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path


def layered(count: int) -> dict[str, list[str]]:
    """Two chains that look at each other at every third step."""
    needs: dict[str, list[str]] = {}
    for number in range(count):
        reads = [f"s{number - 2}"] if number >= 2 else []
        reads += [f"s{number - 3}"] if number >= 3 and number % 3 == 0 else []
        needs[f"s{number}"] = reads
    return needs


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """A folder that every step may write to."""
    path = tmp_path / "marks"
    path.mkdir()
    path.chmod(0o777)
    return path


def began(marks: Path) -> Counter[str]:
    """How often each step began, by its run's name."""
    path = marks / "ran"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def waited(cli: Cli, name: str) -> dict[str, Any]:
    (row,) = cli("wait", name, "--json", timeout=180).json
    assert isinstance(row, dict)
    return row


def kill(cli: Cli, name: str) -> bool:
    """kill -9 of the run's supervisor, and of a command that is about to be one; not of what they have forked for a step."""
    parents: dict[int, int] = {}
    for pid in supervisors(cli.home, name):
        with suppress(OSError):
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (each for each, parent in parents.items() if parent not in parents):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(parents)


def ended(cli: Cli, name: str) -> bool:
    row = stored(cli.home, name)
    return row is not None and row.status.terminal


def whole(cli: Cli, name: str, marks: Path, count: int, *, again: int = 0) -> None:
    """The run completed, each step ran exactly once (`again` of them once more), and nothing is left of it."""
    row = waited(cli, name)
    assert (row["status"], row["reason"]) == ("Completed", "Completed"), row["message"]
    found = steps(cli.home, name)
    assert len(found) == count
    assert {each.status for each in found.values()} == {Status.COMPLETED}
    counts = began(marks)
    assert set(counts) == {f"{name}.{step}" for step in found}
    assert sum(counts.values()) == count + again, counts
    for step in found:
        (made,) = (cli.home / "runs" / name / "steps" / step).glob("attempts/*/artifacts/out/done")
        assert made.read_text() == f"{step}\n"
    eventually(lambda: not supervisors(cli.home, name), "the supervisor is gone")
    eventually(lambda: not running_with(f"RUNNER_RUN={name}."), "no process of a step is left")


# -- our processes killed ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_the_supervisor_killed_at_random_moments_on_process(cli: Cli, work: Path, marks: Path, part: int) -> None:
    """Ten moments a part, five in each of two pipelines."""
    _attacked(cli, work, marks, random.Random(_SEED + part), backend="process", pipelines=2)


@pytest.mark.slow
@pytest.mark.docker
def test_the_supervisor_killed_at_random_moments_on_docker(cli: Cli, work: Path, marks: Path, image: str) -> None:
    _attacked(cli, work, marks, random.Random(_SEED), backend="docker", pipelines=1, image=image, count=8)


def _attacked(
    cli: Cli, work: Path, marks: Path, dice: random.Random, *, backend: str, pipelines: int, image: str = "",
    count: int = _STEPS,
) -> None:  # fmt: skip
    hits = 0
    for number in range(pipelines):
        folder = marks / str(number)
        folder.mkdir()
        folder.chmod(0o777)
        job = pipeline(
            work / f"p{number}.yml", folder, layered(count), body=f"sleep 0.{dice.randint(3, 6)}", image=image
        )
        name = f"attacked-{number}"
        cli.submit(job, "--backend", backend, "--name", name)
        for _ in range(_KILLS):
            time.sleep(dice.uniform(0, 0.8))  # the random moment itself: there is no state to wait for
            hits += kill(cli, name)
            assert cli("status", name).code == 0  # any command on a run gives it a supervisor again
        whole(cli, name, folder, count)
    assert hits > _KILLS * pipelines // 2, "most moments hit a supervisor, or this test tests nothing"


@pytest.mark.slow
def test_submit_killed_at_random_moments(cli: Cli, work: Path, marks: Path) -> None:
    """What was accepted runs to its end; what was not has left nothing."""
    dice = random.Random(_SEED)
    job = pipeline(work / "p.yml", marks, layered(6))
    start = time.monotonic()
    cli.submit(job, "--backend", "process", "--name", "usual")
    usual = time.monotonic() - start
    whole(cli, "usual", marks, 6)
    accepted = 0
    for number in range(24):
        if number >= 12 and accepted:
            break
        (marks / "ran").unlink(missing_ok=True)
        name = f"killed-{number}"
        command = cli.start("submit", job, "--backend", "process", "--name", name, "--wait", "--force-rerun")
        time.sleep(dice.uniform(0.6, 1.3) * usual)  # the random moment itself
        usual *= 1.1  # a machine that has become busy since then; and some must be killed after they were accepted
        command.kill()
        command.communicate()
        if stored(cli.home, name) is None:
            assert began(marks) == Counter()
            continue
        accepted += 1
        usual /= 1.3
        whole(cli, name, marks, 6)
    assert accepted, "some are killed after they were accepted, or this test tests nothing"
    known = {row["name"] for row in cli("list", "--json").json}
    for path in (cli.home / "runs").iterdir():
        assert path.name in known or not (path / "steps").exists(), "what was not accepted has at most a folder"


_TRIAL = "echo $RUNNER_RUN >> {marks}/ran; mkdir -p $RUNNER_TRACKING/metrics; sleep 0.7;"
_TRIAL += " echo 1 ${{{{search_space.x}}}} 0 >> $RUNNER_TRACKING/metrics/loss;"
_TRIAL += " echo ${{{{search_space.x}}}} > ${{{{outputs.out}}}}/x"


@pytest.mark.slow
def test_a_sweep_whose_supervisor_is_killed_runs_each_trial_once(cli: Cli, work: Path, marks: Path) -> None:
    dice = random.Random(_SEED)
    job = work / "sweep.yml"
    job.write_text(
        f"type: sweep\ntrial:\n  command: {_TRIAL.format(marks=marks)}\noutputs: {{out: }}\nsampling_algorithm: grid\n"
        "search_space: {x: {type: choice, values: [5, 3, 1, 2, 4, 6]}}\nobjective: {goal: minimize, primary_metric: loss}\n"
        "limits: {max_total_trials: 6, max_concurrent_trials: 2}\n"
    )
    name = cli.submit(job, "--backend", "process", "--name", "swept")
    hits = 0
    for _ in range(_KILLS):
        time.sleep(dice.uniform(0, 0.5))  # the random moment itself
        hits += kill(cli, name)
        assert cli("status", name).code == 0
    row = waited(cli, name)
    assert row["status"] == "Completed", row["message"]
    assert hits > 1, "some moments hit a supervisor, or this test tests nothing"
    counts = began(marks)
    assert sum(counts.values()) == len(counts) == 6, counts
    done = cli("download", name, "--output", "out", "--to", work / "best")
    assert done.code == 0, done.err
    assert [path.read_text() for path in (work / "best").rglob("x")] == ["1\n"]


# -- the engine dies --------------------------------------------------------------------------------------------------


@pytest.fixture
def second(image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecondEngine]:
    """An engine of the test's own, as the one that runner talks to."""
    engine = SecondEngine(Path(tempfile.mkdtemp(prefix="rt-pipes-")), os.getpid() + 7)
    try:
        engine.start()
        engine.load(image)
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        yield engine
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.docker
@own_engine
def test_an_engine_that_dies_in_the_middle_costs_one_attempt(
    second: SecondEngine, cli: Cli, work: Path, marks: Path, image: str
) -> None:
    body = "test $RUNNER_ATTEMPT -gt 1 || test $RUNNER_RUN != ${{inputs.slow}} || sleep 300"
    job = pipeline(
        work / "p.yml", marks, layered(6), body=body.replace("${{inputs.slow}}", "dying.s3"), image=image,
        more="retry: {count: 1}",
    )  # fmt: skip
    name = cli.submit(job, "--backend", "docker", "--name", "dying")
    eventually(lambda: began(marks)["dying.s3"] == 1, "the third step runs")
    second.crash()
    second.start()
    whole(cli, name, marks, 6, again=1)
    assert steps(cli.home, name)["s3"].attempts == 2
    eventually(lambda: second.docker("ps", "-aq") == "", "no container is left")


# -- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(path)], check=True)
    yield path
    eventually(lambda: subprocess.run(["umount", str(path)], check=False, capture_output=True).returncode == 0,
               "nothing holds the file system")  # fmt: skip


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")
def test_a_disk_that_is_full_in_the_middle_changes_no_truth(cli: Cli, work: Path, marks: Path, small: Path) -> None:
    """Full while a step runs. Once there is room the run ends: completed, or failed with the step and its reason."""
    gate = f"test $RUNNER_RUN != full.s1 || while ! test -e {marks}/go; do sleep 0.02; done"
    job = pipeline(work / "p.yml", marks, {"s0": [], "s1": ["s0"], "s2": ["s1"]}, body=gate)
    home = {"RUNNER_HOME": str(small / "home")}
    done = cli("submit", job, "--backend", "process", "--name", "full", env=home)
    assert done.code == 0, done.err
    eventually(lambda: began(marks)["full.s1"] == 1, "the second step runs")
    ballast = small / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    (marks / "go").touch()
    record = small / "home" / "runs" / "full" / "steps" / "s1" / "attempts" / "1" / "box" / "record" / "status.json"
    eventually(lambda: not record.exists() or b'"final": true' in record.read_bytes(), "the second step has ended")
    ballast.unlink()
    (row,) = cli("wait", "full", "--json", env=home, timeout=90).json
    shown = steps(small / "home", "full")
    assert all(count == 1 for count in began(marks).values())
    if row["status"] == "Completed":
        assert {each.status for each in shown.values()} == {Status.COMPLETED}
    else:
        assert row["reason"] == "StepFailed"
        assert shown["s0"].status is Status.COMPLETED
        assert any(name in row["message"] for name in ("s1", "s2")), row["message"]


# -- two at once, links -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_submits_at_once_share_the_cache(cli: Cli, work: Path, marks: Path) -> None:
    """Both complete whatever each finds of the other; a third one has nothing to run."""
    job = pipeline(work / "p.yml", marks, layered(6), body="sleep 0.1")
    commands = [cli.start("submit", job, "--backend", "process", "--name", name, "--wait") for name in ("one", "two")]
    for command in commands:
        out, err = command.communicate(timeout=120)
        assert command.returncode == 0, (out + err).decode()
    for name in ("one", "two"):
        assert {each.status for each in steps(cli.home, name).values()} == {Status.COMPLETED}
    counts = began(marks)
    assert set(counts.values()) == {1}
    assert 6 <= sum(counts.values()) <= 12

    done = cli("submit", job, "--backend", "process", "--name", "three", "--wait")
    assert done.code == 0, done.err
    assert began(marks) == counts
    for step, row in steps(cli.home, "three").items():
        assert row.reused_from in {f"one.{step}", f"two.{step}"}
        (made,) = (cli.home / "runs" / "three" / "steps" / step).rglob("artifacts/out/done")
        assert made.read_text() == f"{step}\n"


def test_a_link_out_of_an_output_folder_brings_nothing_along(
    cli: Cli, where: list[str], work: Path, tmp_path: Path, image: str
) -> None:
    """The next step gets the folder without what the links lead to; links within it work."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("SECRET-4711\n")
    backend = where[1]
    environment = f"    environment: {{image: {image}}}\n" if backend == "docker" else ""
    job = work / "p.yml"
    job.write_text(
        "type: pipeline\njobs:\n  makes:\n    type: command\n    command: >-\n"
        f"      cd ${{{{outputs.out}}}}; echo mine > file; ln -s file inside; ln -s {secret}/key out; ln -s {secret} folder;"
        " ln -s ../../../../../../../../.. up; ln -s . loop\n    outputs: {out: }\n" + environment
        + "  reads:\n    type: command\n    command: >-\n"
        "      cd ${{inputs.got}}; cat file inside > ${{outputs.out}}/seen; cp -rL . ${{outputs.out}}/copy 2>&1; true\n"
        "    inputs: {got: '${{parent.jobs.makes.outputs.out}}'}\n    outputs: {out: }\n" + environment
    )  # fmt: skip
    done = cli("submit", job, "--backend", backend, "--name", "links", "--wait")
    assert done.code == 0, done.out + done.err
    artifacts = cli.home / "runs" / "links" / "steps" / "makes" / "attempts" / "1" / "artifacts"
    for path in artifacts.rglob("*"):
        assert not path.is_symlink() or path.resolve().is_relative_to(artifacts), path
    (seen,) = (cli.home / "runs" / "links" / "steps" / "reads").rglob("artifacts/out/seen")
    assert seen.read_text() == "mine\nmine\n"
    done = cli("download", "links", "--to", work / "got")
    assert done.code == 0, done.err
    for path in (*(cli.home / "runs" / "links").rglob("*"), *(work / "got").rglob("*")):
        assert not path.is_file() or b"SECRET-4711" not in path.read_bytes(), path
