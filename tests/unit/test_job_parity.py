"""The parity table: it is the page, every refusal of the code is in it, and each row marked refused is really refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner.spec.job import load
from runner.spec.job.parity import ROWS, Fate, page

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "type: command\ncommand: echo\nenvironment: {image: a}\n"
PIPELINE = "type: pipeline\njobs:\n  a: {type: command, command: echo, environment: {image: a}}\n"


def node(text: str) -> str:
    return f"{PIPELINE}  b: {{{text}}}\n"


REFUSED = {
    "automl": "type: automl\ntask: classification\n",
    "spark": node("type: spark, entry: {file: a.py}"),
    "parallel": node("type: parallel, mini_batch_size: '1', task: {}"),
    "import": node("type: import, source: {}, output: {type: mltable}"),
    "data_transfer": node("type: data_transfer, task: copy_data"),
    "finetuning": "type: finetuning\n",
    "distillation": "type: distillation\n",
    "if_else": node("type: if_else, condition: true, true_block: '${{parent.jobs.a}}'"),
    "do_while": node("type: do_while, body: '${{parent.jobs.a}}', mapping: {}, limits: {max_iteration_count: 2}"),
    "parallel_for": node("type: parallel_for, body: '${{parent.jobs.a}}', items: '[]'"),
    "component.named": node("component: azureml:x@latest"),
    "code.azureml": COMMAND + "code: azureml:x:1\n",
    "code.address": COMMAND + "code: https://a.example/x.zip\n",
    "additional_includes.artifact": COMMAND + "additional_includes: [{type: artifact, feed: x}]\n",
    "environment.windows": COMMAND.replace("image: a", "image: a, os_type: Windows"),
    "environment.build_address": COMMAND.replace("image: a", "build: {path: 'https://a.example/x'}"),
    "docker_args.other": COMMAND + "resources: {docker_args: --privileged}\n",
    "resources.instance_count": COMMAND + "resources: {instance_count: 2}\n",
    "distribution": COMMAND + "distribution: {type: mpi, process_count_per_instance: 2}\n",
    "outputs.literal": COMMAND + "outputs: {x: {type: integer}}\n",
    "settings.hooks": PIPELINE + "settings: {on_init: a}\n",
    "sweep.nested": "type: sweep\ntrial: {command: echo, environment: {image: a}}\nobjective: {goal: minimize, "
    "primary_metric: m}\nsearch_space: {x: {type: choice, values: [{y: 1}]}}\n",
}


def test_the_page_is_the_table() -> None:
    """Where this fails: python -m runner.spec.job.parity > docs/parity.md."""
    assert (ROOT / "docs" / "parity.md").read_text("utf-8") == page()


def test_every_refusal_that_the_code_can_make_is_a_refused_row() -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "runner" / "spec" / "job").glob("*.py"))
    named = set(re.findall(r'cannot\(\s*"([\w.]+)"', sources))
    assert len(named) > 10
    assert {name for name in named if ROWS[name].fate is not Fate.REFUSED} == set()


def test_every_refused_row_has_an_example_here_and_a_way_out() -> None:
    refused = {feature for feature, row in ROWS.items() if row.fate is Fate.REFUSED}
    assert refused == REFUSED.keys()
    assert all(ROWS[feature].reason and ROWS[feature].way_out for feature in refused)
    assert all(not row.way_out for row in ROWS.values() if row.fate is not Fate.REFUSED)


@pytest.mark.parametrize("feature", REFUSED)
def test_a_refused_row_is_refused_at_its_line(tmp_path: Path, feature: str) -> None:
    file = tmp_path / "job.yml"
    file.write_text(REFUSED[feature])
    problems = load(file).problems
    assert [problem.feature for problem in problems] == [feature]
    assert problems[0].way_out == ROWS[feature].way_out
    assert ROWS[feature].reason in problems[0].reason
    assert problems[0].where.file == str(file)
    assert problems[0].where.line is not None or problems[0].where.key is None


def test_what_is_passed_on_stops_nothing(tmp_path: Path) -> None:
    file = tmp_path / "job.yml"
    file.write_text(
        COMMAND + "identity: {type: user_identity}\nservices: {s: {type: ssh}}\nqueue_settings: {job_tier: spot}\n"
        "resources: {instance_type: x, locations: [a]}\nproperties: {a: b}\nnotification_setting: {}\n"
    )
    job = load(file)
    assert job.problems == ()
    assert {"identity", "services", "queue_settings", "resources"} <= {*job.component.native}  # type: ignore[union-attr]
