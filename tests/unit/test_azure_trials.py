"""What the run history of Azure ML says of sweeps, as the engine needs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.backends.azureml import trials
from runner.backends.base import Box, Member, Phase, Task, Whole
from runner.job import Distribution, Objective, Sampling, SweepLimits
from runner.model import Limits
from runner.plan import SweepPlan

SPACE = {"lr": Distribution("uniform", low=0.0, high=1.0), "kind": Distribution("choice", values=("a", "b"))}
SWEEP = SweepPlan(SPACE, Objective("minimize", "loss"), Sampling("random"), SweepLimits())


@pytest.fixture
def whole(tmp_path: Path) -> Whole:
    task = Task(
        key="k", argv=(), image=None, env={}, inputs={}, outputs={}, secrets={}, limits=Limits(), box=Box(tmp_path),
        log=tmp_path / "log",
    )  # fmt: skip
    return Whole((Member("prep", task), Member("tune", task, sweep=SWEEP)))


def run(ident: str, status: str = "Completed", *, tags: Any = None, **properties: str) -> dict[str, Any]:
    return {"runId": ident, "status": status, "tags": tags or {}, "properties": properties}


def nobody_asked(_: str) -> dict[str, Any]:
    pytest.fail("the run history said it already")


def test_parameters_are_texts_as_here(whole: Whole) -> None:
    first = run("s_0", tags={"hyperparameters": json.dumps({"lr": 0.1, "kind": "a", "other": 3})})
    second = run("s_1", tags={"hyperparameters": {"--lr": 1, "--kind": "b"}})
    found = trials.tried(whole, {"tune": run("s"), "tune.trial_0": first, "tune.trial_1": second}, nobody_asked)
    assert found.parameters == {"tune.trial_0": {"lr": "0.1", "kind": "a"}, "tune.trial_1": {"lr": "1", "kind": "b"}}


@pytest.mark.parametrize("tags", [None, {"hyperparameters": "no JSON"}, {"hyperparameters": "[1]"}])
def test_the_job_is_asked_where_the_run_does_not_say(whole: Whole, tags: Any) -> None:
    runs = {"tune": run("s"), "tune.trial_0": run("s_0", tags=tags)}
    found = trials.tried(whole, runs, lambda ident: {"lr": 0.5} if ident == "s_0" else {})
    assert found.parameters == {"tune.trial_0": {"lr": "0.5"}}
    assert trials.tried(whole, runs, lambda _: {}).parameters == {}


def test_the_best_is_the_services_word(whole: Whole) -> None:
    one = run("s_0", tags={"hyperparameters": '{"lr": 1}'})
    runs = {"tune": run("s", best_child_run_id="s_0"), "tune.trial_0": one, "tune.trial_1": {**one, "runId": "s_1"}}
    found = trials.tried(whole, runs, nobody_asked)
    assert found.best == {"tune": "tune.trial_0"}
    assert found.sweeps["tune"].phase is Phase.ENDED
    runs["tune"] = run("s", "Running", best_child_run_id="elsewhere")
    assert trials.tried(whole, runs, nobody_asked).best == {}


def test_a_sweep_that_has_not_begun_and_steps_that_are_none(whole: Whole) -> None:
    found = trials.tried(whole, {"prep": run("p")}, nobody_asked)
    assert (found.sweeps, found.parameters, found.best) == ({}, {}, {})
