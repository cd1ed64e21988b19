"""Search spaces: each distribution is what Azure ML says, by its own statistics; what cannot work is refused by name."""

from __future__ import annotations

import math
from collections import Counter
from statistics import fmean, median, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import SpecError
from runner.job import Distribution, EarlyTermination, Objective, Sampling, SweepLimits, Where
from runner.plan import SweepPlan
from runner.sweeps import sobol, space
from runner.sweeps.rules import check, problems

EVEN = [(index + 0.5) / 4096 for index in range(4096)]
positions = st.floats(0, 1, exclude_max=True)


def plan(sampling: str = "random", logbase: float | None = None, **changes: Any) -> SweepPlan:
    values: dict[str, Any] = {
        "search_space": {"x": Distribution("uniform", low=0, high=1)},
        "objective": Objective("minimize", "loss"),
        "sampling": Sampling(sampling, logbase=logbase),
        "limits": SweepLimits(),
    }
    return SweepPlan(**{**values, **changes})


def numbers(distribution: Distribution, base: float = math.e) -> list[float]:
    return [float(space.at(distribution, position, base)) for position in EVEN]


def test_choice_gives_each_value_equally_often() -> None:
    found = Counter(space.at(Distribution("choice", values=("a", 2, True, 0.5)), position) for position in EVEN)
    assert found == {"a": 1024, 2: 1024, True: 1024, 0.5: 1024}


def test_a_mapping_in_a_choice_is_its_json() -> None:
    given = Distribution("choice", values=({"name": "ü", "deep": [1, 2]},))
    assert space.at(given, 0.3) == '{"name": "ü", "deep": [1, 2]}'


def test_randint_is_from_0_to_below_upper() -> None:
    assert Counter(numbers(Distribution("randint", high=4))) == {0: 1024, 1: 1024, 2: 1024, 3: 1024}


def test_uniform() -> None:
    found = numbers(Distribution("uniform", low=-2, high=4))
    assert -2 <= min(found) < -1.99
    assert 3.99 < max(found) <= 4
    assert fmean(found) == pytest.approx(1)


def test_quniform_rounds_to_multiples_and_whole_ones_are_integers() -> None:
    found = [space.at(Distribution("quniform", low=1, high=3, q=1), position) for position in EVEN]
    assert all(type(value) is int for value in found)
    assert Counter(found) == {1: 1024, 2: 2048, 3: 1024}  # half a step at each end
    assert {space.at(Distribution("quniform", low=0, high=0.3, q=0.1), p) for p in EVEN} == {0, 0.1, 0.2, 0.3}


def test_loguniform_is_uniform_in_the_exponent() -> None:
    assert median(numbers(Distribution("loguniform", low=-6, high=-2))) == pytest.approx(math.exp(-4), rel=1e-2)
    assert median(numbers(Distribution("loguniform", low=-6, high=-2), base=10)) == pytest.approx(1e-4, rel=1e-2)


def test_qloguniform() -> None:
    assert set(numbers(Distribution("qloguniform", low=-1, high=math.log(6), q=2))) == {0, 2, 4, 6}


def test_normal_and_lognormal() -> None:
    found = numbers(Distribution("normal", mu=5, sigma=2))
    assert [fmean(found), stdev(found)] == pytest.approx([5, 2], rel=0.01)
    logs = [math.log(value) for value in numbers(Distribution("lognormal", mu=1, sigma=0.5))]
    assert [fmean(logs), stdev(logs)] == pytest.approx([1, 0.5], rel=0.01)


def test_qnormal_and_qlognormal() -> None:
    assert all(value % 5 == 0 for value in numbers(Distribution("qnormal", mu=50, sigma=10, q=5)))
    found = numbers(Distribution("qlognormal", mu=2, sigma=0.3, q=0.5))
    assert all(value * 2 == round(value * 2) and value >= 0 for value in found)


@given(
    kind=st.sampled_from(sorted(space.KINDS - {"choice", "randint"})), position=positions,
    low=st.floats(-20, 19), width=st.floats(0.01, 20), q=st.floats(0.001, 10), sigma=st.floats(0.01, 3),
)  # fmt: skip
def test_every_value_is_finite_and_within_its_bounds(
    kind: str, position: float, low: float, width: float, q: float, sigma: float
) -> None:
    given = Distribution(kind, low=low, high=low + width, mu=low, sigma=sigma, q=q if kind.startswith("q") else None)
    value = float(space.at(given, position))
    assert math.isfinite(value)
    if kind not in space.NORMAL:
        low, high = given.low or 0.0, given.high or 0.0
        if kind in space.LOGARITHMIC:
            low, high = math.exp(low), math.exp(high)
        slack = (given.q or 0) / 2 + 1e-9 * max(1.0, abs(high), abs(low))
        assert low - slack <= value <= high + slack


def test_a_distribution_of_one_value_gives_it() -> None:
    assert set(numbers(Distribution("uniform", low=2, high=2)) + numbers(Distribution("normal", mu=2, sigma=0))) == {2}


