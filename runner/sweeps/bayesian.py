"""Bayesian sampling by Optuna's tree-structured Parzen estimator. The only module that imports Optuna."""

from __future__ import annotations

import warnings
from random import Random
from typing import TYPE_CHECKING, Any

from runner.errors import CapabilityError
from runner.sweeps import space
from runner.sweeps.trial import State, best_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.job import Distribution
    from runner.plan import SweepPlan
    from runner.sweeps.trial import Trial


def check_installed() -> None:
    """Whether bayesian sampling can be done, before anything starts.

    Raises:
        CapabilityError: with the command that installs what is missing.
    """
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise CapabilityError(
            "bayesian sampling needs Optuna, which is not installed",
            "pip install 'runner[sweep]', or use sampling_algorithm: random",
        )


def suggest(plan: SweepPlan, trials: Sequence[Trial], seed: int) -> dict[str, str]:
    """Parameters for trial number `len(trials)`, learned from those before it.

    The study is made anew from the trials each time, so nothing has to survive a kill; the running ones are in it too,
    so that the next does not go where one is already.
    """
    check_installed()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {name: _distribution(given) for name, given in plan.search_space.items()}
    goal = plan.objective.goal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # constant_liar, since 2021
        sampler = optuna.samplers.TPESampler(
            seed=Random(f"{seed}.{len(trials)}").getrandbits(32), constant_liar=True, multivariate=False
        )
    study = optuna.create_study(sampler=sampler, direction=optuna.study.StudyDirection[goal.upper()])
    for trial in trials:
        value = best_value(trial.values, goal)
        if trial.state is State.RUNNING:
            state, value = optuna.trial.TrialState.RUNNING, None
        elif trial.state is State.COMPLETED and value is not None:
            state = optuna.trial.TrialState.COMPLETE
        else:
            state, value = optuna.trial.TrialState.FAIL, None
        params = {name: _value(plan.search_space[name], text) for name, text in trial.parameters.items()}
        study.add_trial(optuna.trial.create_trial(state=state, value=value, params=params, distributions=distributions))
    asked = study.ask(distributions).params
    return {name: space.text(_result(plan.search_space[name], asked[name])) for name in plan.search_space}


def _distribution(given: Distribution) -> Any:
    """Optuna's counterpart. Of a choice the index is sampled: its values may be mappings; a quniform counts its steps."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    size = space.count(given)
    if given.kind == "choice":
        return CategoricalDistribution(range(size or 1))
    if size is not None:
        first = round((given.low or 0.0) / given.q) if given.q else 0
        return IntDistribution(first, first + size - 1)
    return FloatDistribution(given.low or 0.0, given.high or 0.0)


def _result(given: Distribution, value: Any) -> Any:
    if given.kind == "choice":
        return space.chosen(given.values[value])
    return space.quantized(value * given.q, given.q) if given.kind == "quniform" and given.q else value


def _value(given: Distribution, text: str) -> Any:
    """The inverse: what Optuna has to be told that a trial had."""
    if given.kind == "choice":
        return [space.text(space.chosen(value)) for value in given.values].index(text)
    if given.kind == "quniform" and given.q:
        return round(float(text) / given.q)
    return int(text) if given.kind == "randint" else float(text)
