"""What the facts of an ended task mean: rows E0-E11 and A0-A9 of docs/status.md, as one pure function.

Order of judgement: a final record of this attempt, then our own recorded intent, then Lost, then the engine's facts.
"""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.model import Cancel, Origin, Outcome, Reason, Status

if TYPE_CHECKING:
    from runner.backends.base import Observation, PlatformEnd


@dataclass(frozen=True, slots=True)
class Intent:
    """What we ourselves had asked of the task: who canceled it, and whether we stopped it at its limit.

    limit_s: how long it might take, whether or not it came to that; a service elsewhere may have kept it in our place.
    """

    cancel_by: str | None = None
    timeout_s: float | None = None
    limit_s: float | None = None


def judge(seen: Observation, recorded: Outcome | None, intent: Intent) -> Outcome:
    """How an attempt ended.

    Args:
        seen: the backend's facts; its phase is ENDED.
        recorded: the final record of this very attempt, if there is one.
        intent: what we had asked for.
    """
    if seen.platform is not None:
        outcome = _elsewhere(seen, seen.platform, recorded, intent)
    elif recorded is not None:
        return _from_record(recorded, intent)
    else:
        outcome = _without_record(seen, intent) if seen.bootstrapped else _without_bootstrapper(seen, intent)
    return replace(outcome, started=outcome.started or seen.started, finished=outcome.finished or seen.finished)


def _from_record(recorded: Outcome, intent: Intent) -> Outcome:
    if recorded.reason is not Reason.CANCELED:
        return recorded
    if intent.cancel_by is not None:
        cancel = recorded.cancel or Cancel(intent.cancel_by, "SIGTERM")
        return replace(recorded, cancel=replace(cancel, by=intent.cancel_by))
    if intent.timeout_s is not None:
        return replace(
            recorded, reason=Reason.TIMEOUT, process_exit=124, cancel=None, origin=Origin.EXECUTOR,
            message=f"timed out after {intent.timeout_s:g} s",
        )  # fmt: skip
    return replace(
        recorded, reason=Reason.INTERRUPTED, process_exit=125, exit_code=None, retryable=True, origin=Origin.EXECUTOR,
        message="interrupted: the engine or machine stopped it, nobody asked runner to",
    )  # fmt: skip


def _without_bootstrapper(seen: Observation, intent: Intent) -> Outcome:
    """Row E0: the image has no Python, so the command ran alone and the exit code is all there is."""
    if (ours := _intended(seen, intent)) is not None:
        outcome = ours
    elif seen.error is not None and seen.exit_code is None:
        outcome = start_failed(seen.error)
    elif seen.lost or seen.exit_code is None:
        outcome = _lost()
    elif seen.exit_code == 0:
        outcome = Outcome(Reason.COMPLETED, 0, exit_code=0)
    elif seen.exit_code == 137 and seen.oom_killed:
        outcome = Outcome(Reason.OUT_OF_MEMORY, 137, "killed: out of memory", signal="SIGKILL", oom_kills=1,
                          origin=Origin.EXECUTOR)  # fmt: skip
    else:
        outcome = _non_zero(seen.exit_code)
    return outcome.with_warning("no record kept: the image has no Python for the bootstrapper")


def _without_record(seen: Observation, intent: Intent) -> Outcome:
    code = 128 + seen.killed_by if seen.killed_by is not None else seen.exit_code
    if seen.error is not None and seen.started is None:
        return start_failed(seen.error)  # E1
    if (ours := _intended(seen, intent)) is not None:
        return ours  # E3
    if seen.lost or code is None:
        return _lost()  # E7
    if code == 137 and seen.oom_killed:  # E4
        return Outcome(Reason.OUT_OF_MEMORY, 137, "killed: out of memory, together with the bootstrapper",
                       signal="SIGKILL", oom_kills=1, origin=Origin.EXECUTOR)  # fmt: skip
    if code == 137:  # E5
        return Outcome(Reason.KILLED, 137, "killed from outside (SIGKILL to the bootstrapper)", signal="SIGKILL",
                       origin=Origin.EXECUTOR, retryable=True)  # fmt: skip
    if code == 0:  # E6
        return Outcome(Reason.STATUS_MISSING, 125, "exit code 0, but the final record is missing: success is not proven",
                       exit_code=0, origin=Origin.EXECUTOR)  # fmt: skip
    return _non_zero(code)  # E8


