"""Plans on a backend in memory: order, completeness, no step before its inputs, nothing lost when steps fail or we die."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.digests import Digests
from runner.engine.loop import Engine
from runner.model import Limits, Outcome, Reason, Status, Step
from runner.plan import Plan, PlanStep, Pool, Upstream
from runner.store import RunRow, Store
from tests.plans import MemoryBackend, accept, published_by_nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.backends.base import Handle, Task


@dataclass(frozen=True)
class Shape:
    """A plan and the steps of it that are to fail."""

    plan: Plan
    failing: frozenset[str]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Any graph of up to 14 steps in two pools: each step needs any of those before it."""
    count = draw(st.integers(1, 14))
    steps = []
    for number in range(count):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        step = Step(name=f"s{number}", argv=("true",), outputs={"out": None},
                    limits=Limits(cpus=draw(st.sampled_from([None, 0.5, 2, 9]))))  # fmt: skip
        upstream = {f"i{need}": Upstream(f"s{need}", "out") for need in sorted(needs)}
        steps.append(PlanStep(f"s{number}", step, upstream, compute=draw(st.sampled_from([None, "other"]))))
    failing = draw(st.sets(st.integers(0, count - 1), max_size=3))
    plan = Plan(
        tuple(steps), continue_on_step_failure=draw(st.booleans()),
        pools={"other": Pool(cpus=2, instances=draw(st.sampled_from([None, 1])))},
    )  # fmt: skip
    return Shape(plan, frozenset(f"s{number}" for number in failing))


class Killed(BaseException):
    """Stands for kill -9 of the supervisor: nothing that it would still do is done."""


class Mortal(MemoryBackend):
    """Dies with its supervisor after so many calls; the tasks go on, and the next supervisor finds them."""

    calls = 0
    last = -1

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.last:
            raise Killed

    def submit(self, task: Task) -> Handle:
        self._count()
        handle = super().submit(task)
        self._count()
        return handle

    def finish(self, handle: Handle) -> tuple[str, ...]:
        self._count()
        return ()

    def remove(self, handle: Handle) -> None:
        self._count()
        super().remove(handle)
        self._count()


def exits(shape: Shape) -> MemoryBackend:
    return Mortal(lambda task: 7 if task.labels["runner.step"] in shape.failing else 0)


def drive(
    store: Store, row: RunRow, backend: MemoryBackend, publish: Callable[[Path, str], object] = published_by_nobody
) -> Outcome:
    return Engine(store, store.get(row.name), backend, {}, publish).drive()


def check(shape: Shape, store: Store, run: RunRow, backend: MemoryBackend) -> None:
    """What must hold of every run of every plan."""
    rows = {row.path: row for row in store.children(run)}
    plan = shape.plan
    assert list(rows) == [each.name for each in plan.steps], "no step is lost"
    assert all(row.status.terminal for row in rows.values())
    started = [name.partition(".")[2] for name in backend.started]
    ended = [name.partition(".")[2] for name in backend.ended]
    assert len(started) == len(set(started)), "no step runs twice"
    for each in plan.steps:
        row = rows[each.name]
        outcome = row.outcome
        assert outcome is not None
        if each.name in started:
            assert all(rows[need].status is Status.COMPLETED for need in each.needs), "no step before its inputs"
            expected = {Reason.NON_ZERO_EXIT} if each.name in shape.failing else {Reason.COMPLETED}
            assert outcome.reason in expected | {Reason.CANCELED}
            continue
        bad = [need for need in each.needs if rows[need].status is not Status.COMPLETED]
        if outcome.status is Status.SKIPPED:
            assert any(need in outcome.message for need in bad), "it names the step that it needed"
        else:
            assert outcome.reason is Reason.CANCELED
            assert not bad
            assert not plan.continue_on_step_failure
    assert set(ended) == set(started)
    failed = [rows[name] for name in ended if rows[name].status is Status.FAILED]
    end = store.get(run.name).outcome
    assert end is not None
    if not failed:
        assert end.reason is Reason.COMPLETED
        assert len(started) == len(rows)
    else:
        assert (end.reason, end.process_exit) == (Reason.STEP_FAILED, 7)
        assert any(str(row.path) in end.message for row in failed)


@given(shapes())
def test_every_plan_runs_in_order_and_whole(shape: Shape) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        backend = exits(shape)
        run, _ = accept(store, shape.plan, backend="memory")
        drive(store, run, backend)
        check(shape, store, run, backend)
        store.close()


