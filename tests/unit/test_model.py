"""The nouns: the status follows from the reason, and what is stored comes back as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import Cancel, Limits, Origin, Outcome, Reason, RetryPolicy, Status, Step, status_of

texts = st.text(max_size=20)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
seconds = st.none() | st.floats(0, 1e9, allow_nan=False)

cancels = st.builds(Cancel, by=texts, signal=st.sampled_from(["SIGTERM", "SIGINT"]), escalated=st.booleans())
outcomes = st.builds(
    Outcome,
    reason=st.sampled_from(Reason),
    process_exit=st.integers(0, 255),
    message=texts,
    exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.sampled_from(["SIGKILL", "SIGSEGV"]),
    core_dumped=st.booleans(),
    oom_kills=st.integers(0, 5),
    cancel=st.none() | cancels,
    origin=st.sampled_from(Origin),
    retryable=st.booleans(),
    warnings=st.lists(texts, max_size=3).map(tuple),
    started=st.none() | texts,
    finished=st.none() | texts,
    elapsed_s=seconds,
    max_rss_bytes=st.none() | st.integers(0, 2**50),
    user_s=seconds,
    sys_s=seconds,
)
steps = st.builds(
    Step,
    name=texts,
    argv=st.lists(texts, min_size=1, max_size=3).map(tuple),
    image=st.none() | texts,
    env=st.dictionaries(names, texts, max_size=2),
    inputs=st.dictionaries(names, texts, max_size=2),
    outputs=st.dictionaries(names, st.none() | texts, max_size=2),
    secrets=st.lists(names, max_size=2).map(tuple),
    limits=st.builds(
        Limits,
        cpus=st.none() | st.floats(0.01, 64),
        memory_bytes=st.none() | st.integers(1, 2**40),
        gpus=st.none() | st.integers(1, 8),
        shm_bytes=st.none() | st.integers(1, 2**40),
        timeout_s=st.none() | st.floats(0.1, 1e6),
        grace_s=st.floats(0.1, 1e3),
    ),
    retry=st.builds(RetryPolicy, st.integers(0, 5), st.lists(st.sampled_from(Reason), max_size=3).map(tuple)),
)


def test_every_reason_has_a_terminal_status() -> None:
    assert all(status_of(reason).terminal for reason in Reason)


def test_only_success_is_completed() -> None:
    assert [reason for reason in Reason if status_of(reason) is Status.COMPLETED] == [Reason.COMPLETED]
    assert {reason for reason in Reason if status_of(reason) is Status.CANCELED} == {
        Reason.CANCELED,
        Reason.CANCELED_EXTERNALLY,
    }


def test_the_statuses_that_can_still_change() -> None:
    live = {status.value for status in Status if not status.terminal}
    assert live == {
        "NotStarted", "Queued", "Preparing", "Starting", "Running", "Finalizing", "CancelRequested", "NotResponding",
    }  # fmt: skip


@given(outcomes)
def test_an_outcome_comes_back_from_json_as_it_was(outcome: Outcome) -> None:
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


@given(outcomes, st.dictionaries(st.sampled_from(["new_field", "final", "attempt"]), texts))
def test_members_of_a_newer_runner_are_ignored(outcome: Outcome, more: dict[str, str]) -> None:
    assert Outcome.from_json({**more, **outcome.to_json()}) == outcome


@given(steps)
def test_a_step_comes_back_from_json_as_it_was(step: Step) -> None:
    assert Step.from_json(json.loads(json.dumps(step.to_json()))) == step


def test_a_warning_is_added_and_nothing_else_changes() -> None:
    outcome = Outcome(Reason.COMPLETED, 0, warnings=("first",))
    assert outcome.with_warning("second").warnings == ("first", "second")
    assert outcome.warnings == ("first",)


def test_an_unknown_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="Unheard"):
        Outcome.from_json({"reason": "Unheard", "process_exit": 0})


LOST = Outcome(Reason.LOST, 125, retryable=True)
FAILED = Outcome(Reason.NON_ZERO_EXIT, 1)
CANCELED = Outcome(Reason.CANCELED, 143, retryable=True)


@pytest.mark.parametrize(
    ("policy", "outcome", "attempt", "again"),
    [
        (RetryPolicy(), LOST, 1, False),
        (RetryPolicy(1), LOST, 1, True),
        (RetryPolicy(1), LOST, 2, False),
        (RetryPolicy(2), FAILED, 1, False),
        (RetryPolicy(2, (Reason.NON_ZERO_EXIT,)), FAILED, 2, True),
        (RetryPolicy(2, (Reason.CANCELED,)), CANCELED, 1, False),
        (RetryPolicy(2, (Reason.COMPLETED,)), Outcome(Reason.COMPLETED, 0), 1, False),
    ],
)
def test_what_is_tried_again(policy: RetryPolicy, outcome: Outcome, attempt: int, again: bool) -> None:
    assert policy.wants(outcome, attempt) is again