def _intended(seen: Observation, intent: Intent) -> Outcome | None:
    killed = seen.killed_by == signals.SIGKILL or seen.exit_code == 137
    name = "SIGKILL" if killed else None
    if intent.cancel_by is not None:
        return canceled(intent.cancel_by, signal=name)
    if intent.timeout_s is not None:
        return Outcome(Reason.TIMEOUT, 124, f"timed out after {intent.timeout_s:g} s", signal=name,
                       origin=Origin.EXECUTOR)  # fmt: skip
    return None


# -- a service elsewhere --------------------------------------------------------------------------------------------


def _elsewhere(seen: Observation, end: PlatformEnd, recorded: Outcome | None, intent: Intent) -> Outcome:
    """Rows A0-A9: what the service says of the end, and what our own record says, if there is one."""
    match end.status:
        case "Completed":
            return _platform_completed(seen, end, recorded)
        case "Canceled":
            return _platform_canceled(end, recorded, intent)
        case _:
            return _platform_failed(end, recorded, intent)


def _platform_completed(seen: Observation, end: PlatformEnd, recorded: Outcome | None) -> Outcome:
    if recorded is not None and recorded.status is Status.COMPLETED:
        return recorded  # A1
    if recorded is None and (end.reused or not seen.bootstrapped):
        # A0 of a run that left no record, and jobs of a kind that only the service knows: its word is all there is.
        return Outcome(Reason.COMPLETED, 0, exit_code=0, origin=Origin.PLATFORM, elapsed_s=end.elapsed_s)
    told = (
        f"but the record says {recorded.reason}: {recorded.message}" if recorded else "but the final record is missing"
    )
    return Outcome(  # A2
        Reason.STATUS_MISSING, 125, f"Azure ML says Completed, {told}; success is not proven", origin=Origin.PLATFORM,
        elapsed_s=end.elapsed_s,
    )  # fmt: skip


def _platform_failed(end: PlatformEnd, recorded: Outcome | None, intent: Intent) -> Outcome:
    stopped = recorded is None or recorded.reason is Reason.CANCELED
    if stopped and end.told is Reason.PREEMPTED and intent.cancel_by is None:
        return _preempted(end)  # A9
    if recorded is not None and recorded.status is not Status.COMPLETED:
        return _from_record(recorded, intent)  # A3
    if recorded is None and (ours := _asked(end, intent)) is not None:
        return ours
    if recorded is None and (outcome := _told(end, intent)) is not None:
        return outcome  # as the same end is called elsewhere
    said = end.message or "Azure ML gives no reason"
    lead = "the script completed, but the job failed: " if recorded else ""
    code = f" ({end.code})" if end.code else ""
    return Outcome(  # A4
        Reason.PLATFORM_ERROR, 125, f"{lead}{said}{code}", origin=Origin.PLATFORM, elapsed_s=end.elapsed_s
    )


def _told(end: PlatformEnd, intent: Intent) -> Outcome | None:
    """Rows E1, E2, E4 and A6 of a job that left no record, by the service's own words."""
    said = f"Azure ML: {end.message}" if end.message else "Azure ML"
    match end.told:
        case Reason.IMAGE_UNAVAILABLE:
            outcome = image_unavailable(said, retryable=end.retryable)
        case Reason.OUT_OF_MEMORY:
            outcome = Outcome(
                Reason.OUT_OF_MEMORY, 137, f"killed: out of memory ({said})", signal="SIGKILL", oom_kills=1
            )
        case Reason.START_FAILED:
            outcome = start_failed(end.message or "no reason given", "Azure ML")
        case Reason.TIMEOUT:
            return _timed_out(end, intent)
        case _:
            return None
    return replace(outcome, origin=Origin.PLATFORM, elapsed_s=end.elapsed_s)


