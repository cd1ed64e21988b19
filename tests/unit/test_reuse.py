"""What makes two steps the same, which earlier one is nearest, and what a resumed run takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import reuse
from runner.errors import ConflictError, NotFoundError
from runner.job import Distribution, EarlyTermination, Objective, Sampling, SweepLimits
from runner.model import Limits, Reason, RetryPolicy, Status, Step
from runner.plan import Plan, PlanStep, SweepPlan, Upstream
from runner.reuse import Earlier

TASK = Step(
    "train", ("bash", "-c", "python train.py --lr ${{inputs.lr}}"), image="sha256:41c9", env={"LANG": "C"},
    outputs={"model": None, "report": None}, secrets=("TOKEN",), parameters={"lr": "0.1"}, files=("report",),
)  # fmt: skip
SWEEP = SweepPlan(
    {"lr": Distribution("uniform", low=0.0, high=1.0)}, Objective("maximize", "accuracy"), Sampling("random", seed=1),
    SweepLimits(max_total_trials=8), EarlyTermination("bandit", slack_factor=0.1),
)  # fmt: skip
STEP = PlanStep("train", TASK, {"data": Upstream("prepare", "clean")}, code="src")


def of(step: PlanStep = STEP, code: str | None = "c0de", data: str = "d1") -> dict[str, str]:
    return reuse.fields(step, code, {"data": data})


def changed(**members: object) -> PlanStep:
    return replace(STEP, step=replace(TASK, **members))  # type: ignore[arg-type]  # members of Step


def test_the_fields_are_named_as_people_call_them() -> None:
    assert of() == {
        "code": "c0de",
        "command": "python train.py --lr ${{inputs.lr}}",
        "image": "sha256:41c9",
        "input data": "d1",
        "parameter lr": "0.1",
        "variable LANG": "C",
        "secret TOKEN": "given",
        "output model": "folder",
        "output report": "file",
    }
    assert list(of())[:4] == ["code", "command", "image", "input data"]


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (of(code="other"), "code"),
        (of(code=None), "code"),
        (of(data="d2"), "input data"),
        (of(changed(argv=("bash", "-c", "python other.py"))), "command"),
        (of(changed(image="sha256:9be0")), "image"),
        (of(changed(image=None)), "image"),
        (of(changed(parameters={"lr": "0.2"})), "parameter lr"),
        (of(changed(env={"LANG": "de"})), "variable LANG"),
        (of(changed(secrets=())), "secret TOKEN"),
        (of(changed(files=())), "output report"),
        (of(changed(outputs={"model": "out", "report": None})), "output model"),
        (of(changed(outputs={"report": None})), "output model"),
        (of(replace(STEP, sweep=SWEEP)), "sweep space lr"),
    ],
)
def test_what_counts(other: Mapping[str, str], field: str) -> None:
    assert reuse.key(other) != reuse.key(of())
    assert field in [each.field for each in reuse.difference(of(), other)]


@pytest.mark.parametrize(
    "other",
    [
        changed(limits=Limits(cpus=2, memory_bytes=2**30, timeout_s=3)),
        changed(retry=RetryPolicy(3, (Reason.LOST,))),
        changed(name="fit"),
        changed(publish={"model": "/elsewhere"}),
        replace(STEP, name="outer.train"),
        replace(STEP, display_name="Training"),
        replace(STEP, compute="cluster"),
        replace(STEP, code="other-name"),
        replace(STEP, upstream={"data": Upstream("elsewhere", "clean")}),
    ],
)
def test_what_does_not_count(other: PlanStep) -> None:
    assert reuse.key(of(other)) == reuse.key(of())


@pytest.mark.parametrize(
    "other",
    [
        replace(SWEEP, search_space={"lr": Distribution("uniform", low=0.0, high=2.0)}),
        replace(SWEEP, objective=Objective("minimize", "accuracy")),
        replace(SWEEP, sampling=Sampling("random", seed=2)),
        replace(SWEEP, limits=SweepLimits(max_total_trials=9)),
        replace(SWEEP, early_termination=None),
    ],
)
def test_what_counts_of_a_sweep(other: SweepPlan) -> None:
    before, after = of(replace(STEP, sweep=SWEEP)), of(replace(STEP, sweep=other))
    assert reuse.key(before) != reuse.key(after)
    assert len(reuse.difference(before, after)) == 1


def test_a_script_s_arguments_are_told_apart() -> None:
    one, two = (of(changed(argv=argv)) for argv in (("a.R", "b c"), ("a.R", "b", "c")))
    assert one["arguments"] == '["a.R", "b c"]'
    assert reuse.key(one) != reuse.key(two)


def test_a_long_command_is_kept_short_and_still_counts_whole() -> None:
    one, two = (of(changed(argv=("bash", "-c", "x" * 10_000 + end))) for end in "ab")
    assert len(one["command"]) < 500
    assert one["command"] != two["command"]


def test_a_file_s_name_counts_and_a_folder_s_does_not() -> None:
    assert reuse.content("d1", "a.csv") != reuse.content("d1", "a.parquet")
    assert reuse.content("d1") == "d1"


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.dictionaries(st.text(max_size=5), st.text(max_size=5))
)
def test_same_key_exactly_when_nothing_differs(one: dict[str, str], two: dict[str, str]) -> None:
    assert (reuse.key(one) == reuse.key(two)) == (one == two) == (not reuse.difference(one, two))
    assert reuse.key(one) == reuse.key(dict(reversed(one.items())))


@pytest.mark.parametrize(
    ("step", "force", "why"),
    [
        (STEP, False, None),
        (STEP, True, "force_rerun"),
        (replace(STEP, reusable=False), False, "is_deterministic"),
        (changed(writable=("data",)), False, "write to its input data"),
    ],
)
def test_why_a_step_has_to_run(step: PlanStep, force: bool, why: str | None) -> None:
    found = reuse.obstacle(step, force_rerun=force)
    assert found is None if why is None else why in str(found)


def test_the_nearest_run_differs_least_and_the_newest_wins() -> None:
    far, near, older = {**of(), "code": "x", "image": "y"}, {**of(), "parameter lr": "0.3"}, {**of(), "code": "z"}
    found = reuse.nearest([("far", far), ("near", near), ("older", older)], of())
    assert found is not None
    name, (only,) = found
    assert (name, only.field, only.before, only.after) == ("near", "parameter lr", "0.3", "0.1")
    assert reuse.nearest([], of()) is None


def test_a_field_that_is_new_or_gone_is_told() -> None:
    found = reuse.difference({"parameter a": "1"}, {"parameter b": "2"})
    assert [(each.before, each.after) for each in found] == [("1", None), (None, "2")]


# -- what a resumed run takes over ------------------------------------------------------------------------------------


def plan() -> Plan:
    """a → b → c.x → c.y, and a → d by itself."""
    needs = {"a": None, "b": "a", "c.x": "b", "c.y": "c.x", "d": "a"}
    return Plan(
        tuple(
            PlanStep(name, Step(name, ("true",), outputs={"out": None}), {"in": Upstream(need, "out")} if need else {})
            for name, need in needs.items()
        )
    )


def earlier(**statuses: Status) -> dict[str, Earlier]:
    """Everything completed, but what is named (`c_x` is c.x)."""
    named = {name.replace("_", "."): status for name, status in statuses.items()}
    return {
        step.name: Earlier(f"old.{step.name}", named.get(step.name, Status.COMPLETED), frozenset({"out"}))
        for step in plan().steps
    }


def test_resume_runs_what_failed_and_what_depends_on_it() -> None:
    found = reuse.taken_over(plan(), earlier(b=Status.FAILED, c_x=Status.SKIPPED, c_y=Status.SKIPPED))
    assert found == {"a": "old.a", "d": "old.d"}


def test_what_depends_on_what_runs_is_never_taken_over() -> None:
    assert reuse.taken_over(plan(), earlier(b=Status.CANCELED)) == {"a": "old.a", "d": "old.d"}


def test_an_output_that_is_new_in_the_plan_has_to_be_made() -> None:
    before = {**earlier(), "c.x": Earlier("old.c.x", Status.COMPLETED, frozenset())}
    assert reuse.taken_over(plan(), before).keys() == {"a", "b", "d"}


def test_from_a_step() -> None:
    assert reuse.taken_over(plan(), earlier(c_y=Status.FAILED), "c.x").keys() == {"a", "b", "d"}
    assert reuse.taken_over(plan(), earlier(), "c").keys() == {"a", "b", "d"}
    assert reuse.taken_over(plan(), earlier(), "a") == {}
    assert reuse.taken_over(plan(), {}, "a") == {}


def test_from_a_step_says_what_is_missing() -> None:
    with pytest.raises(ConflictError, match=r"not completed before: b, d"):
        reuse.taken_over(plan(), earlier(b=Status.FAILED, d=Status.FAILED), "c")


def test_from_a_step_that_is_none() -> None:
    with pytest.raises(NotFoundError) as caught:
        reuse.taken_over(plan(), earlier(), "c.z")
    assert caught.value.hints == ("there are: a, b, c.x, c.y, d",)
