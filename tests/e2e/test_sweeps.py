"""Sweeps as they run: trials as child runs, the best one's outputs, early termination, cancel, and kills at any moment."""

from __future__ import annotations

import os
import signal
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from runner.engine.context import Context
from runner.engine.pool import Pools
from runner.engine.publish import Publisher
from runner.engine.sweep import sweep_driver
from runner.errors import StoreError
from runner.job import Distribution, EarlyTermination, Objective, Sampling, SweepLimits
from runner.model import Reason, Status
from runner.plan import Plan, PlanStep, SweepPlan, Upstream
from runner.run import Run
from runner.store import Store
from runner.supervisor import ensure
from tests.plans import MemoryBackend, accept, bash, published_by_nobody, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.store import RunRow

LOG = 'log() { echo "$(date +%s%3N) $1 ${2:-0}" >> "$RUNNER_TRACKING/metrics/loss"; }\n'
CHOICE = {"x": Distribution("choice", values=(1, 2, 3, 4))}


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    found = Store(home)
    yield found
    found.close()


def sweep(
    text: str, kind: str = "grid", space: Any = None, policy: EarlyTermination | None = None, **limits: Any
) -> PlanStep:
    """A step `tune`: x is in the command, y (an input of the same name) in a variable."""
    limits = {"max_concurrent_trials": 2, **limits}
    plan = SweepPlan(space or CHOICE, Objective("minimize", "loss"), Sampling(kind), SweepLimits(**limits), policy)
    return replace(bash("tune", LOG + text), sweep=plan)


def ended(store: Store, name: str, timeout: float = 60) -> RunRow:
    Run(store, name).wait(timeout)
    return store.get(name)


def trials(store: Store, name: str) -> list[RunRow]:
    return [row for row in store.children(store.get(name)) if row.kind == "trial"]


def artifacts(store: Store, name: str) -> Path:
    return store.folder(name).attempt(1).artifacts


