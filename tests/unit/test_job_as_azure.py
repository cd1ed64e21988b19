"""Where azure-ai-ml takes a file, so do we: members and values that are odd, but not wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.drafts import drafts
from runner.errors import SpecError
from runner.spec.yamldoc import parse
from tests.unit.job_files import Files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


COMPONENT = "type: command\nname: c\nversion: 1\ncommand: echo\n"


def test_unknown_members_of_components_and_of_steps_with_one_have_no_effect(files: Files) -> None:
    files.write(COMPONENT + "compute: azureml:x\n", "c.yml")
    job = files.load("type: pipeline\njobs:\n  a: {type: command, component: ./c.yml, owner_of_it: me}\n")
    told = "\n".join(job.warnings)
    assert "c.yml:5: compute: unknown key in a command component; it has no effect" in told
    assert "job.yml:3: jobs.a.owner_of_it: unknown key" in told
    assert "did you mean environment?" in files.error(
        "type: pipeline\njobs:\n  a: {type: command, component: ./c.yml, enviroment: azureml:e:1}\n"
    )
    assert "unknown key" in files.error("type: pipeline\njobs:\n  a: {type: command, command: echo, owner_of_it: me}\n")


def test_an_output_that_no_step_makes_is_told(files: Files) -> None:
    job = files.load("type: pipeline\noutputs: {y: }\njobs:\n  a: {type: command, command: b}\n")
    assert any("job.yml:2: outputs.y: no step makes this output" in warning for warning in job.warnings)
    assert drafts(job).outputs == {}


def test_numbers_of_another_base(files: Files) -> None:
    job = files.load("type: command\ncommand: echo\ninputs: {h: 0x1F, t: 12:30:45, n: {type: integer, value: 0x10}}\n")
    assert job.inputs == {"h": "31", "t": "12:30:45", "n": "16"}


def test_expressions_in_environment_variables(files: Files) -> None:
    job = files.load(
        "type: pipeline\ninputs: {p: 3}\njobs:\n  a:\n    type: command\n    command: echo\n    inputs: {x: 5}\n"
        '    environment_variables: {A: "${{parent.inputs.p}}-a", B: "${{ inputs.x }}", C: "${{other}}"}\n'
    )
    (step,) = drafts(job).steps
    assert step.command.variables == {"A": "3-a", "B": "${{ inputs.x }}", "C": "${{other}}"}
    bad = files.load(
        'type: pipeline\njobs:\n  a: {type: command, command: echo, environment_variables: {A: "${{parent.inputs.q}}"}}\n'
    )
    with pytest.raises(SpecError, match=r"job\.yml:3.*parent\.inputs\.q"):
        drafts(bad)


def test_a_search_space_gives_what_a_trial_needs(files: Files) -> None:
    sweep = (
        "{type: sweep, search_space: {lr: {type: choice, values: [1, 2]}}, objective: {goal: minimize, primary_metric: m},"
        " limits: {max_total_trials: 2}, trial: %s}\n"
    )
    files.write(COMPONENT + "inputs:\n  lr: {type: number}\n  k: {type: integer, default: 3}\n", "c.yml")
    for trial in ("./c.yml", "{type: command, command: 'echo ${{inputs.lr}}', inputs: {lr: {type: number}}}"):
        (step,) = drafts(files.load("type: pipeline\njobs:\n  s: " + sweep % trial)).steps
        assert "lr" not in step.parameters


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(1000)) + "}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 8)),
        "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 3000)),
    ],
)  # fmt: skip
def test_merges_of_merges_are_bounded(text: str) -> None:
    with pytest.raises(SpecError, match=r"aliases are expanded|nested deeper"):
        parse(text, "f", nodes=2_000_000)


def test_many_steps_may_share_one_mapping() -> None:
    steps = "".join(f"s{n}:\n  <<: *all\n  command: echo {n}\n" for n in range(20_000))
    data = parse("all: &all {type: command, compute: x, tags: {a: b}}\n" + steps, "f", nodes=2_000_000).data
    assert data["s19999"]["tags"] == {"a": "b"}