@given(kind=st.sampled_from(sorted(space.KINDS)), one=positions, other=positions)
def test_a_higher_position_is_never_a_lower_value(kind: str, one: float, other: float) -> None:
    q = 0.25 if kind.startswith("q") else None
    given = Distribution(kind, values=(1, 2, 3), low=0, high=3, mu=0, sigma=1, q=q)
    first, second = sorted((one, other))
    assert float(space.at(given, first)) <= float(space.at(given, second))


# -- Sobol ----------------------------------------------------------------------------------------------------------

SCIPY = {
    1: (0.5,) * 21,
    7: (0.125, 0.625, 0.375, 0.125, 0.125, 0.375, 0.625, 0.625, 0.625, 0.875, 0.625, 0.125, 0.625, 0.375, 0.125, 0.125,
        0.125, 0.125, 0.625, 0.875, 0.875),
    100: (0.4140625, 0.2578125, 0.7734375, 0.7265625, 0.8828125, 0.7421875, 0.0234375, 0.4765625, 0.6328125, 0.6953125,
          0.4609375, 0.6796875, 0.4765625, 0.8515625, 0.3203125, 0.4921875, 0.6796875, 0.7421875, 0.8359375, 0.3359375,
          0.7578125),
}  # fmt: skip


def test_the_points_are_those_of_scipy() -> None:
    """Recorded from scipy.stats.qmc.Sobol(21, scramble=False), which uses the same direction numbers."""
    assert sobol.point(0, 21) == (0.0,) * 21
    for number, point in SCIPY.items():
        assert sobol.point(number, 21) == point


@pytest.mark.parametrize("seed", [None, 1])
def test_each_half_quarter_and_eighth_holds_as_many_points(seed: int | None) -> None:
    for dimension in range(sobol.DIMENSIONS):
        places = [sobol.point(number, sobol.DIMENSIONS, seed)[dimension] for number in range(256)]
        assert set(Counter(int(place * 256) for place in places).values()) == {1}


def test_a_seed_moves_the_points_and_moves_them_alike() -> None:
    assert sobol.point(5, 3, 1) == sobol.point(5, 3, 1) != sobol.point(5, 3, 2)


# -- rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (plan(search_space={}), "empty"),
        (plan("grid"), "grid sampling cannot take uniform"),
        (plan("bayesian", search_space={"x": Distribution("normal", mu=0, sigma=1)}), "bayesian sampling cannot take"),
        (plan("bayesian", early_termination=EarlyTermination("median_stopping")), "no early termination"),
        (plan("grid2"), "'grid2' is not known"),
        (plan(search_space={"x": Distribution("unifrom")}), "'unifrom' is not known"),
        (plan(search_space={"x": Distribution("choice")}), "at least one value"),
        (plan(search_space={"x": Distribution("uniform", low=2, high=1)}), "min_value 2 is above max_value 1"),
        (plan(search_space={"x": Distribution("uniform", low=1)}), "needs min_value and max_value"),
        (plan(search_space={"x": Distribution("quniform", low=1, high=2)}), "needs a q above 0"),
        (plan(search_space={"x": Distribution("normal", mu=1, sigma=-1)}), "a sigma of at least 0"),
        (plan(search_space={"x": Distribution("randint", high=0)}), "upper of at least 1"),
        (plan(search_space={"x": Distribution("loguniform", low=1, high=1000)}), "exponent"),
        (plan(search_space={"x": Distribution("choice", values=({"a": {"type": "uniform"}},))}), "within a choice"),
        (plan(limits=SweepLimits(max_total_trials=0)), "max_total_trials has to be 1 to 1000, not 0"),
        (plan(limits=SweepLimits(max_concurrent_trials=1001)), "max_concurrent_trials has to be 1 to 1000"),
        (plan(limits=SweepLimits(timeout_s=0)), "timeout has to be above 0"),
        (plan(objective=Objective("min", "loss")), "expected minimize or maximize"),
        (plan(early_termination=EarlyTermination("bandit")), "one of slack_factor and slack_amount"),
        (plan(early_termination=EarlyTermination("bandit", slack_factor=1, slack_amount=1)), "one of slack_factor"),
        (plan(early_termination=EarlyTermination("truncation_selection", truncation_percentage=100)), "1 to 99"),
        (plan(logbase=1), "logbase"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(given: SweepPlan, says: str) -> None:
    with pytest.raises(SpecError) as error:
        check(given)
    assert says in str(error.value)
    assert len(list(problems(given))) == 1


def test_all_problems_come_at_once_at_their_places() -> None:
    wrong = {
        "a": Distribution("uniform", low=2, high=1, where=Where("job.yml", 7, "search_space.a")),
        "b": Distribution("randint", where=Where("job.yml", 9, "search_space.b")),
    }
    with pytest.raises(SpecError) as error:
        check(plan(search_space=wrong))
    text = str(error.value)
    assert "2 problems" in text
    assert "job.yml:7: search_space.a" in text
    assert "job.yml:9: search_space.b" in text


@pytest.mark.parametrize("kind", sorted(space.KINDS))
def test_what_is_valid_passes(kind: str) -> None:
    q = 0.5 if kind.startswith("q") else None
    check(plan(search_space={"x": Distribution(kind, values=(1,), low=1, high=2, mu=0, sigma=1, q=q)}))
