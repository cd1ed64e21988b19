"""Reuse as a user sees it: why, resume, graph and registered pipelines, as commands on the process backend."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Cli

JOB = """
type: pipeline
display_name: demo
settings: {continue_on_step_failure: true}
inputs:
  word: hello
  data: {type: uri_file, path: ./data.csv}
outputs:
  final: {type: uri_folder}
jobs:
  make:
    type: command
    command: cat ${{inputs.data}} > ${{outputs.out}}/x; echo ${{inputs.word}} >> ${{outputs.out}}/x; sh ran.sh make
    code: ./src
    environment: azureml:local@latest
    inputs: {word: "${{parent.inputs.word}}", data: "${{parent.inputs.data}}"}
    outputs: {out: {type: uri_folder}}
  copy:
    type: command
    command: cp ${{inputs.from}}/x ${{outputs.to}}/y; sh ran.sh copy; test ! -e "$FLAG"
    code: ./src
    environment: azureml:local@latest
    environment_variables: {FLAG: WORK/fail}
    inputs: {from: "${{parent.jobs.make.outputs.out}}"}
    outputs: {to: "${{parent.outputs.final}}"}
  dice:
    type: command
    component:
      type: command
      is_deterministic: false
      command: sh ran.sh dice
      code: ./src
      environment: azureml:local@latest