def _timed_out(end: PlatformEnd, intent: Intent) -> Outcome:
    after = f" after {intent.limit_s:g} s" if intent.limit_s is not None else ""
    return Outcome(
        Reason.TIMEOUT,
        124,
        f"timed out{after} (Azure ML ended the job)",
        origin=Origin.PLATFORM,
        elapsed_s=end.elapsed_s,
    )


def _platform_canceled(end: PlatformEnd, recorded: Outcome | None, intent: Intent) -> Outcome:
    if recorded is not None and recorded.reason not in {Reason.CANCELED, Reason.COMPLETED}:
        return recorded  # it had ended by itself: row 10
    if (ours := _asked(end, intent)) is not None:
        if recorded is not None and recorded.reason is Reason.CANCELED:
            return _from_record(recorded, intent)
        return ours  # A5
    if end.told is Reason.PREEMPTED:
        return _preempted(end)  # A9
    late = intent.limit_s is not None and end.elapsed_s is not None and end.elapsed_s >= intent.limit_s
    if late or end.told is Reason.TIMEOUT:
        return _timed_out(end, intent)  # A6
    said = f": {end.message}" if end.message else ", for example in the portal"
    return Outcome(  # A7
        Reason.CANCELED_EXTERNALLY, 143, f"canceled on Azure ML by somebody else{said}", origin=Origin.PLATFORM,
        elapsed_s=end.elapsed_s,
    )  # fmt: skip


def _asked(end: PlatformEnd, intent: Intent) -> Outcome | None:
    """The end that we asked for ourselves, if we did."""
    if intent.cancel_by is not None:
        return replace(canceled(intent.cancel_by), origin=Origin.PLATFORM, elapsed_s=end.elapsed_s)
    if intent.timeout_s is not None:
        return Outcome(
            Reason.TIMEOUT,
            124,
            f"timed out after {intent.timeout_s:g} s",
            origin=Origin.PLATFORM,
            elapsed_s=end.elapsed_s,
        )
    return None


def _preempted(end: PlatformEnd) -> Outcome:
    said = f": {end.message}" if end.message else ""
    return Outcome(
        Reason.PREEMPTED, 125, f"the node was taken away (preempted){said}", origin=Origin.PLATFORM, retryable=True,
        elapsed_s=end.elapsed_s,
    )  # fmt: skip


def canceled(by: str, *, signal: str | None = None) -> Outcome:
    """Row E3: canceled as asked, and no record says how the script took it."""
    return Outcome(
        Reason.CANCELED, 143, "canceled" + (" (killed)" if signal else ""), signal=signal,
        cancel=Cancel(by, "SIGTERM", escalated=signal is not None), origin=Origin.EXECUTOR,
    )  # fmt: skip


def copy_canceled(outcome: Outcome, by: str) -> Outcome:
    """Row E3 of a step whose script had completed, while its outputs were being copied elsewhere."""
    return replace(
        outcome, reason=Reason.CANCELED, process_exit=143, exit_code=None, cancel=Cancel(by, "SIGTERM"),
        message="canceled while its outputs were being copied to where they were asked for", origin=Origin.EXECUTOR,
    )  # fmt: skip


def start_failed(error: str, who: str = "the engine") -> Outcome:
    """Row E1: the engine, or the service elsewhere, could not start it."""
    return Outcome(Reason.START_FAILED, 125, f"{who} could not start it: {error}", origin=Origin.EXECUTOR)


def image_unavailable(error: str, *, retryable: bool) -> Outcome:
    """Row E2: the image is missing, or could not be had."""
    return Outcome(Reason.IMAGE_UNAVAILABLE, 125, error, origin=Origin.EXECUTOR, retryable=retryable)


def secret_missing(names: tuple[str, ...]) -> Outcome:
    """Row E11: secrets live in the supervisor's memory only, and that supervisor is gone."""
    return Outcome(
        Reason.SECRET_MISSING, 125,
        f"the secret {', '.join(names)} was lost with the process that held it: submit again with it",
        origin=Origin.EXECUTOR,
    )  # fmt: skip


def output_error(outcome: Outcome, error: str) -> Outcome:
    """Row 16, seen from outside: the script's outputs cannot be saved. A failed script stays as it failed, warned."""
    if outcome.status is not Status.COMPLETED:
        return outcome.with_warning(f"outputs cannot be saved: {error}")
    return replace(
        outcome, reason=Reason.OUTPUT_ERROR, process_exit=125, origin=Origin.EXECUTOR,
        message=f"the script exited 0, but its outputs cannot be saved: {error}",
    )  # fmt: skip


