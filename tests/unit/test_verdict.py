"""Rows E0 to E11 and A0 to A9 of docs/status.md as a table: facts and intent in, the outcome out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import verdict
from runner.backends.base import Observation, Phase, PlatformEnd
from runner.model import Cancel, Origin, Outcome, Reason, Status
from runner.verdict import Intent, judge

STARTED = "2026-06-01T12:00:00Z"
NOBODY = Intent()
CANCEL = Intent(cancel_by="ada")
LIMIT = Intent(timeout_s=60)

DONE = Outcome(Reason.COMPLETED, 0, exit_code=0)
RECORDED_CANCEL = Outcome(
    Reason.CANCELED, 143, "canceled (SIGTERM)", signal="SIGTERM", cancel=Cancel("signal", "SIGTERM"),
    origin=Origin.BOOTSTRAPPER,
)  # fmt: skip


def ended(**facts: Any) -> Observation:
    return Observation(Phase.ENDED, **{"started": STARTED, **facts})


def outcome_of(seen: Observation, intent: Intent) -> tuple[str, int | None, str | None, int, bool]:
    found = judge(seen, None, intent)
    return found.reason.value, found.exit_code, found.signal, found.process_exit, found.retryable


@pytest.mark.parametrize(
    ("row", "seen", "intent", "expected"),
    [
        ("E1", ended(error="no such device", started=None), NOBODY, ("StartFailed", None, None, 125, False)),
        ("E1", ended(error="no such device", started=None), CANCEL, ("StartFailed", None, None, 125, False)),
        ("E3", ended(exit_code=143), CANCEL, ("Canceled", None, None, 143, False)),
        ("E3", ended(exit_code=137), CANCEL, ("Canceled", None, "SIGKILL", 143, False)),
        ("E3", ended(killed_by=9), CANCEL, ("Canceled", None, "SIGKILL", 143, False)),
        ("E3", ended(exit_code=137, oom_killed=True), CANCEL, ("Canceled", None, "SIGKILL", 143, False)),
        ("E3", ended(lost=True), CANCEL, ("Canceled", None, None, 143, False)),
        ("A6", ended(exit_code=137), LIMIT, ("Timeout", None, "SIGKILL", 124, False)),
        ("A6", ended(exit_code=0), LIMIT, ("Timeout", None, None, 124, False)),
        ("E4", ended(exit_code=137, oom_killed=True), NOBODY, ("OutOfMemory", None, "SIGKILL", 137, False)),
        ("E4", ended(killed_by=9, oom_killed=True), NOBODY, ("OutOfMemory", None, "SIGKILL", 137, False)),
        ("E5", ended(exit_code=137), NOBODY, ("Killed", None, "SIGKILL", 137, True)),
        ("E5", ended(killed_by=9), NOBODY, ("Killed", None, "SIGKILL", 137, True)),
        ("E6", ended(exit_code=0), NOBODY, ("StatusMissing", 0, None, 125, False)),
        ("E7", ended(exit_code=137, lost=True), NOBODY, ("Lost", None, None, 125, True)),
        ("E7", ended(exit_code=0, lost=True), NOBODY, ("Lost", None, None, 125, True)),
        ("E7", ended(exit_code=137, lost=True, oom_killed=True), NOBODY, ("Lost", None, None, 125, True)),
        ("E7", ended(), NOBODY, ("Lost", None, None, 125, True)),
        ("E8", ended(exit_code=3), NOBODY, ("NonZeroExit", 3, None, 3, False)),
        ("E8", ended(exit_code=255), NOBODY, ("NonZeroExit", 255, None, 255, False)),
        ("E8", ended(exit_code=1, oom_killed=True), NOBODY, ("NonZeroExit", 1, None, 1, False)),
        ("E8", ended(killed_by=11), NOBODY, ("NonZeroExit", 139, None, 139, False)),
        ("E0", ended(exit_code=0, bootstrapped=False), NOBODY, ("Completed", 0, None, 0, False)),
        ("E0", ended(exit_code=7, bootstrapped=False), NOBODY, ("NonZeroExit", 7, None, 7, False)),
        ("E0", ended(exit_code=137, oom_killed=True, bootstrapped=False), NOBODY,
         ("OutOfMemory", None, "SIGKILL", 137, False)),
        ("E0", ended(exit_code=137, bootstrapped=False), NOBODY, ("NonZeroExit", 137, None, 137, False)),
        ("E0", ended(exit_code=137, bootstrapped=False), LIMIT, ("Timeout", None, "SIGKILL", 124, False)),
        ("E0", ended(exit_code=0, bootstrapped=False), CANCEL, ("Canceled", None, None, 143, False)),
        ("E0", ended(lost=True, exit_code=137, bootstrapped=False), NOBODY, ("Lost", None, None, 125, True)),
        ("E0", ended(error="exec format error", started=None, bootstrapped=False), NOBODY,
         ("StartFailed", None, None, 125, False)),
    ],
)  # fmt: skip
def test_an_end_without_a_record(
    row: str, seen: Observation, intent: Intent, expected: tuple[str, int | None, str | None, int, bool]
) -> None:
    assert outcome_of(seen, intent) == expected, row


def test_without_a_bootstrapper_it_says_that_no_record_was_kept() -> None:
    kept = judge(ended(exit_code=0), DONE, NOBODY)
    without = judge(ended(exit_code=0, bootstrapped=False), None, NOBODY)
    assert kept.warnings == ()
    assert any("no record kept" in warning for warning in without.warnings)


def test_a_final_record_is_taken_at_its_word() -> None:
    for seen in (ended(exit_code=137, oom_killed=True), ended(lost=True), ended(exit_code=5)):
        assert judge(seen, DONE, NOBODY) == DONE
    # Row 10: it had ended by itself when the cancel came.
    assert judge(ended(exit_code=0), DONE, CANCEL) == DONE


def test_a_recorded_cancel_that_we_asked_for_says_who() -> None:
    found = judge(ended(exit_code=143), RECORDED_CANCEL, CANCEL)
    assert (found.reason, found.signal, found.process_exit) == (Reason.CANCELED, "SIGTERM", 143)
    assert found.cancel == Cancel("ada", "SIGTERM")


def test_a_recorded_cancel_of_our_own_timeout_is_a_timeout() -> None:
    found = judge(ended(exit_code=143), RECORDED_CANCEL, LIMIT)
    assert (found.reason, found.process_exit, found.cancel) == (Reason.TIMEOUT, 124, None)
    assert "60" in found.message


def test_e9_a_recorded_cancel_that_nobody_here_asked_for_is_an_interruption() -> None:
    found = judge(ended(exit_code=143), RECORDED_CANCEL, NOBODY)
    assert (found.reason, found.status, found.process_exit) == (Reason.INTERRUPTED, Status.FAILED, 125)
    assert (found.exit_code, found.signal, found.retryable) == (None, "SIGTERM", True)


def test_e2_and_e11() -> None:
    assert verdict.image_unavailable("denied", retryable=False).retryable is False
    assert verdict.image_unavailable("timeout", retryable=True).reason is Reason.IMAGE_UNAVAILABLE
    missing = verdict.secret_missing(("TOKEN", "KEY"))
    assert missing.reason is Reason.SECRET_MISSING
    assert "TOKEN, KEY" in missing.message


def test_row_16_outputs_that_cannot_be_saved() -> None:
    lost = verdict.output_error(DONE, "No space left on device")
    assert (lost.reason, lost.exit_code, lost.process_exit) == (Reason.OUTPUT_ERROR, 0, 125)
    failed = Outcome(Reason.NON_ZERO_EXIT, 3, exit_code=3)
    kept = verdict.output_error(failed, "No space left on device")
    assert replace(kept, warnings=()) == failed
    assert "No space left" in kept.warnings[0]


observations = st.builds(
    Observation,
    phase=st.just(Phase.ENDED),
    exit_code=st.none() | st.integers(0, 255),
    killed_by=st.none() | st.sampled_from([6, 9, 11, 15]),
    oom_killed=st.booleans(),
    lost=st.booleans(),
    error=st.none() | st.just("boom"),
    bootstrapped=st.booleans(),
    started=st.none() | st.just(STARTED),
)
intents = st.builds(Intent, st.none() | st.just("ada"), st.none() | st.just(60.0))


@given(observations, intents)
def test_whatever_was_seen_the_outcome_is_sound(seen: Observation, intent: Intent) -> None:
    found = judge(seen, None, intent)
    assert found.exit_code is None or found.signal is None
    assert 0 <= found.process_exit <= 255
    assert (found.process_exit == 0) == (found.status is Status.COMPLETED)
    # Success is never guessed: it takes a record, or an image that can have none.
    assert found.status is not Status.COMPLETED or not seen.bootstrapped


# -- a service elsewhere: rows A0 to A9 -----------------------------------------------------------------------------

FAILED = Outcome(Reason.NON_ZERO_EXIT, 3, "script exited with code 3", exit_code=3)
LIMITED = Intent(limit_s=60)


def platform(status: str, **facts: Any) -> Observation:
    bootstrapped = facts.pop("bootstrapped", True)
    return ended(platform=PlatformEnd(status, **facts), bootstrapped=bootstrapped)


@pytest.mark.parametrize(
    ("row", "seen", "recorded", "intent", "expected"),
    [
        ("A0", platform("Completed", reused="other"), DONE, NOBODY, ("Completed", 0)),
        ("A0", platform("Completed", reused="other"), None, NOBODY, ("Completed", 0)),
        ("A0", platform("Completed", reused="other"), FAILED, NOBODY, ("StatusMissing", 125)),
        ("A1", platform("Completed"), DONE, NOBODY, ("Completed", 0)),
        ("A1", platform("Completed"), DONE, CANCEL, ("Completed", 0)),
        ("A1", platform("Completed", bootstrapped=False), None, NOBODY, ("Completed", 0)),
        ("A2", platform("Completed"), None, NOBODY, ("StatusMissing", 125)),
        ("A2", platform("Completed"), FAILED, NOBODY, ("StatusMissing", 125)),
        ("A2", platform("Completed"), RECORDED_CANCEL, CANCEL, ("StatusMissing", 125)),
        ("A3", platform("Failed"), FAILED, NOBODY, ("NonZeroExit", 3)),
        ("A3", platform("Failed"), FAILED, CANCEL, ("NonZeroExit", 3)),
        ("A3", platform("Failed"), RECORDED_CANCEL, CANCEL, ("Canceled", 143)),
        ("A3", platform("Failed"), RECORDED_CANCEL, NOBODY, ("Interrupted", 125)),
        ("A3", platform("Failed", told=Reason.PREEMPTED), FAILED, NOBODY, ("NonZeroExit", 3)),
        ("A4", platform("Failed"), None, NOBODY, ("PlatformError", 125)),
        ("A4", platform("Failed"), DONE, NOBODY, ("PlatformError", 125)),
        ("A4", platform("SomethingNew"), None, NOBODY, ("PlatformError", 125)),
        ("E1", platform("Failed", told=Reason.START_FAILED), None, NOBODY, ("StartFailed", 125)),
        ("E2", platform("Failed", told=Reason.IMAGE_UNAVAILABLE), None, NOBODY, ("ImageUnavailable", 125)),
        ("E2", platform("Failed", told=Reason.IMAGE_UNAVAILABLE), None, CANCEL, ("Canceled", 143)),
        ("E4", platform("Failed", told=Reason.OUT_OF_MEMORY), None, NOBODY, ("OutOfMemory", 137)),
        ("A3", platform("Failed", told=Reason.OUT_OF_MEMORY), FAILED, NOBODY, ("NonZeroExit", 3)),
        ("A6", platform("Failed", told=Reason.TIMEOUT), None, NOBODY, ("Timeout", 124)),
        ("A6", platform("Canceled", told=Reason.TIMEOUT), None, NOBODY, ("Timeout", 124)),
        ("A5", platform("Canceled", told=Reason.TIMEOUT), None, CANCEL, ("Canceled", 143)),
        ("A5", platform("Canceled"), None, CANCEL, ("Canceled", 143)),
        ("A5", platform("Canceled"), DONE, CANCEL, ("Canceled", 143)),
        ("A5", platform("Canceled"), RECORDED_CANCEL, CANCEL, ("Canceled", 143)),
        ("A5", platform("Failed"), None, CANCEL, ("Canceled", 143)),
        ("A5", platform("Canceled", told=Reason.PREEMPTED), None, CANCEL, ("Canceled", 143)),
        ("A5", platform("Canceled", elapsed_s=99), None, Intent("ada", None, 60), ("Canceled", 143)),
        ("10", platform("Canceled"), FAILED, CANCEL, ("NonZeroExit", 3)),
        ("A6", platform("Canceled", elapsed_s=60), None, LIMITED, ("Timeout", 124)),
        ("A6", platform("Canceled", elapsed_s=99), RECORDED_CANCEL, LIMITED, ("Timeout", 124)),
        ("A6", platform("Canceled", elapsed_s=1), None, LIMIT, ("Timeout", 124)),
        ("A7", platform("Canceled", elapsed_s=59), None, LIMITED, ("CanceledExternally", 143)),
        ("A7", platform("Canceled"), None, LIMITED, ("CanceledExternally", 143)),
        ("A7", platform("Canceled", elapsed_s=1e9), None, NOBODY, ("CanceledExternally", 143)),
        ("A7", platform("Canceled"), RECORDED_CANCEL, NOBODY, ("CanceledExternally", 143)),
        ("A7", platform("Canceled"), DONE, NOBODY, ("CanceledExternally", 143)),
        ("A9", platform("Failed", told=Reason.PREEMPTED), None, NOBODY, ("Preempted", 125)),
        ("A9", platform("Failed", told=Reason.PREEMPTED), RECORDED_CANCEL, NOBODY, ("Preempted", 125)),
        ("A9", platform("Canceled", told=Reason.PREEMPTED), None, LIMITED, ("Preempted", 125)),
    ],
)
def test_an_end_elsewhere(
    row: str, seen: Observation, recorded: Outcome | None, intent: Intent, expected: tuple[str, int]
) -> None:
    found = judge(seen, recorded, intent)
    assert (found.reason.value, found.process_exit) == expected, row
    assert found.retryable == (found.reason in {Reason.PREEMPTED, Reason.INTERRUPTED})
    assert found.started == STARTED


def test_the_words_of_the_service_are_passed_on() -> None:
    found = judge(platform("Failed", code="UserError", message="no such image"), None, NOBODY)
    assert found.message == "no such image (UserError)"
    assert found.origin is Origin.PLATFORM
    told = judge(platform("Completed"), FAILED, NOBODY).message
    assert "NonZeroExit: script exited with code 3" in told


@given(
    status=st.sampled_from(["Completed", "Failed", "Canceled", "Odd"]), told=st.sampled_from([None, *Reason]),
    recorded=st.sampled_from([None, DONE, FAILED, RECORDED_CANCEL]), bootstrapped=st.booleans(),
    intent=st.sampled_from([NOBODY, CANCEL, LIMIT, LIMITED]), reused=st.sampled_from([None, "x"]),
)  # fmt: skip
def test_success_elsewhere_needs_both_words(
    status: str,
    *,
    told: Reason | None,
    recorded: Outcome | None,
    bootstrapped: bool,
    intent: Intent,
    reused: str | None,
) -> None:
    found = judge(platform(status, told=told, bootstrapped=bootstrapped, reused=reused), recorded, intent)
    if found.status is Status.COMPLETED:
        assert status == "Completed"
        assert recorded is DONE or (recorded is None and (reused or not bootstrapped))