"""


@pytest.fixture
def project(cli: Cli) -> Path:
    work = cli.cwd
    (work / "src").mkdir()
    (work / "src" / "ran.sh").write_text(f'echo "$1" >> {work}/ran\n')
    (work / "data.csv").write_text("1,2\n")
    (work / "runner.yaml").write_text('environments: {"azureml:local@latest": {local: true}}\n')
    (work / "job.yml").write_text(JOB.replace("WORK", str(work)))
    return work


def ran(project: Path) -> list[str]:
    file = project / "ran"
    found = sorted(file.read_text().split()) if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def submit(cli: Cli, name: str, *options: str, code: int = 0) -> None:
    done = cli("submit", "job.yml", "--backend", "process", "--wait", "--name", name, *options)
    assert done.code == code, done.err


def why(cli: Cli, run: str) -> dict[str, str]:
    done = cli("why", run)
    assert done.code == 0, done.err
    return {line.split()[0]: line for line in done.out.splitlines() if not line.startswith(" ")}


def test_why_says_what_differed(cli: Cli, project: Path) -> None:
    submit(cli, "one")
    assert "there is no earlier run of it" in why(cli, "one")["make"]
    submit(cli, "two")
    assert ran(project) == ["copy", "dice", "dice", "make"]
    told = why(cli, "two")
    assert told["make"].endswith("reused from one.make")
    assert told["copy"].endswith("reused from one.copy")
    assert "not deterministic" in told["dice"]

    submit(cli, "three", "--set", "inputs.word=bye")
    done = cli("why", "three", "make")
    assert done.out.splitlines() == ["make  ran: 1 thing differs from two.make", "  parameter word  hello → bye"]
    (only,) = cli("why", "three.copy", "--json").json
    assert only["nearest"] == "two.copy"
    (difference,) = only["differences"]
    assert difference["field"] == "input from"
    assert len(difference["before"]) == len(difference["after"]) == 64

    (project / "src" / "more.sh").write_text("")
    (project / "data.csv").write_text("3,4\n")
    submit(cli, "four")
    fields = [each["field"] for each in cli("why", "four", "make", "--json").json[0]["differences"]]
    assert fields == ["code", "input data"]


def test_force_rerun(cli: Cli, project: Path) -> None:
    submit(cli, "one")
    submit(cli, "two", "--force-rerun")
    assert ran(project) == ["copy", "copy", "dice", "dice", "make", "make"]
    assert "force_rerun" in why(cli, "two")["make"]


def test_why_of_what_has_no_answer(cli: Cli, project: Path) -> None:
    (project / "a.sh").write_text("true\n")
    assert cli("submit", "a.sh", "--backend", "process", "--wait", "--name", "alone").code == 0
    done = cli("why", "alone")
    assert done.code == 4
    assert "always runs" in done.err
    submit(cli, "one")
    done = cli("why", "one", "mkae")
    assert done.code == 4
    assert "did you mean make?" in done.err


def test_resume_goes_on_from_what_failed(cli: Cli, project: Path) -> None:
    (project / "fail").touch()
    submit(cli, "one", code=1)
    assert ran(project) == ["copy", "dice", "make"]
    (project / "fail").unlink()
    (project / "data.csv").unlink()  # not needed: what read it has completed
    done = cli("resume", "one", "--wait")
    assert done.code == 0, done.err
    assert "1 of 3 steps run" in done.err
    assert ran(project) == ["copy"]
    told = why(cli, "@last")
    assert told["dice"].endswith("taken over from one.dice")
    assert "ran: nothing differs" in told["copy"]

    done = cli("resume", "@last")
    assert done.code == 5
    assert "nothing is left to run" in done.err


def test_resume_from_a_step_runs_it_and_what_follows(cli: Cli, project: Path) -> None:
    (project / "fail").touch()
    submit(cli, "one", code=1)
    done = cli("resume", "one", "--from", "dice")
    assert done.code == 5
    assert "has not completed before: copy" in done.err
    ran(project)
    assert cli("resume", "one", "--from", "copy", "--wait").code == 1
    assert ran(project) == ["copy"]
    (project / "fail").unlink()
    assert cli("resume", "one", "--from", "make", "--wait").code == 0
    assert ran(project) == ["copy", "make"]
    assert "--from" in why(cli, "@last")["make"]
    done = cli("resume", "one", "--from", "cpoy")
    assert done.code == 4
    assert "did you mean copy?" in done.err


def test_submit_from_a_step_takes_the_rest_from_the_last_run(cli: Cli, project: Path) -> None:
    done = cli("submit", "job.yml", "--backend", "process", "--from", "copy")
    assert done.code == 4
    assert "has ended before" in done.err
    submit(cli, "one")
    ran(project)
    submit(cli, "two", "--from", "copy", "--set", "inputs.word=other")
    assert ran(project) == ["copy"]
    told = why(cli, "two")
    assert told["make"].endswith("taken over from one.make")
    assert told["dice"].endswith("taken over from one.dice")


def test_resume_of_what_cannot_be(cli: Cli, project: Path) -> None:
    (project / "a.sh").write_text("true\n")
    assert cli("submit", "a.sh", "--backend", "process", "--wait", "--name", "alone").code == 0
    assert cli("resume", "alone").code == 2
    assert cli("resume", "nothing").code == 4


def test_resume_needs_the_secrets_again(cli: Cli, project: Path) -> None:
    (project / "fail").touch()
    told = ["submit", "job.yml", "--backend", "process", "--wait", "--name", "one", "--secret", "TOKEN"]
    assert cli(*told, env={"TOKEN": "s3cr"}).code == 1
    done = cli("resume", "one")
    assert done.code == 2
    assert "TOKEN" in done.err
    assert cli("resume", "one", "--wait", env={"TOKEN": "s3cr"}).code == 1


@pytest.mark.parametrize("form", ["text", "mermaid", "dot"])
def test_graph_of_a_file_and_of_a_run(cli: Cli, project: Path, form: str) -> None:
    submit(cli, "one")
    of_file, of_run = cli("graph", "job.yml", "--format", form), cli("graph", "one", "--format", form)
    assert (of_file.code, of_run.code) == (0, 0), of_file.err + of_run.err
    for drawn in (of_file.out, of_run.out):
        assert all(name in drawn for name in ("make", "copy", "dice", "data.csv", "final"))
    assert "Completed" in of_run.out
    assert "Completed" not in of_file.out


def test_graph_of_what_cannot_be(cli: Cli, project: Path) -> None:
    assert cli("graph", "job.yml", "--format", "svg").code == 2
    assert cli("graph", "nothing").code == 4
    assert cli("graph", "nothing.yml").code == 3


def test_a_registered_pipeline_outlives_its_files(cli: Cli, project: Path) -> None:
    register = ["pipeline", "register", "job.yml", "--name", "demo", "--backend", "process"]
    done = cli(*register, "--json")
    assert done.code == 0, done.err
    assert (done.json["version"], done.json["new"]) == (1, True)
    again = cli(*register)
    assert again.out.strip() == "demo@1  (unchanged)"
    (project / "src" / "ran.sh").write_text("exit 1\n")
    assert cli(*register).out.strip() == "demo@2"
    shutil.rmtree(project / "src")
    (project / "job.yml").unlink()

    assert [row["version"] for row in cli("pipeline", "list", "--json").json] == [2]
    shown = cli("pipeline", "show", "demo@1")
    assert "input       word   string      hello" in shown.out
    assert cli("pipeline", "show", "demo", "--json").json["versions"] == [2, 1]
    assert "make" in cli("graph", "pipeline:demo@1").out
    options = [
        "--backend",
        "process",
        "--config",
        "runner.yaml",
        "--wait",
        "--name",
        "again",
        "--set",
        "inputs.word=bye",
    ]
    done = cli("submit", "pipeline:demo@1", *options)
    assert done.code == 0, done.err
    assert ran(project) == ["copy", "dice", "make"]
    assert cli("download", "again.copy").code == 0
    assert (project / "again.copy" / "to" / "y").read_text() == "1,2\nbye\n"
    done = cli("pipeline", "show", "dmeo")
    assert done.code == 4
    assert "did you mean demo?" in done.err
