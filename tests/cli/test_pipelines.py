"""Commands on pipelines: show, logs, status, list, download, cancel, delete, and what `submit --wait` shows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from runner.plan import Plan, Upstream
from runner.run import Run
from runner.store import Store
from tests.cli.test_runs import agrees, documented
from tests.plans import accept, bash, start

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli


@pytest.fixture
def done(home: Path) -> str:
    """A pipeline of which one step failed, one was skipped, and one output is there."""
    store = Store(home)
    plan = Plan(
        (
            bash("make", 'echo made; echo 1 > "$RUNNER_OUTPUT_OUT/f"'),
            bash("bad", "echo trouble; exit 7", "make"),
            bash("after", "true", "bad"),
        ),
        outputs={"final": Upstream("make", "out")},
    )
    name = start(store, plan, name="pipe")
    Run(store, name).wait(60)
    store.close()
    return name


def test_show(cli: Cli, done: str) -> None:
    out = cli("show", done).out
    assert out.startswith("pipe   Failed · StepFailed")
    assert "step bad failed (NonZeroExit)" in out
    for line in ("make   Completed", "bad    Failed · NonZeroExit", "after  Skipped · UpstreamFailed"):
        assert line in out
    assert "trouble" in out, "the last lines of the step that failed"
    assert "final/f" in out
    assert "Failed · NonZeroExit" in cli("show", "pipe.bad").out.splitlines()[0]
    data = cli("show", done, "--json").json
    assert [(each["step"], each["status"]) for each in data["steps"]] == [
        ("make", "Completed"), ("bad", "Failed"), ("after", "Skipped"),
    ]  # fmt: skip
    assert data["outputs"] == [{"path": "final/f", "bytes": 2}]
    assert data["kind"] == "pipeline"


def test_logs(cli: Cli, done: str) -> None:
    assert cli("logs", done).out == "[make] made\n[bad] trouble\n"
    assert cli("logs", done, "-f").out == "[make] made\n[bad] trouble\n"
    assert cli("logs", done, "--tail", "1").out == "[bad] trouble\n"
    assert cli("logs", done, "--step", "make").out == "made\n"
    assert cli("logs", "pip.make").out == "made\n"
    wrong = cli("logs", done, "--step", "mak")
    assert wrong.code == 4
    assert "did you mean make?" in wrong.err
    assert cli("logs", done, "--attempt", "1").code == 2


def test_status_wait_list(cli: Cli, done: str) -> None:
    assert "StepFailed" in cli("status", done).out
    assert cli("wait", done).code == 7
    assert cli("wait", "pipe.make").code == 0
    lines = cli("list").out.splitlines()
    assert "STEPS" in lines[0]
    assert len(lines) == 2
    assert "3/3" in lines[1]
    assert len(cli("list", "--steps").out.splitlines()) == 5


def test_download(cli: Cli, done: str, tmp_path: Path) -> None:
    assert cli("download", done, "--to", tmp_path / "all").code == 0
    assert (tmp_path / "all" / "final" / "f").read_text() == "1\n"
    assert cli("download", done, "--output", "final", "--to", tmp_path / "one").code == 0
    assert (tmp_path / "one" / "f").read_text() == "1\n"
    assert cli("download", done, "--step", "make", "--to", tmp_path / "step").code == 0
    assert (tmp_path / "step" / "out" / "f").read_text() == "1\n"
    wrong = cli("download", done, "--output", "nope", "--to", tmp_path / "no")
    assert wrong.code == 4
    assert "it has: final" in wrong.err


def test_delete(cli: Cli, done: str, home: Path) -> None:
    assert cli("delete", "pipe.make").code == 5
    assert cli("delete", done).code == 0
    assert not (home / "runs" / done).exists()
    assert cli("list", "--steps").out == ""


def test_cancel(cli: Cli, home: Path) -> None:
    store = Store(home)
    start(store, Plan((bash("long", "sleep 60"), bash("after", "true", "long"))), name="slow")
    assert "with all its steps" in cli("cancel", "slow").out
    assert cli("wait", "slow").code == 143
    store.close()


def test_what_wait_shows(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from runner.cli import board
    from runner.supervisor import launch

    store = Store(home)
    run, lock = accept(store, Plan((bash("one", "echo 1"), bash("two", "echo 2; exit 3", "one"))))
    gone = launch(store, run, lock, {})
    ended = board.follow(store, run, gone=gone, json=False)
    assert ended.outcome is not None
    assert ended.outcome.process_exit == 3
    seen = capfd.readouterr()
    assert seen.out == "[one] 1\n[two] 2\n"
    first, second = [line for line in seen.err.splitlines() if line.startswith("step")]
    assert "one  Completed" in first
    assert "two  Failed · NonZeroExit" in second
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(gone)
    store.close()


SWEPT = """type: pipeline
jobs:
  make: {type: command, command: "echo 1 > ${{outputs.o}}", outputs: {o: {type: uri_file}}}
  search:
    type: sweep
    trial: {type: command, command: "runner_log ${{search_space.x}}"}
    sampling_algorithm: grid
    search_space: {x: {type: choice, values: [1, 2]}}
    objective: {goal: maximize, primary_metric: score}
    limits: {max_total_trials: 2}
"""
LOGS = """echo "$(date +%s%3N) ${{search_space.x}} 1" >> "$RUNNER_TRACKING/metrics/score\""""


def test_shapes_of_pipelines_and_sweeps_are_the_documented_ones(cli: Cli) -> None:
    text = SWEPT.replace('"runner_log ${{search_space.x}}"', f"'{LOGS}'")
    (cli.cwd / "p.yml").write_text(text)
    where = ("--backend", "process", "--json")
    agrees(cli("submit", "p.yml", *where, "--dry-run").json, documented("`submit --dry-run` of a pipeline"))
    done = cli("submit", "p.yml", *where, "--wait", "--name", "p")
    assert done.code == 0, done.err
    agrees(done.json, documented("A run"))
    assert done.json["argv"] == []
    shown = cli("show", "p", "--json").json
    agrees(shown, {**documented("A run"), **documented("`show` of a pipeline")})
    for step in shown["steps"]:
        agrees(step, documented("A run"))
    swept = cli("show", "p.search", "--json").json
    assert set(swept) == {*documented("A run"), *documented("`show`"), *documented("`show` of a sweep")}
    assert set(swept["sweep"]) == {"metric", "goal", "best", "trials"}
    assert set(swept["sweep"]["trials"][0]) == {"name", "parameters", "value", "status", "elapsed_s"}
    why = cli("why", "p", "--json").json
    assert [each["step"] for each in why] == ["make", "search"]
    agrees(why[0], documented("`why`"))
    row = documented("A registered pipeline")
    made = cli("pipeline", "register", "p.yml", "--name", "reg", "--backend", "process", "--json").json
    agrees(made, {**row, "new": "boolean", "notes": "array of strings"})
    agrees(cli("pipeline", "list", "--json").json[0], row)
    found = cli("pipeline", "show", "reg", "--json").json
    agrees(found, {**row, "versions": "array of integers", "inputs": "object", "outputs": "array of strings"})
