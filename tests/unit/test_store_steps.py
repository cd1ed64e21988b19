"""Steps of pipelines in the store: accepted at once, found by name, ended, canceled and deleted with their root."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.errors import ConflictError, NotFoundError, StoreError
from runner.model import Outcome, Reason, Status, Step
from runner.names import file_name
from runner.plan import Plan, PlanStep, Upstream
from runner.store import RunRow, Store
from tests.plans import accept, bash

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE = Outcome(Reason.COMPLETED, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "home")
    yield store
    store.close()


def pipeline(store: Store, *paths: str, name: str | None = None) -> RunRow:
    return accept(store, Plan(tuple(bash(path, "true") for path in paths or ("a", "b"))), name=name)[0]


def test_a_pipeline_is_accepted_with_all_its_steps(store: Store) -> None:
    plan = Plan(
        (bash("a", "true"), bash("outer.inner", "true", "a")), outputs={"o": Upstream("a", "out")}, code={"c": "d"}
    )
    run, _ = accept(store, plan, name="p")
    assert (run.kind, run.parent, run.path, run.composed) == ("pipeline", None, None, True)
    assert store.plan(run) == plan
    first, second = store.children(run)
    assert (first.name, first.parent, first.path, first.kind) == ("p.a", "p", "a", "step")
    assert (second.name, second.path) == ("p.outer.inner", "outer.inner")
    assert {first.status, second.status} == {Status.NOT_STARTED}
    assert first.step == plan.steps[0].step
    assert store.root_of(second) == run
    assert store.folder("p.outer.inner").root == store.folder("p").root / "steps" / "outer.inner"
    assert store.lock("p.a") is None, "the lock of a step is that of its root"


def test_what_is_asked_at_every_tick_does_not_grow_with_ten_thousand_steps(store: Store) -> None:
    plan = Plan(tuple(PlanStep(f"s{n}", Step(f"s{n}", ("true",))) for n in range(10_000)))
    run, _ = accept(store, plan)
    assert sum(store.counts(run).values()) == 10_000
    tracemalloc.start()
    store.cancels(run), store.moving(run), store.ended(run, 0.0)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20, "what is asked at every tick does not grow with the plan"
    tracemalloc.stop()


def test_steps_are_found_by_their_roots_beginning_and_roots_alone_by_theirs(store: Store) -> None:
    pipeline(store, "fit", name="brave-otter")
    pipeline(store, "fit", name="calm-otter")
    assert store.resolve("brave").name == "brave-otter"
    assert store.resolve("brave.fit").name == "brave-otter.fit"
    assert store.resolve("@last").name == "calm-otter"
    assert store.resolve("@last.fit").name == "calm-otter.fit"
    assert [row.name for row in store.list()] == ["calm-otter", "brave-otter"]
    assert len(store.list(steps=True)) == 4
    assert [row.name for row in store.live()] == ["brave-otter", "calm-otter"]
    with pytest.raises(NotFoundError, match="no step 'fitt'") as caught:
        store.resolve("brave.fitt")
    assert caught.value.hints[0] == "did you mean fit?"
    with pytest.raises(NotFoundError, match="no run named"):
        store.resolve("nobody.fit")
    assert [name for name, *_ in store.experiments()] == ["e"]
    assert store.experiments()[0][1] == 2


def test_a_step_is_deleted_with_its_root_only(store: Store) -> None:
    run = pipeline(store)
    store.end_children(run, DONE)
    with pytest.raises(ConflictError, match="goes with the whole"):
        store.delete(store.child(run, "a"))
    store.end(run, DONE, attempts=0)
    store.delete(store.get(run.name))
    assert store.list(steps=True) == []
    assert not store.folder(run.name).root.exists()


def test_the_first_end_of_a_step_stands(store: Store) -> None:
    run = pipeline(store)
    store.end_steps(run, [("a", DONE)])
    store.end_steps(run, [("a", Outcome(Reason.CANCELED, 143)), ("b", Outcome(Reason.UPSTREAM_FAILED, 125))])
    assert [row.status for row in store.children(run)] == [Status.COMPLETED, Status.SKIPPED]
    assert [step.path for step in store.ended(run, 0.0)] == ["a", "b"]
    assert store.moving(run) == []


def test_who_canceled_what_is_one_question(store: Store) -> None:
    run, other = pipeline(store), pipeline(store)
    assert store.request_cancel(store.child(run, "b"), "ada")
    assert store.request_cancel(other, "bob")
    assert store.cancels(run) == {"b": "ada"}
    assert store.cancels(other) == {"": "bob"}


def test_a_trial_is_added_once(store: Store) -> None:
    run = pipeline(store)
    trial = Step("t", ("true",))
    first = store.add_child(run, "a.trial_1", trial)
    again = store.add_child(run, "a.trial_1", trial)
    assert first == again
    assert (first.name, first.kind, first.parent) == (f"{run.name}.a.trial_1", "trial", run.name)
    assert len(store.children(run)) == 3


def test_what_is_put_off_comes_with_the_next_write_in_order(store: Store) -> None:
    run = pipeline(store)
    child = store.child(run, "a")
    other = Store(store.home)
    store.set_status(child, Status.PREPARING, soon=True)
    store.set_status(child, Status.RUNNING, started=5.0, soon=True)
    store.set_status(child, Status.FINALIZING, soon=True)
    assert other.get(child.name).status is Status.NOT_STARTED
    store.begin_attempt(child, 1)
    seen = other.get(child.name)
    assert (seen.status, seen.started) == (Status.FINALIZING, 5.0)
    other.close()


def test_a_damaged_plan_says_so(store: Store) -> None:
    run = pipeline(store)
    store.folder(run.name).plan.write_text("{}")
    with pytest.raises(StoreError, match="damaged"):
        store.plan(run)


@pytest.mark.parametrize("path", ["a" * 300, "outer." * 80 + "x", "..", "a/b", "ä", ".hidden", "-x", "a b"])
def test_any_name_of_a_step_gives_one_folder_inside_the_root(store: Store, path: str) -> None:
    run = pipeline(store, path, name="p")
    folder = store.folder(store.child(run, path).name).root
    assert folder.parent == store.folder("p").root / "steps"
    folder.mkdir(parents=True)
    assert len(folder.name.encode()) <= 200


def test_different_names_give_different_files() -> None:
    names = ["a/b", "a_b", "a b", "x" * 201, "x" * 202, "a-b", ""]
    assert len({file_name(name) for name in names}) == len(names)
    assert file_name("outer.inner") == "outer.inner"


def test_an_older_run_with_a_dot_in_its_name_keeps_its_folder(store: Store) -> None:
    _, folder = store.reserve("old")
    folder.root.rename(store.home / "runs" / "old.run")
    assert store.folder("old.run").root == store.home / "runs" / "old.run"
    assert store.root_name("old.run") == "old.run"
