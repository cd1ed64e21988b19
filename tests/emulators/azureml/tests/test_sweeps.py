"""Sweeps: which trials there are, what of them is told, when they are given up, which is best."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.azureml import names
from tests.emulators.azureml.execution.policies import policy_of
from tests.emulators.azureml.execution.space import space_of
from tests.emulators.azureml.tests.bench import Bench

GRID = {"samplingAlgorithmType": "Grid"}
RANDOM = {"samplingAlgorithmType": "Random", "seed": 7}


def drawn(space: dict[str, Any], algorithm: object, count: int) -> list[dict[str, Any]]:
    made = space_of(space, algorithm, 1)
    return [values for number in range(count) if (values := made.trial(number, [])) is not None]


def test_a_grid_is_every_combination_once() -> None:
    space = {"a": ["choice", [[1, 2]]], "b": ["choice", [["x", "y", "z"]]]}
    found = drawn(space, GRID, 100)
    assert [tuple(one.values()) for one in found] == [(a, b) for a in (1, 2) for b in "xyz"]


def test_random_values_keep_to_their_distributions_and_come_again_by_seed() -> None:
    space = {
        "u": ["uniform", [2, 3]], "q": ["quniform", [0, 10, 2.5]], "l": ["loguniform", [0, 1]], "i": ["randint", [4]],
        "n": ["normal", [0, 1]], "c": ["choice", [["a", "b"]]],
    }  # fmt: skip
    found = drawn(space, RANDOM, 200)
    assert found == drawn(space, RANDOM, 200) != drawn(space, {**RANDOM, "seed": 8}, 200)
    assert all(2 <= one["u"] <= 3 and 1 <= one["l"] <= 2.72 for one in found)
    assert {one["q"] for one in found} == {0, 2.5, 5, 7.5, 10}
    assert {one["i"] for one in found} == {0, 1, 2, 3}
    assert {one["c"] for one in found} == {"a", "b"}


def test_a_finite_space_is_drawn_from_without_repetition() -> None:
    found = drawn({"a": ["choice", [[1, 2, 3]]], "b": ["randint", [3]]}, RANDOM, 50)
    assert len({json.dumps(one) for one in found}) == len(found) == 9


def test_sobol_fills_the_space_evenly() -> None:
    found = drawn({"a": ["uniform", [0, 1]]}, {**RANDOM, "rule": "sobol"}, 8)
    assert {int(one["a"] * 4) for one in found} == {0, 1, 2, 3}


def test_bayesian_comes_back_to_what_was_good() -> None:
    made = space_of({"a": ["uniform", [0, 1]]}, "bayesian", 1)
    before = [({"a": 0.1}, 1.0), ({"a": 0.9}, 5.0), ({"a": 0.5}, None)]
    tried = [made.trial(number, before) for number in range(3, 20)]
    assert {"a": 0.9} in tried
    assert len({json.dumps(one) for one in tried}) > 3


@pytest.mark.parametrize(
    ("space", "algorithm", "said"),
    [
        ({"a": ["uniform", [0, 1]]}, GRID, "does not take uniform"),
        ({"a": ["normal", [0, 1]]}, "bayesian", "does not take normal"),
        ({"a": ["nope", [0]]}, RANDOM, "not understood"),
        ({}, RANDOM, "no search space"),
        ({"a": ["randint", [4]]}, "genetic", "genetic"),
    ],
)
def test_a_space_that_cannot_be_searched(space: dict[str, Any], algorithm: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        space_of(space, algorithm, 1)


@pytest.mark.parametrize(
    ("told", "mine", "others", "maximize", "stops"),
    [
        ({"policyType": "Bandit", "slackFactor": 0.25}, [0.7], [[0.9]], True, True),
        ({"policyType": "Bandit", "slackFactor": 0.25}, [0.73], [[0.9]], True, False),
        ({"policy_type": "bandit", "slack_amount": 0.1}, [1.2], [[1.0]], False, True),
        ({"policy_type": "bandit", "slack_amount": 0.1}, [1.05], [[1.0]], False, False),
        ({"policyType": "MedianStopping"}, [1, 2], [[3, 5], [1, 9], [0, 1]], True, True),
        ({"policyType": "MedianStopping"}, [1, 5], [[3, 5], [1, 9], [0, 1]], True, False),
        ({"policyType": "TruncationSelection", "truncationPercentage": 50}, [1], [[2], [3], [0]], True, True),
        ({"policyType": "TruncationSelection", "truncationPercentage": 25}, [1], [[2], [3], [0]], True, False),
        ({"policyType": "Bandit", "slackFactor": 0.1}, [0.1], [], True, False),
    ],
)
def test_policies(
    told: dict[str, Any], mine: list[float], others: list[list[float]], maximize: bool, stops: bool
) -> None:
    policy = policy_of(told)
    assert policy is not None
    logged = {"me": mine, **{str(number): values for number, values in enumerate(others)}}
    assert policy.stops("me", logged, maximize=maximize) == stops


def test_a_policy_is_due_by_its_interval_and_delay() -> None:
    policy = policy_of({"policyType": "MedianStopping", "evaluationInterval": 2, "delayEvaluation": 4})
    assert policy is not None
    assert [reports for reports in range(9) if policy.due(reports)] == [4, 6, 8]


# -- executed -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, image: str) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("emu"), image).start()
    yield made
    made.stop()


def sweep(text: str, space: dict[str, Any], **members: Any) -> dict[str, Any]:
    trial = {"command": text, "environmentId": names.arm("environments", "small", "versions", "1")}
    return {
        "jobType": "Sweep", "trial": trial, "searchSpace": space, "samplingAlgorithm": GRID,
        "objective": {"goal": "minimize", "primaryMetric": "loss"}, "computeId": names.arm("computes", "cpu-cluster"),
        "limits": {"jobLimitsType": "Sweep", "maxTotalTrials": 10, "maxConcurrentTrials": 2}, **members,
    }  # fmt: skip


def log_metric(bench: Bench, run_id: str, value: float) -> None:
    one = {"value": value, "step": 0, "timestamp": 0}
    bench.state.update("run", run_id, lambda doc: doc["_metrics"].setdefault("loss", []).append(one))


WAITS = "while [ ! -e go ]; do sleep 0.05; done; echo ${{search_space.x}} > ${{outputs.o}}/x"


@pytest.mark.docker
def test_trials_run_and_the_best_is_told(bench: Bench) -> None:
    name = bench.begin(sweep(WAITS, {"x": ["choice", [[1, 2, 3]]]}, outputs={"o": {"jobOutputType": "uri_folder"}}))
    for number, loss in enumerate((0.5, 0.2, 0.4)):
        run_id = f"{name}_{number}"
        bench.runs(run_id)
        if number == 0:
            assert bench.state.get("run", f"{name}_2") is None  # two at once
        log_metric(bench, run_id, loss)
        (bench.folder / "work" / run_id / "wd" / "go").touch()
        assert bench.ended(run_id)["status"] == "Completed"
    run = bench.ended(name)
    assert run["status"] == "Completed"
    assert run["properties"]["best_child_run_id"] == f"{name}_1"
    assert run["properties"]["score"] == "0.2"
    assert bench.output(name, "o", "x") == b"2\n"
    trial = bench.run(f"{name}_2")
    assert json.loads(trial["tags"]["hyperparameters"]) == json.loads(trial["properties"]["_parameters"]) == {"x": 3}
    assert (trial["parentRunId"], trial["rootRunId"]) == (name, name)
    assert f"{name}_2".encode() in bench.log(name, "azureml-logs/hyperdrive.txt")


@pytest.mark.docker
def test_a_trial_that_lags_is_given_up(bench: Bench) -> None:
    policy = {"policyType": "Bandit", "slackAmount": 0.1, "evaluationInterval": 1}
    space = {"x": ["choice", [[1, 2]]]}
    name = bench.begin(sweep(WAITS, space, outputs={"o": {"jobOutputType": "uri_folder"}}, earlyTermination=policy))
    for number in (0, 1):
        bench.runs(f"{name}_{number}")
    log_metric(bench, f"{name}_0", 0.1)
    log_metric(bench, f"{name}_1", 0.9)
    assert bench.ended(f"{name}_1")["status"] == "Canceled"
    (bench.folder / "work" / f"{name}_0" / "wd" / "go").touch()
    run = bench.ended(name)
    assert (run["status"], run["properties"]["best_child_run_id"]) == ("Completed", f"{name}_0")


@pytest.mark.docker
def test_a_failed_trial_fails_the_sweep_after_all_ran(bench: Bench) -> None:
    name = bench.begin(sweep("exit ${{search_space.x}}", {"x": ["choice", [[0, 3, 0]]]}))
    run = bench.ended(name)
    assert run["status"] == "Failed"
    assert "at least one of the child runs" in run["error"]["error"]["message"]
    assert [bench.run(f"{name}_{number}")["status"] for number in range(3)] == ["Completed", "Failed", "Completed"]


@pytest.mark.docker
def test_a_cancel_and_the_limit_end_trials(bench: Bench) -> None:
    bench.profile.change({"cancel_grace_s": 1})
    try:
        name = bench.begin(sweep("sleep 100 # ${{search_space.x}}", {"x": ["choice", [[1, 2, 3]]]}))
        bench.runs(f"{name}_1")
        bench.execution.cancel(name)
        assert bench.ended(name)["status"] == "Canceled"
        assert [one["status"] for one in bench.state.list("run", parentRunId=name)] == ["Canceled"] * 2

        limits = {"jobLimitsType": "Sweep", "maxTotalTrials": 3, "maxConcurrentTrials": 1, "timeout": "PT1S"}
        name = bench.begin(sweep("sleep 100 # ${{search_space.x}}", {"x": ["choice", [[1, 2]]]}, limits=limits))
        run = bench.ended(name)
        assert run["status"] == "Canceled"
        assert "limits.timeout" in run["error"]["error"]["message"]
    finally:
        bench.profile.reset()


@pytest.mark.docker
def test_a_sweep_within_a_pipeline_hands_on_the_best_trial(bench: Bench) -> None:
    folder = {"type": "uri_folder"}
    trial = bench.component(
        "trial", "while [ ! -e go ]; do sleep 0.05; done; echo ${{inputs.x}} > ${{outputs.o}}/x",
        inputs={"x": {"type": "integer"}}, outputs={"o": folder},
    )  # fmt: skip
    shown = bench.component("shown", "cat ${{inputs.d}}/x", inputs={"d": folder})
    nodes = {
        "s": {
            "type": "sweep", "trial": trial, "search_space": {"x": {"type": "choice", "values": [5, 6]}},
            "sampling_algorithm": "grid", "objective": {"goal": "maximize", "primary_metric": "loss"},
            "limits": {"max_total_trials": 2, "trial_timeout": 60},
        },
        "t": {
            "type": "command", "componentId": shown,
            "inputs": {"d": {"value": "${{parent.jobs.s.outputs.o}}", "job_input_type": "literal"}},
        },
    }  # fmt: skip
    name = bench.begin(bench.pipeline(nodes))
    bench.until(lambda: bench.state.list("run", parentRunId=name), "the sweep began")
    step = bench.state.list("run", parentRunId=name)[0]["runId"]
    for number in (0, 1):
        bench.runs(f"{step}_{number}")
        log_metric(bench, f"{step}_{number}", number)
        (bench.folder / "work" / f"{step}_{number}" / "wd" / "go").touch()
    assert bench.ended(name)["status"] == "Completed", bench.run(name)["error"]
    after = next(run for run in bench.state.list("run", parentRunId=name) if run["_node"] == "t")
    assert bench.log(after["runId"]) == b"6\n"


@pytest.mark.docker
def test_a_sweep_outlives_the_emulator(tmp_path: Path, image: str) -> None:
    first = Bench(tmp_path, image).start()
    space = {"x": ["choice", [["a", "b"]]]}
    name = first.begin(sweep(WAITS, space, outputs={"o": {"jobOutputType": "uri_folder"}}))
    first.until(lambda: (first.state.get("run", f"{name}_1") or {}).get("status") == "Running", "both run")
    first.stop(keep=True)
    for number in (0, 1):
        (tmp_path / "work" / f"{name}_{number}" / "wd" / "go").touch()
    second = Bench(tmp_path, image).start()
    try:
        log_metric(second, f"{name}_1", 1)
        second.execution.resume()
        assert second.ended(name)["properties"]["best_child_run_id"] == f"{name}_1"
        assert second.output(name, "o", "x") == b"b\n"
    finally:
        second.stop()
