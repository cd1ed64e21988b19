"""Early termination by the worked examples of Azure ML's documentation, and what must hold for any trials."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.job import EarlyTermination
from runner.sweeps.policies import stops
from runner.sweeps.trial import State, Trial, best_value


def running(*values: float) -> Trial:
    return Trial({}, State.RUNNING, values)


def completed(*values: float) -> Trial:
    return Trial({}, State.COMPLETED, values)


BANDIT = EarlyTermination("bandit", evaluation_interval=1, delay_evaluation=10, slack_factor=0.2)


def test_bandit_by_factor() -> None:
    """The best has 0.8 at interval 10: below 0.8 / 1.2 = 0.667 a trial ends."""
    trials = [running(*[0.8] * 10), running(*[0.67] * 10), running(*[0.66] * 10)]
    assert stops(BANDIT, "maximize", trials) == {
        2: "stopped by the bandit policy at interval 10: 0.66 is beyond 0.666667, which slack_factor 0.2 allows from the "
        "best, 0.8"
    }


def test_bandit_by_amount() -> None:
    policy = EarlyTermination("bandit", slack_amount=0.2)
    assert set(stops(policy, "maximize", [running(0.8), running(0.61), running(0.59)])) == {2}
    assert set(stops(policy, "minimize", [running(0.8), running(0.99), running(1.01)])) == {2}


def test_bandit_takes_the_best_of_a_trial_up_to_the_interval_of_the_one_looked_at() -> None:
    policy = EarlyTermination("bandit", slack_amount=0.1)
    # The first is at 0.9 only at its third interval; the second is at its first, where the first had 0.5.
    assert stops(policy, "maximize", [running(0.5, 0.6, 0.9), running(0.45)]) == {}
    # It had 0.9 once: that it is worse now ends nothing.
    assert stops(policy, "maximize", [running(0.9, 0.9), running(0.9, 0.1)]) == {}


@pytest.mark.parametrize(("goal", "best", "passes", "fails"), [
    ("minimize", 1.0, 1.19, 1.21), ("maximize", -1.0, -1.19, -1.21), ("minimize", -1.2, -1.01, -0.99),
])  # fmt: skip
def test_bandit_by_factor_on_either_side_of_zero(goal: str, best: float, passes: float, fails: float) -> None:
    policy = EarlyTermination("bandit", slack_factor=0.2)
    assert set(stops(policy, goal, [running(best), running(passes), running(fails)])) == {2}


def test_median_stopping() -> None:
    """At interval 5 a trial ends if its best is worse than the median of the averages over intervals 1 to 5."""
    policy = EarlyTermination("median_stopping", evaluation_interval=1, delay_evaluation=5)
    trials = [completed(1, 2, 3, 4, 5, 99), running(4, 4, 4, 4, 4), running(1, 2, 2, 2, 2), running(0, 0, 0)]
    # Averages 3, 4, 1.8, 0: the median is 2.4.
    assert set(stops(policy, "maximize", trials)) == {2}


def test_truncation_selection() -> None:
    """The lowest 20% of the trials at interval 5."""
    policy = EarlyTermination("truncation_selection", 1, 5, truncation_percentage=20)
    trials = [running(0, 0, 0, 0, value) for value in (5, 4, 3, 2, 1, 6, 7, 8, 9, 10)]
    assert set(stops(policy, "maximize", trials)) == {3, 4}
    assert set(stops(policy, "minimize", trials)) == {8, 9}


@pytest.mark.parametrize(("exclude", "ended"), [(False, set()), (True, {1})])
def test_truncation_selection_without_finished_trials(exclude: bool, ended: set[int]) -> None:
    policy = EarlyTermination("truncation_selection", truncation_percentage=50, exclude_finished_jobs=exclude)
    assert set(stops(policy, "maximize", [running(9), running(5), completed(1), completed(2)])) == ended


def test_truncation_does_not_cut_the_rest_again_at_the_next_look() -> None:
    policy = EarlyTermination("truncation_selection", truncation_percentage=50, exclude_finished_jobs=True)
    trials = [running(value) for value in range(8)]
    ended = stops(policy, "maximize", trials)
    assert set(ended) == {0, 1, 2, 3}
    after = [Trial({}, State.STOPPED, each.values) if number in ended else each for number, each in enumerate(trials)]
    assert stops(policy, "maximize", after) == {}


def test_truncation_of_equals_cuts_no_more_than_its_share() -> None:
    policy = EarlyTermination("truncation_selection", truncation_percentage=50)
    assert set(stops(policy, "minimize", [running(1.0)] * 4)) == {2, 3}


@pytest.mark.parametrize("kind", ["bandit", "median_stopping", "truncation_selection"])
def test_a_policy_looks_only_at_multiples_of_its_interval_from_its_delay_on(kind: str) -> None:
    policy = EarlyTermination(kind, 3, 6, slack_amount=0.1, truncation_percentage=90)
    good = [completed(*[0.0] * 20)] * 9
    bad = [bool(stops(policy, "minimize", [*good, running(*[9.0] * count)])) for count in range(1, 8)]
    assert bad == [False] * 5 + [True] * 2


histories = st.lists(st.floats(-1e6, 1e6), max_size=6).map(tuple)
rows = st.lists(st.builds(Trial, st.just({}), st.sampled_from(State), histories), max_size=12)
rules = st.builds(
    EarlyTermination, st.sampled_from(["bandit", "median_stopping", "truncation_selection"]), st.integers(0, 3),
    st.integers(0, 4), st.floats(0, 3), st.none() | st.floats(0, 100), st.integers(1, 99), st.booleans(),
)  # fmt: skip


@given(policy=rules, goal=st.sampled_from(["minimize", "maximize"]), trials=rows)
def test_only_running_trials_end_and_never_the_leader(policy: EarlyTermination, goal: str, trials: list[Trial]) -> None:
    ended = stops(policy, goal, trials)
    assert all(trials[number].state is State.RUNNING and trials[number].values for number in ended)
    if policy.kind == "bandit":
        # Whoever has the best value of all at each interval is within any slack.
        for number in ended:
            mine = [trials[number].values[:k] for k in range(1, len(trials[number].values) + 1)]
            others = [best_value(trial.values[: len(mine)], goal) for trial in trials]
            best = best_value(tuple(value for value in others if value is not None), goal)
            assert best_value(trials[number].values, goal) != best


@given(policy=rules, goal=st.sampled_from(["minimize", "maximize"]), trials=rows)
def test_minimize_is_maximize_of_the_negative(policy: EarlyTermination, goal: str, trials: list[Trial]) -> None:
    other = "minimize" if goal == "maximize" else "maximize"
    mirrored = [Trial(trial.parameters, trial.state, tuple(-value for value in trial.values)) for trial in trials]
    assert set(stops(policy, goal, trials)) == set(stops(policy, other, mirrored))