@given(shapes(), st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_a_supervisor_that_is_killed_anywhere_is_followed_by_one_that_goes_on(shape: Shape, deaths: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        backend = Mortal(lambda task: 7 if task.labels["runner.step"] in shape.failing else 0)
        store = Store(Path(folder))
        run, _ = accept(store, shape.plan, backend="memory")
        for death in deaths:
            backend.last = backend.calls + death
            try:
                drive(store, run, backend)
                break
            except Killed:
                store = Store(Path(folder))
        else:
            backend.last = -1
            drive(store, run, backend)
        check(shape, store, run, backend)
        store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "home")
    yield store
    store.close()


def step(name: str, *needs: str, **values: object) -> PlanStep:
    given = Step(name=name, argv=("true",), outputs={"out": None})
    plan_step = PlanStep(name, given, {f"i{number}": Upstream(need, "out") for number, need in enumerate(needs)})
    return replace(plan_step, **values)  # type: ignore[arg-type]


def outcomes(store: Store, run: RunRow) -> dict[str, tuple[str, str]]:
    """Step → (reason, message)."""
    return {
        str(row.path): (row.outcome.reason.value, row.outcome.message) for row in store.children(run) if row.outcome
    }


def test_independent_steps_run_at_once_as_far_as_there_is_room(store: Store) -> None:
    steps = tuple(step(f"s{number}", compute="two") for number in range(6))
    run, _ = accept(store, Plan(steps, pools={"two": Pool(cpus=2)}), backend="memory")
    backend = MemoryBackend()
    drive(store, run, backend)
    assert backend.most == 2
    assert [name.partition(".")[2] for name in backend.started] == [each.name for each in steps], "as in the plan"


def test_what_an_ended_step_held_is_freed_while_its_successor_runs(store: Store) -> None:
    run, _ = accept(store, Plan((step("a"), step("b", "a"))), backend="memory")
    seen: list[str] = []

    class Noting(MemoryBackend):
        def submit(self, task: Task) -> Handle:
            seen.append(f"start {task.labels['runner.step']}")
            return super().submit(task)

        def wait(self, timeout: float) -> None:
            if "start b" not in seen or "free a" in seen:  # b goes on until a is gone
                super().wait(timeout)

        def remove(self, handle: Handle) -> None:
            seen.append(f"free {self._tasks[handle].labels['runner.step']}")
            super().remove(handle)

    drive(store, run, Noting())
    assert seen == ["start a", "start b", "free a", "free b"]


def test_a_step_larger_than_the_pool_runs_alone(store: Store) -> None:
    large = replace(step("large"), step=replace(step("large").step, limits=Limits(memory_bytes=1 << 40)))
    steps = (step("a", compute="m"), replace(large, compute="m"), step("b", compute="m"))
    run, _ = accept(store, Plan(steps, pools={"m": Pool(cpus=8, memory_bytes=1 << 30)}), backend="memory")
    backend = MemoryBackend()
    drive(store, run, backend)
    assert backend.ended == [f"{run.name}.{name}" for name in ("a", "large", "b")]
    assert backend.most == 1


def test_memory_and_instances_are_shared_too(store: Store) -> None:
    limits = Limits(cpus=0.1, memory_bytes=400)
    steps = tuple(
        replace(step(f"s{number}"), compute="m", step=replace(step(f"s{number}").step, limits=limits))
        for number in range(4)
    )
    for pool, most in ((Pool(cpus=8, memory_bytes=1000), 2), (Pool(cpus=8, memory_bytes=9000, instances=3), 3)):
        run, _ = accept(store, Plan(steps, pools={"m": pool}, force_rerun=True), backend="memory")
        backend = MemoryBackend()
        drive(store, run, backend)
        assert backend.most == most


def test_the_first_failure_ends_what_runs_and_what_waits(store: Store) -> None:
    steps = (step("bad", compute="p"), step("runs", compute="p"), step("after", "bad"), step("waits", compute="p"),
             step("later", "runs"))  # fmt: skip
    run, _ = accept(store, Plan(steps, pools={"p": Pool(cpus=2)}), backend="memory")

    class Slow(MemoryBackend):
        def wait(self, timeout: float) -> None:
            for handle, task in self._tasks.items():
                if handle not in self._codes and task.labels["runner.step"] == "bad":
                    self._codes[handle] = 7
                    self.ended.append(task.labels["runner.run"])

    outcome = drive(store, run, Slow())
    assert (outcome.reason, outcome.process_exit) == (Reason.STEP_FAILED, 7)
    assert "step bad failed (NonZeroExit)" in outcome.message
    found = outcomes(store, run)
    assert {name: reason for name, (reason, _) in found.items()} == {
        "bad": "NonZeroExit", "runs": "Canceled", "after": "UpstreamFailed", "waits": "Canceled",
        "later": "UpstreamCanceled",
    }  # fmt: skip
    assert "bad" in found["after"][1]
    assert "runs" in found["later"][1]


def test_a_canceled_step_ends_alone(store: Store) -> None:
    run, _ = accept(store, Plan((step("a"), step("b", "a"), step("c"))), backend="memory")
    assert store.request_cancel(store.child(run, "a"), "ada")
    outcome = drive(store, run, MemoryBackend())
    assert {name: reason for name, (reason, _) in outcomes(store, run).items()} == {
        "a": "Canceled", "b": "UpstreamCanceled", "c": "Completed",
    }  # fmt: skip
    assert outcome.reason is Reason.CANCELED
    assert "step a" in outcome.message


def test_a_canceled_pipeline_ends_whole(store: Store) -> None:
    run, _ = accept(store, Plan((step("a"), step("b", "a"))), backend="memory")
    store.request_cancel(run, "ada")
    backend = MemoryBackend()
    outcome = drive(store, run, backend)
    assert (outcome.reason, outcome.process_exit, backend.started) == (Reason.CANCELED, 143, [])
    assert all(reason == "Canceled" or reason == "UpstreamCanceled" for reason, _ in outcomes(store, run).values())


def test_an_input_that_nobody_wrote_fails_the_step_that_needs_it(store: Store) -> None:
    first = replace(step("first"), step=replace(step("first").step, files=("out",)))
    run, _ = accept(store, Plan((first, step("second", "first"))), backend="memory")
    backend = MemoryBackend()
    outcome = drive(store, run, backend)
    assert backend.started == [f"{run.name}.first"]
    reason, message = outcomes(store, run)["second"]
    assert reason == "StartFailed"
    assert "first" in message
    assert "out" in message
    assert outcome.process_exit == 125


@pytest.mark.parametrize("fault", [None, OSError(28, "No space left on device")])
def test_outputs_are_copied_to_where_they_were_asked_for(store: Store, fault: OSError | None) -> None:
    each = replace(step("a"), step=replace(step("a").step, publish={"out": "/elsewhere/${{name}}"}))
    run, _ = accept(store, Plan((each,)), backend="memory")
    seen: list[tuple[str, str]] = []

    def publish(source: Path, target: str) -> None:
        seen.append((source.name, target))
        if fault is not None:
            raise fault

    outcome = drive(store, run, MemoryBackend(), publish)
    assert seen == [("out", f"/elsewhere/{run.name}.a")]
    reason, message = outcomes(store, run)["a"]
    if fault is None:
        assert outcome.reason is Reason.COMPLETED
    else:
        assert reason == "OutputError"
        assert "No space left" in message


def test_a_copy_that_hangs_does_not_outlive_a_cancel(store: Store) -> None:
    limits = replace(step("a").step.limits, grace_s=0.1)
    each = replace(step("a"), step=replace(step("a").step, publish={"out": "/elsewhere"}, limits=limits))
    run, _ = accept(store, Plan((each, step("b", "a"))), backend="memory")
    over = threading.Event()

    def hangs(_source: Path, _target: str) -> None:
        Store(store.home).request_cancel(run, "user")
        over.wait(60)

    try:
        outcome = drive(store, run, MemoryBackend(), hangs)
        assert not over.is_set()
    finally:
        over.set()
    assert (outcome.reason, outcome.process_exit) == (Reason.CANCELED, 143)
    reason, message = outcomes(store, run)["a"]
    assert reason == "Canceled"
    assert "being copied" in message


def test_a_canceled_pipeline_does_not_wait_for_what_is_read_for_later_runs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps have ended, and a large input is still being read."""
    each = replace(step("a"), step=replace(step("a").step, inputs={"data": str(tmp_path)}))
    run, _ = accept(store, Plan((each,)), backend="memory")
    over, waited = threading.Event(), []

    def hangs(_: Digests, path: Path) -> str:
        if path == tmp_path:
            Store(store.home).request_cancel(run, "user")
            waited.append(over.wait(20))
        return "0"

    monkeypatch.setattr(Digests, "of", hangs)
    try:
        assert drive(store, run, MemoryBackend()).status.terminal
        assert not waited
    finally:
        over.set()