def test_the_best_trials_outputs_are_the_sweeps_and_go_downstream(store: Store) -> None:
    tune = sweep(
        "log $(( (${{search_space.x}} - 3) ** 2 )); echo $RUNNER_INPUT_X,${{inputs.x}} > ${{outputs.out}}/model"
    )
    use = replace(
        bash("use", "cat ${{inputs.model}}/model > ${{outputs.out}}/got"), upstream={"model": Upstream("tune", "out")}
    )
    name = start(store, Plan((tune, use)))
    row = ended(store, name)
    assert row.status is Status.COMPLETED, row.outcome
    assert [one.path for one in trials(store, name)] == [f"tune.trial_{number}" for number in range(4)]
    assert [one.step.parameters for one in trials(store, name)] == [{"x": str(x)} for x in (1, 2, 3, 4)]
    assert (artifacts(store, f"{name}.tune") / "out" / "model").read_text() == "3,3\n"
    assert (artifacts(store, f"{name}.use") / "out" / "got").read_text() == "3,3\n"
    picture = ET.parse(artifacts(store, f"{name}.tune") / "trials.svg")
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}g/{http://www.w3.org/2000/svg}circle")) == 8


def test_failed_trials_are_counted_and_do_not_fail_the_sweep(store: Store) -> None:
    name = start(store, Plan((sweep("log ${{inputs.x}}; test ${{inputs.x}} -ne 1"),)))
    assert ended(store, name).status is Status.COMPLETED
    outcome = store.get(f"{name}.tune").outcome
    assert outcome is not None
    assert outcome.warnings == ("1 of 4 trials failed",)
    assert store.get(f"{name}.tune.trial_0").status is Status.FAILED


def test_all_trials_failed(store: Store) -> None:
    name = start(store, Plan((sweep("exit 5"),)))
    outcome = ended(store, name).outcome
    assert outcome is not None
    assert (outcome.reason, outcome.process_exit) == (Reason.STEP_FAILED, 5)
    assert "tune.trial_0" in outcome.message


def test_no_trial_logged_the_metric(store: Store) -> None:
    name = start(store, Plan((sweep('echo "1 2 3" >> $RUNNER_TRACKING/metrics/Loss; log nan'),)))
    ended(store, name)
    outcome = store.get(f"{name}.tune").outcome
    assert outcome is not None
    assert outcome.status is Status.FAILED
    assert outcome.message == (
        "4 trials completed, but none logged a finite value of the metric loss, by which the best is chosen;"
        " they logged: Loss, loss"
    )


def test_a_policy_ends_a_trial_and_says_so(store: Store) -> None:
    policy = EarlyTermination("bandit", slack_amount=0.5)
    # The bad ones would run for ever.
    text = "log ${{inputs.x}}; test ${{inputs.x}} -lt 2 || sleep 600"
    name = start(store, Plan((sweep(text, policy=policy, max_concurrent_trials=2),)))
    assert ended(store, name).status is Status.COMPLETED
    assert [one.status for one in trials(store, name)] == [Status.COMPLETED] + [Status.CANCELED] * 3
    outcome = store.get(f"{name}.tune.trial_3").outcome
    assert outcome is not None
    assert outcome.message.startswith("stopped by the bandit policy at interval 1: 4 is beyond 1.5")
    assert outcome.cancel is not None
    assert outcome.cancel.by == "sweep"


def test_a_trials_timeout(store: Store) -> None:
    name = start(store, Plan((sweep("log 1; test ${{inputs.x}} -ne 2 || sleep 600", trial_timeout_s=1),)))
    assert ended(store, name).status is Status.COMPLETED
    reasons = [one.outcome.reason for one in trials(store, name) if one.outcome]
    assert reasons == [Reason.COMPLETED, Reason.TIMEOUT, Reason.COMPLETED, Reason.COMPLETED]


def test_the_sweeps_timeout_keeps_what_has_completed(store: Store) -> None:
    text = "log 1; test ${{inputs.x}} -eq 1 || sleep 600"
    name = start(store, Plan((sweep(text, timeout_s=4, max_concurrent_trials=1),)))
    assert ended(store, name).status is Status.COMPLETED
    outcomes = [one.outcome for one in trials(store, name) if one.outcome]
    assert [(one.reason, one.message) for one in outcomes] == [
        (Reason.COMPLETED, ""), (Reason.CANCELED, "stopped by the sweep's timeout of 4 s"),
    ]  # fmt: skip
    outcome = store.get(f"{name}.tune").outcome
    assert outcome is not None
    assert outcome.warnings == ("the sweep's timeout of 4 s ended it early",)


def test_a_canceled_sweep_cancels_its_trials(store: Store, eventually: Callable[..., None]) -> None:
    name = start(store, Plan((sweep("log 1; sleep 600"),)))
    eventually(lambda: sum(one.status is Status.RUNNING for one in trials(store, name)) == 2, "two trials run")
    Run(store, name).cancel("user")
    assert ended(store, name).status is Status.CANCELED
    assert [one.status for one in trials(store, name)] == [Status.CANCELED] * 2
    assert store.get(f"{name}.tune").status is Status.CANCELED


def test_no_more_trials_at_once_than_asked(store: Store) -> None:
    name = start(store, Plan((sweep("log 1", max_concurrent_trials=1),)))
    ended(store, name)
    times = [(one.started or 0, one.finished or 0) for one in trials(store, name)]
    assert all(first[1] <= second[0] for first, second in pairwise(times))


def test_killed_again_and_again_no_trial_is_lost_or_run_twice(
    store: Store, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    line = {"x": Distribution("uniform", low=0, high=1)}
    text = f'sleep 0.2; echo once >> "{marks}/$AZUREML_RUN_ID"; log ${{{{inputs.x}}}}'
    name = start(store, Plan((sweep(text, "random", line, max_total_trials=8),)))
    for count in (1, 3, 5):
        eventually(lambda: len(list(marks.iterdir())) >= count, f"{count} trials have run")  # noqa: B023
        for pid in _supervisors(store, name):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not _supervisors(store, name), "it is dead")
        ensure(store, store.get(name))
    assert ended(store, name).status is Status.COMPLETED
    found = trials(store, name)
    assert len(found) == 8
    assert len({one.step.parameters["x"] for one in found}) == 8
    assert [path.read_text() for path in marks.iterdir()] == ["once\n"] * 8
    best = min(found, key=lambda one: float(one.step.parameters["x"]))
    kept, copied = (store.folder(one).attempt(1).tracking / "main" for one in (best.name, f"{name}.tune"))
    assert kept.samefile(copied)


def _supervisors(store: Store, name: str) -> list[int]:
    from tests.contract.helpers import holders

    return [pid for pid in holders(store.folder(name).root / "lock") if pid != os.getpid()]


def test_a_store_that_cannot_be_written_takes_no_room_from_the_trials(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = sweep("true", max_concurrent_trials=None)
    root, lock = accept(store, Plan((each,)), backend="memory")
    backend = MemoryBackend()
    context = Context(store, backend, root, {}, Publisher(published_by_nobody))
    driver = sweep_driver(context, Pools({}), store.child(root, "tune"), each, None)

    def full(*_: object) -> None:
        raise StoreError("database or disk is full", "free some space")

    with monkeypatch.context() as patched:
        patched.setattr(store, "add_child", full)
        for _ in range(100):
            with pytest.raises(StoreError):
                driver.advance()
    while driver.outcome is None:
        driver.advance()
        backend.wait(0)
    assert [row.status for row in trials(store, root.name)] == [Status.COMPLETED] * 4
    os.close(lock)
