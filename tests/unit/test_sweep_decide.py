"""A sweep simulated to its end: what is started, stopped and found best; and that a restart changes nothing."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import CapabilityError
from runner.job import Distribution, EarlyTermination, Objective, Sampling, SweepLimits
from runner.plan import SweepPlan
from runner.sweeps.decide import Decision, decide
from runner.sweeps.plot import svg
from runner.sweeps.trial import State, Trial, finite

AB = {"a": Distribution("choice", values=(1, 2, 3)), "b": Distribution("choice", values=("x", "y"))}
LINE = {"x": Distribution("uniform", low=-4, high=4)}


def sweep(kind: str = "random", space: Any = AB, goal: str = "minimize", **limits: Any) -> SweepPlan:
    return SweepPlan(space, Objective(goal, "loss"), Sampling(kind), SweepLimits(**limits))


def ask(plan: SweepPlan, trials: list[Trial], elapsed: float = 0.0, room: int = 1000, **options: Any) -> Decision:
    return decide(plan, trials, seed=7, elapsed_s=elapsed, room=room, **options)


def end(trial: Trial, *values: float, state: State = State.COMPLETED) -> Trial:
    return replace(trial, state=state, values=values)


def run(plan: SweepPlan, loss: Any, room: int = 2) -> list[Trial]:
    """All trials of a sweep whose trials end at once."""
    trials: list[Trial] = []
    while not (decision := ask(plan, trials, room=room)).finished:
        assert decision.start
        assert len(decision.start) <= room
        trials += [end(Trial(found, State.RUNNING), loss(found)) for found in decision.start]
    return trials


def test_grid_is_every_combination_once_in_order() -> None:
    trials = run(sweep("grid"), lambda found: int(found["a"]))
    assert [tuple(trial.parameters.values()) for trial in trials] == [
        ("1", "x"), ("1", "y"), ("2", "x"), ("2", "y"), ("3", "x"), ("3", "y"),
    ]  # fmt: skip
    assert ask(sweep("grid"), trials).best == 0
    assert ask(sweep("grid", goal="maximize"), trials).best == 4


@pytest.mark.parametrize("kind", ["random", "sobol", "bayesian"])
def test_a_finite_space_is_used_up_without_a_trial_twice(kind: str) -> None:
    found = [tuple(trial.parameters.items()) for trial in run(sweep(kind), lambda _: 1.0)]
    assert len(found) == len(set(found)) == 6


@pytest.mark.parametrize("kind", ["grid", "random", "sobol", "bayesian"])
def test_the_limits_hold(kind: str) -> None:
    plan = sweep(kind, max_total_trials=5, max_concurrent_trials=2)
    trials = [Trial(found, State.RUNNING) for found in ask(plan, []).start]
    assert len(trials) == 2
    assert ask(plan, trials).start == ()
    trials[0] = end(trials[0], 1.0)
    assert len(ask(plan, trials).start) == 1
    assert len(run(plan, lambda _: 1.0)) == 5


@pytest.mark.parametrize("kind", ["random", "sobol"])
@given(stop=st.integers(0, 19), room=st.integers(1, 5))
@settings(max_examples=20)
def test_a_restart_goes_on_as_if_nothing_had_been(kind: str, stop: int, room: int) -> None:
    plan = sweep(kind, LINE, max_total_trials=20)
    whole = [trial.parameters for trial in run(plan, lambda _: 0.0, room)]
    begun = [Trial(found, State.RUNNING) for found in whole[:stop]]
    assert list(ask(plan, begun, room=room).start) == whole[stop : stop + room]


def test_another_seed_is_another_sweep() -> None:
    plan = sweep("random", LINE, max_total_trials=3)
    assert decide(plan, [], seed=1, elapsed_s=0, room=3).start != decide(plan, [], seed=2, elapsed_s=0, room=3).start


def test_bayesian_finds_a_minimum_better_than_chance() -> None:
    mixed = {**LINE, "kind": Distribution("choice", values=({"deep": 1}, "b")), "n": Distribution("randint", high=9),
             "q": Distribution("quniform", low=0, high=2, q=0.5)}  # fmt: skip

    def loss(found: Any) -> float:
        return float((float(found["x"]) - 1.5) ** 2 + (found["kind"] == "b") + int(found["n"]) + float(found["q"]))

    plan = sweep("bayesian", mixed, max_total_trials=60)
    trials = run(plan, loss, room=1)
    first, last = ([trial.values[0] for trial in part] for part in (trials[:15], trials[-15:]))
    assert sorted(last)[7] < sorted(first)[7]  # medians
    best = trials[ask(plan, trials).best or 0]
    assert best.values[0] < 1.5
    assert re.fullmatch(r'\{"deep": 1\}|b', best.parameters["kind"])


def test_bayesian_without_optuna_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.sweeps.rules import check

    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CapabilityError, match=r"pip install 'runner\[sweep\]'"):
        check(sweep("bayesian"))


def test_a_policy_stops_and_the_stopped_are_not_the_best() -> None:
    plan = replace(sweep("grid"), early_termination=EarlyTermination("bandit", slack_amount=1))
    started = [Trial(found, State.RUNNING) for found in ask(plan, []).start]
    trials = [end(started[0], 5.0), replace(started[1], values=(7.0,)), end(started[2], 1.0, state=State.STOPPED)]
    decision = ask(plan, trials, room=0)
    assert list(decision.stop) == [1]
    assert "bandit" in decision.stop[1]
    assert decision.best == 0


def test_the_sweeps_timeout_stops_all_and_ends_it() -> None:
    plan = sweep(max_total_trials=9, timeout_s=60)
    trials = [end(Trial(found, State.RUNNING), 1.0) for found in ask(plan, [], room=2).start]
    trials.append(Trial({"a": "9", "b": "z"}, State.RUNNING))
    assert not ask(plan, trials, elapsed=59).stop
    late = ask(plan, trials, elapsed=60)
    assert (late.start, list(late.stop), late.finished, late.timed_out) == ((), [2], False, True)
    trials[2] = end(trials[2], state=State.STOPPED)
    assert ask(plan, trials, elapsed=61) == Decision(finished=True, best=0, timed_out=True)


def test_a_sweep_that_is_canceled_starts_nothing_more() -> None:
    assert ask(sweep(), [], ending=True) == Decision(finished=True)
    trials = [Trial({"a": "1", "b": "x"}, State.RUNNING)]
    assert ask(sweep(), trials, ending=True) == Decision()


def test_failed_trials_count_and_are_never_the_best() -> None:
    plan = sweep(max_total_trials=2)
    trials = [end(Trial(found, State.RUNNING), 1.0, state=State.FAILED) for found in ask(plan, []).start]
    assert ask(plan, trials) == Decision(finished=True, best=None)


def test_nan_is_no_value() -> None:
    assert finite([1.0, float("nan"), float("inf"), 2.0]) == (1.0, 2.0)


def test_no_room_is_no_end() -> None:
    assert not ask(sweep(), [], room=0).finished


# -- the picture ----------------------------------------------------------------------------------------------------


def test_the_picture_is_xml_with_a_panel_for_each_parameter_and_a_dot_for_each_value() -> None:
    space = {**AB, "<x>&": Distribution("loguniform", low=-6, high=0)}
    plan = sweep("random", space, max_total_trials=9)
    trials = run(plan, lambda found: float(found["<x>&"]) + int(found["a"]))
    trials[3] = replace(trials[3], state=State.STOPPED)
    trials[4] = replace(trials[4], state=State.FAILED, values=())
    picture = svg(plan, trials)
    root = ET.fromstring(picture)
    ns = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{ns}g")) == 4
    assert [len(panel.findall(f"{ns}circle")) for panel in root.findall(f"{ns}g")] == [8] * 4
    assert "nan" not in picture


ONE = Trial({"a": "1", "b": "x"}, State.COMPLETED, (2.0,))


@pytest.mark.parametrize("trials", [[], [replace(ONE, state=State.FAILED, values=())], [ONE]])
def test_the_picture_of_few_trials(trials: list[Trial]) -> None:
    assert ET.fromstring(svg(sweep(), trials)).tag.endswith("svg")
