"""A job survives as JSON: everything that it means, and nothing of where it was written."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import job as nouns
from runner import job_json
from runner.errors import StoreError
from runner.job import (
    Code,
    Command,
    Data,
    DataType,
    Distribution,
    EarlyTermination,
    Environment,
    Foreign,
    Graph,
    Input,
    Job,
    Mode,
    Node,
    Objective,
    Output,
    Problem,
    Reference,
    Sampling,
    Settings,
    Sweep,
    SweepLimits,
    Where,
)
from runner.model import Limits, Reason, RetryPolicy

COMMAND = Command(
    inputs={"lr": Input(DataType.NUMBER, default=0.1, minimum=0.0, choices=(0.1, 0.2)),
            "data": Input(DataType.URI_FOLDER, Data("/d", DataType.URI_FOLDER, Mode.RO_MOUNT), optional=True)},
    outputs={"model": Output(DataType.MLFLOW_MODEL, path="/x/${{name}}", asset=("m", None))},
    command="echo ${{inputs.lr}}", args=("a", "b\n"), code=Code(Path("/src"), includes=(Path("/lib"),)),
    environment=Environment(image="debian", conda={"path": ["a", {"Job": 1}], "when": date(2026, 6, 1)}),
    variables={"map": "1"}, limits=Limits(memory_bytes=5, ulimits={"nofile": (1, 2)}),
    retry=RetryPolicy(2, (Reason.LOST,), 2.0), deterministic=False, name="train", native={"queue": None},
    where=Where("a.yml", 3, "jobs.x"),
)  # fmt: skip
SWEEP = Sweep(
    COMMAND,
    {"lr": Distribution("choice", values=(1, "a", 0.5))},
    Objective("minimize", "loss"),
    Sampling("sobol", 3, 10.0),
    SweepLimits(4, 2, 1.5, 2.5),
    EarlyTermination("bandit", slack_factor=0.1),
)
GRAPH = Graph(
    inputs={"x": Input(DataType.STRING)},
    outputs={"final": Output()},
    nodes={
        "a": Node(
            COMMAND, {"lr": Reference("x", type=DataType.NUMBER), "data": Data("/d")}, {"model": Output(parent="final")}
        ),
        "b": Node(SWEEP, {"lr": 1, "data": Reference("model", "a")}, compute="big"),
        "c": Node(Graph(nodes={"inner": Node(Foreign("spark", raw={"conf": {"Data": 1}}))})),
    },
    settings=Settings("cpu", "store", True, False),
)
JOB = Job(
    GRAPH, {"x": "1", "flag": True, "n": 2**60, "r": 1.0}, {"final": Output(path="/out")}, "cpu", "n", "d", "e", "f",
    {"map": "path"}, (Problem("spark", "why", "how", Where("a.yml", 9)),), ("k: it has no effect",),
    {"k": [1, [2], {"list": 3}]}, Path("/p/job.yml"),
)  # fmt: skip


def again(job: Job) -> Job:
    return job_json.from_json(json.loads(json.dumps(job_json.to_json(job))))


def test_a_job_of_everything_comes_back() -> None:
    assert again(JOB) == replace(JOB, file=None)
    assert isinstance(again(JOB).component, Graph)


def test_the_sample_has_every_noun() -> None:
    """So that a new one, or a new member of an old one, is looked at here."""
    seen: set[type] = set()

    def walk(value: Any) -> None:
        if is_dataclass(value):
            seen.add(type(value))
            for each in fields(value):
                walk(getattr(value, each.name))
        elif isinstance(value, tuple | list):
            for each in value:
                walk(each)
        elif hasattr(value, "values"):
            for each in value.values():
                walk(each)

    walk(JOB)
    classes = {each for each in vars(nouns).values() if isinstance(each, type) and is_dataclass(each)}
    assert classes - {Job} <= seen


def test_where_it_was_written_does_not_count() -> None:
    moved = replace(JOB, component=replace(GRAPH, where=Where("b.yml", 7)), file=Path("/q"))
    assert json.dumps(job_json.to_json(moved)) == json.dumps(job_json.to_json(JOB))
    assert "a.yml" not in json.dumps(job_json.to_json(JOB))


def test_kinds_of_values_are_kept_apart() -> None:
    for value in (1, 1.0, True, "1", "true", "/d"):
        back = again(replace(JOB, inputs={"x": value})).inputs["x"]
        assert (back, type(back)) == (value, type(value))


_NATIVE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.sampled_from(["Job", "map", "path"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _NATIVE, max_size=3))
def test_the_user_s_own_mappings_are_never_taken_for_ours(native: dict[str, Any]) -> None:
    assert again(replace(JOB, native=native)).native == native


@pytest.mark.parametrize(
    "damage",
    [
        None,
        1,
        [],
        {},
        {"Job": {}},
        {"Job": 1},
        {"Nothing": {}},
        {"a": 1, "b": 2},
        {"map": {}},
        {"Where": {}},
        {"Job": {"component": {"DataType": "none"}}},
        {"Job": {"new": 1}},
    ],
)
def test_damage_is_an_error_and_no_traceback(damage: Any) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        job_json.from_json(damage)
