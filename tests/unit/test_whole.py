"""Plans that a service elsewhere runs by itself: one job each, its steps with log, record and outputs, whatever dies."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.backends.base import Observation, Phase
from runner.engine.loop import Engine
from runner.errors import BackendError, ImageError, UnavailableError
from runner.model import Outcome, Reason, Remote, Status, Step
from runner.plan import Plan, PlanStep, Upstream
from runner.store import RunRow, Store
from tests.plans import PlanMemoryBackend, accept, published_by_nobody
from tests.unit.test_graph import Killed, Shape, outcomes, shapes, step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.backends.base import Handle, Task


class Mortal(PlanMemoryBackend):
    """Its supervisor dies after so many calls, before or after what was asked is done; the service goes on."""

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

    def steps(self, handle: Handle) -> Mapping[str, Handle]:
        self._count()
        return super().steps(handle)

    def watch(self, task: Task, handle: Handle) -> None:
        self._count()
        super().watch(task, handle)

    def finish(self, handle: Handle) -> tuple[str, ...]:
        self._count()
        done = super().finish(handle)
        self._count()
        return done


def failing(names: frozenset[str]) -> Callable[[Task], int]:
    return lambda task: 7 if task.labels["runner.run"].partition(".")[2] in names else 0


def drive(store: Store, row: RunRow, backend: PlanMemoryBackend) -> Outcome:
    return Engine(store, store.get(row.name), backend, {}, published_by_nobody).drive()


def elsewhere(plan: Plan) -> Plan:
    """The same plan, its steps as they are for a backend elsewhere."""
    return replace(plan, steps=tuple(replace(each, step=replace(each.step, remote=Remote())) for each in plan.steps))


def check(shape: Shape, store: Store, run: RunRow, backend: PlanMemoryBackend) -> None:
    """What must hold of every run of every plan."""
    assert len(backend.submitted) == 1, "one job, however often we died"
    rows = {str(row.path): row for row in store.children(run)}
    assert list(rows) == [each.name for each in shape.plan.steps], "no step is lost"
    states = backend.wholes[backend.submitted[0]].states
    for each in shape.plan.steps:
        row = rows[each.name]
        assert row.outcome is not None
        match states.get(each.name):
            case "Completed":
                assert row.outcome.reason is Reason.COMPLETED
                kept = store.folder(row.name).attempt(1)
                assert (kept.output("out") / "a.txt").read_text() == each.name
                assert kept.log.read_text() == f"{each.name} was here\n"
                assert not kept.box.exists()
            case "Failed":
                assert (row.outcome.reason, row.outcome.exit_code) == (Reason.NON_ZERO_EXIT, 7)
            case "Canceled":
                assert row.outcome.reason is Reason.CANCELED
            case _:
                bad = [need for need in each.needs if rows[need].status is not Status.COMPLETED]
                skipped = row.outcome.status is Status.SKIPPED
                assert skipped == bool(bad)
                assert not skipped or any(need in row.outcome.message for need in bad), "it names what it needed"
    end = store.get(run.name).outcome
    assert end is not None
    if "Failed" in states.values():
        assert (end.reason, end.process_exit) == (Reason.STEP_FAILED, 7)
    else:
        assert end.reason is Reason.COMPLETED


@given(shapes())
def test_every_plan_ends_as_it_would_here(shape: Shape) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        backend = PlanMemoryBackend(failing(shape.failing))
        run, _ = accept(store, elsewhere(shape.plan), backend="elsewhere")
        drive(store, run, backend)
        check(shape, store, run, backend)
        store.close()


@given(shapes(), st.lists(st.integers(1, 15), min_size=1, max_size=5))
def test_a_supervisor_that_dies_anywhere_is_followed_by_one_that_goes_on(shape: Shape, deaths: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        backend = Mortal(failing(shape.failing))
        store = Store(Path(folder))
        run, _ = accept(store, elsewhere(shape.plan), backend="elsewhere")
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


def submitted(store: Store, *steps: PlanStep, **settings: object) -> RunRow:
    plan = replace(Plan(steps), **settings)  # type: ignore[arg-type]
    return accept(store, elsewhere(plan), backend="elsewhere")[0]


def test_the_whole_goes_there_as_it_is(store: Store) -> None:
    given = Step(
        "a", ("python", "a.py", "${{inputs.data}}", "${{inputs.n}}", "${{outputs.out}}"), inputs={"data": "azureml:d:1"},
        parameters={"n": "1.10"}, outputs={"out": None},
    )  # fmt: skip
    code = PlanStep("a", given, code="k1")
    run = submitted(
        store, code, step("b", "a"), code={"k1": "k1"}, outputs={"best": Upstream("b", "out")},
        continue_on_step_failure=True, force_rerun=True,
    )  # fmt: skip
    backend = PlanMemoryBackend()
    drive(store, run, backend)
    task = backend.wholes[backend.submitted[0]].task
    whole = task.whole
    assert whole is not None
    assert task.labels["runner.run"] == run.name
    assert (whole.outputs, whole.single_sweep) == ({"best": Upstream("b", "out")}, False)
    assert (whole.continue_on_step_failure, whole.force_rerun) == (True, True)
    first, second = whole.members
    assert first.task.argv == ("python", "a.py", "${{inputs.data}}", "1.10", "${{outputs.out}}")
    assert first.task.code == store.folder(run.name).code_of("k1")
    assert first.task.labels["runner.run"] == f"{run.name}.a"
    assert first.task.inputs == {"data": "azureml:d:1"}
    assert second.upstream == {"i0": Upstream("a", "out")}
    assert second.task.inputs == {}
    assert second.task.env["RUNNER_INPUT_I0"] == "${{inputs.i0}}"
    assert len({task.key, first.task.key, second.task.key}) == 3


def test_a_canceled_whole_is_canceled_there_and_ends_whole(store: Store) -> None:
    run = submitted(store, step("a"), step("b", "a"), step("c"))

    class Canceling(PlanMemoryBackend):
        """Somebody cancels once steps run."""

        def wait(self, timeout: float) -> None:
            if self.started and not self.canceled:
                store.request_cancel(store.get(run.name), "ada")
                time.sleep(0.001)
                return
            super().wait(timeout)

    backend = Canceling()
    outcome = drive(store, run, backend)
    assert (outcome.reason, outcome.process_exit) == (Reason.CANCELED, 143)
    assert outcome.cancel is not None
    assert outcome.cancel.by == "ada"
    assert backend.canceled == [(backend.submitted[0], False)], "the whole, once; never a step"
    assert {name: reason for name, (reason, _) in outcomes(store, run).items()} == {
        "a": "Canceled", "b": "UpstreamCanceled", "c": "Canceled",
    }  # fmt: skip


def test_a_whole_canceled_before_it_is_submitted_never_gets_there(store: Store) -> None:
    run = submitted(store, step("a"), step("b", "a"))
    store.request_cancel(run, "ada")
    backend = PlanMemoryBackend()
    assert drive(store, run, backend).reason is Reason.CANCELED
    assert backend.submitted == []
    assert {reason for reason, _ in outcomes(store, run).values()} == {"Canceled", "UpstreamCanceled"}


def test_what_ends_because_another_failed_is_canceled_by_the_pipeline(store: Store) -> None:
    """The service ends it, and nobody in a portal: the message must not send the user there."""
    run = submitted(store, step("runs"), step("bad"), step("after", "bad"), step("later", "runs"))
    backend = PlanMemoryBackend(failing(frozenset({"bad"})))

    class Slow(PlanMemoryBackend):
        def _round(self, handle: Handle, service: object) -> None:
            states = self.wholes[handle].states
            if states.get("runs") == "Running":  # it is still at it when the other fails
                states["runs"] = "Paused"
            super()._round(handle, self.wholes[handle])
            if states.get("runs") == "Paused":
                states["runs"] = "Running"
                if self.wholes[handle].end:
                    states["runs"] = "Canceled"

    backend = Slow(failing(frozenset({"bad"})))
    outcome = drive(store, run, backend)
    assert (outcome.reason, outcome.process_exit) == (Reason.STEP_FAILED, 7)
    found = outcomes(store, run)
    assert {name: reason for name, (reason, _) in found.items()} == {
        "runs": "Canceled", "bad": "NonZeroExit", "after": "UpstreamFailed", "later": "UpstreamCanceled",
    }  # fmt: skip
    assert "bad" in found["after"][1]


@pytest.mark.parametrize(
    ("end", "reason"),
    [("Canceled", Reason.CANCELED_EXTERNALLY), ("Failed", Reason.PLATFORM_ERROR), ("Completed", Reason.STATUS_MISSING)],
)
def test_a_whole_that_ends_without_its_steps_says_so(store: Store, end: str, reason: Reason) -> None:
    run = submitted(store, step("a"), step("b", "a"))

    class Ending(PlanMemoryBackend):
        def wait(self, timeout: float) -> None:
            for handle, service in self.wholes.items():
                if service.end is None:
                    self._stop(handle, service, end)

    outcome = drive(store, run, Ending())
    assert outcome.reason is reason
    assert all(row.status.terminal for row in store.children(run))


@pytest.mark.parametrize(
    ("error", "reason"),
    [(BackendError("no such compute: x"), Reason.START_FAILED), (ImageError("denied"), Reason.IMAGE_UNAVAILABLE)],
)
def test_what_the_service_refuses_ends_the_run_with_its_words(store: Store, error: Exception, reason: Reason) -> None:
    class Refusing(PlanMemoryBackend):
        def submit(self, task: Task) -> Handle:
            raise error

    run = submitted(store, step("a"), step("b", "a"))
    outcome = drive(store, run, Refusing())
    assert outcome.reason is reason
    assert str(error) in outcome.message
    assert [row.status for row in store.children(run)] == [Status.CANCELED, Status.SKIPPED]
    assert str(error) in outcomes(store, run)["a"][1]


def test_a_submit_without_an_answer_is_looked_for_before_another(store: Store) -> None:
    class Deaf(PlanMemoryBackend):
        """Takes the job, and its answer gets lost."""

        asked = 0

        def submit(self, task: Task) -> Handle:
            self.asked += 1
            super().submit(task)
            raise UnavailableError("the connection broke")

    run = submitted(store, step("a"))
    backend = Deaf()
    assert drive(store, run, backend).reason is Reason.COMPLETED
    assert (backend.asked, len(backend.submitted)) == (1, 1)


def test_a_service_out_of_reach_is_shown_and_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.patience.NOT_RESPONDING_S", 0.0)
    monkeypatch.setattr("runner.engine.patience.BACKOFF_S", (0.001, 0.001))
    run = submitted(store, step("a"))
    seen: list[tuple[Status, str]] = []

    class Away(PlanMemoryBackend):
        away = 5

        def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation | None]:
            if self.started and self.away:
                self.away -= 1
                row = store.get(run.name)
                seen.append((row.status, row.note))
                raise UnavailableError("no route to Azure")
            return super().poll(handles)

    backend = Away()
    assert drive(store, run, backend).reason is Reason.COMPLETED
    assert (Status.NOT_RESPONDING, "no route to Azure") in seen


def test_why_a_whole_waits_is_shown(store: Store) -> None:
    run = submitted(store, step("a"))
    notes: list[str] = []

    class Queued(PlanMemoryBackend):
        waiting = 3

        def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation | None]:
            notes.append(store.get(run.name).note)
            if self.waiting:
                self.waiting -= 1
                return {handle: Observation(Phase.QUEUED, note="no node is free") for handle in handles}
            return super().poll(handles)

        def steps(self, handle: Handle) -> Mapping[str, Handle]:
            return {} if self.waiting else super().steps(handle)

    drive(store, run, Queued())
    assert "no node is free" in notes
    assert store.get(run.name).note == ""


def test_a_step_that_the_service_took_from_an_earlier_run_is_complete(store: Store) -> None:
    run = submitted(store, step("a"))

    class Reusing(PlanMemoryBackend):
        def _look(self, handle: Handle) -> Observation | None:
            found = super()._look(handle)
            if found is not None and found.platform is not None and "/" in handle:
                return replace(found, platform=replace(found.platform, reused="earlier"))
            return found

        def finish(self, handle: Handle) -> tuple[str, ...]:
            return ()

    assert drive(store, run, Reusing()).reason is Reason.COMPLETED
    assert store.child(run, "a").status is Status.COMPLETED


def test_a_thousand_steps_cost_one_question_a_look(store: Store) -> None:
    steps = [step("s0"), *(step(f"s{number}", f"s{number // 30}") for number in range(1, 1000))]
    run = submitted(store, *steps)
    backend = PlanMemoryBackend()
    rounds = 0
    real = backend.wait

    def counted(timeout: float) -> None:
        nonlocal rounds
        rounds += 1
        real(timeout)

    backend.wait = counted  # type: ignore[method-assign]
    assert drive(store, run, backend).reason is Reason.COMPLETED
    assert {row.status for row in store.children(run)} == {Status.COMPLETED}
    assert len(backend.submitted) == 1
    assert backend.polls <= 12 * (rounds + 5), "not one for each step"


def test_a_step_s_own_end_counts_though_the_whole_is_gone(store: Store) -> None:
    """A service that forgets the whole (deleted meanwhile): the run ends as lost, and every step has an end."""
    run = submitted(store, step("a"), step("b", "a"))

    class Forgetful(PlanMemoryBackend):
        def _look(self, handle: Handle) -> Observation | None:
            whole = self.wholes[handle.partition("/")[0]]
            if "/" not in handle and whole.states.get("a") == "Completed":
                return None
            return super()._look(handle)

        def steps(self, handle: Handle) -> Mapping[str, Handle]:
            return {name: each for name, each in super().steps(handle).items() if name == "a"}

    outcome = drive(store, run, Forgetful())
    assert outcome.reason is Reason.LOST
    assert store.child(run, "a").status is Status.COMPLETED
    assert store.child(run, "b").status is Status.CANCELED