def internal_fault(error: str) -> Outcome:
    """A fault of runner itself ended the supervision; the run must not stay Running for ever."""
    return Outcome(Reason.PLATFORM_ERROR, 125, f"runner's supervisor failed: {error}", origin=Origin.PLATFORM)


def _lost() -> Outcome:
    return Outcome(
        Reason.LOST, 125, "lost: the engine or machine restarted, or the task was removed; its end was not seen",
        origin=Origin.EXECUTOR, retryable=True,
    )  # fmt: skip


def _non_zero(code: int) -> Outcome:
    return Outcome(
        Reason.NON_ZERO_EXIT, code, f"script exited with code {code}", exit_code=code, origin=Origin.EXECUTOR
    )


# -- pipelines ------------------------------------------------------------------------------------------------------


def step_failed(step: str, outcome: Outcome) -> Outcome:
    """Row P1: a pipeline ends as the step that failed first, and says which one that was."""
    detail = f": {outcome.message}" if outcome.message else ""
    return Outcome(
        Reason.STEP_FAILED,
        outcome.process_exit,
        f"step {step} failed ({outcome.reason}){detail}",
        origin=outcome.origin,
    )


def step_canceled(step: str, outcome: Outcome) -> Outcome:
    """Nothing failed, but a step was canceled by itself: the pipeline is not complete."""
    by = outcome.cancel.by if outcome.cancel else "user"
    return Outcome(
        Reason.CANCELED, outcome.process_exit, f"step {step} was canceled", cancel=Cancel(by, "SIGTERM"),
        origin=Origin.EXECUTOR,
    )  # fmt: skip


def sweep_failed(why: str) -> Outcome:
    """A sweep that has no best trial, though no single trial can be blamed."""
    return Outcome(Reason.STEP_FAILED, 1, why, origin=Origin.EXECUTOR)


def sweep_timed_out(limit_s: float) -> Outcome:
    """A sweep of which no trial completed within the sweep's own time."""
    return Outcome(
        Reason.TIMEOUT, 124, f"timed out after {limit_s:g} s, before any trial had completed", origin=Origin.EXECUTOR
    )


def skipped(upstream: str, reason: Reason) -> Outcome:
    """Row P2: a step that needs one which did not complete.

    Args:
        upstream: the step that it needs. reason: how that one ended.
    """
    match reason:
        case Reason.CANCELED | Reason.CANCELED_EXTERNALLY | Reason.UPSTREAM_CANCELED:
            why = Reason.UPSTREAM_CANCELED
        case _:
            why = Reason.UPSTREAM_FAILED
    was = {
        Reason.CANCELED: "was canceled",
        Reason.CANCELED_EXTERNALLY: "was canceled",
        Reason.UPSTREAM_CANCELED: "was skipped, since a step that it needs was canceled",
        Reason.UPSTREAM_FAILED: "was skipped, since a step that it needs failed",
    }
    text = was.get(reason, f"failed ({reason})")
    return Outcome(why, 125, f"skipped: it needs the step {upstream}, which {text}", origin=Origin.EXECUTOR)


def never_started(by: str, why: str) -> Outcome:
    """A step that was canceled before it began."""
    return Outcome(Reason.CANCELED, 143, f"never started: {why}", cancel=Cancel(by, "SIGTERM"), origin=Origin.EXECUTOR)


def input_missing(name: str, producer: str, output: str) -> Outcome:
    """Row E1 of a step whose input was to be written by another that completed without doing so."""
    return Outcome(
        Reason.START_FAILED, 125,
        f"its input {name} is not there: the step {producer} completed, but did not write its output {output}",
        origin=Origin.EXECUTOR,
    )  # fmt: skip


def reused() -> Outcome:
    """A step whose outputs were taken from an earlier run that completed."""
    return Outcome(Reason.COMPLETED, 0, exit_code=0, origin=Origin.EXECUTOR, elapsed_s=0.0)
