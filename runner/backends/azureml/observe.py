"""What Azure says of a run, as facts for the verdict. Pure."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runner.backends.azureml.causes import cause, may_pass
from runner.backends.base import Observation, Phase, PlatformEnd
from runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PHASES = {
    "NotStarted": Phase.QUEUED,
    "Queued": Phase.QUEUED,
    "Scheduled": Phase.QUEUED,
    "Provisioning": Phase.PREPARING,
    "Preparing": Phase.PREPARING,
    "Starting": Phase.STARTING,
    "Running": Phase.RUNNING,
    "CancelRequested": Phase.RUNNING,
    "Finalizing": Phase.FINALIZING,
    "NotResponding": Phase.NOT_RESPONDING,
    "Paused": Phase.NOT_RESPONDING,
    "Unknown": Phase.NOT_RESPONDING,
}
_ENDS = frozenset({"Completed", "Failed", "Canceled"})


def check_status(text: str) -> None:
    """That a job can be in such a status, in Azure's words, whatever their case.

    Raises:
        UsageError: none ever is; names those that there are.
    """
    known = [*_PHASES, *sorted(_ENDS)]
    if text.lower() not in {each.lower() for each in known}:
        raise UsageError(f"{text!r} is not a status of Azure ML", f"expected one of: {', '.join(known)}")


def observation(run: Mapping[str, Any], *, bootstrapped: bool = True) -> Observation:
    """A run of the run history as what it says now.

    Args:
        bootstrapped: whether our bootstrapper is in front of its command.
    """
    status = str(run.get("status") or "Unknown")
    phase = Phase.ENDED if status in _ENDS else _PHASES.get(status, Phase.NOT_RESPONDING)
    started = moment(run.get("startTimeUtc"))
    return Observation(
        phase,
        started=started,
        finished=moment(run.get("endTimeUtc")) if phase is Phase.ENDED else None,
        bootstrapped=bootstrapped,
        platform=_end(status, run) if phase is Phase.ENDED else None,
        note=_waiting(run) if phase in {Phase.QUEUED, Phase.PREPARING} else "",
    )


def _end(status: str, run: Mapping[str, Any]) -> PlatformEnd:
    errors = list(_errors(run.get("error")))
    code = next((code for code, _ in reversed(errors) if code), None)
    message = next((text for _, text in errors if text), None)
    told = [*errors, ("", str(run.get("cancelationReason") or ""))]
    properties = run.get("properties") or {}
    reused = str(properties.get("azureml.isreused") or "").lower() == "true"
    return PlatformEnd(
        status=status,
        code=code,
        message=message or (str(run["cancelationReason"]) if run.get("cancelationReason") else None),
        told=None if status == "Completed" else cause(told),
        retryable=may_pass(told),
        elapsed_s=_elapsed(run),
        reused=str(properties.get("azureml.reusedrunid") or "") or None if reused else None,
    )


def _errors(found: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """(code, message) of an error and of what is inside of it, the outermost first."""
    if not isinstance(found, dict) or depth > 10:
        return
    inner = found.get("error")
    error = inner if isinstance(inner, dict) else found
    yield str(error.get("code") or ""), str(error.get("message") or "")[:4000]
    yield from _errors(error.get("innerError"), depth + 1)
    details = error.get("details")
    for one in details if isinstance(details, list) else ():
        yield from _errors(one, depth + 1)


def _waiting(run: Mapping[str, Any]) -> str:
    """Why it still waits, in the service's words."""
    info = run.get("queueingInfo")
    return str(info.get("message") or "")[:300] if isinstance(info, dict) else ""


def _elapsed(run: Mapping[str, Any]) -> float | None:
    """Seconds that it ran by the service's own measure, else by its clock."""
    found = re.fullmatch(r"(?:(\d+)\.)?(\d+):(\d+):(\d+(?:\.\d+)?)", str(run.get("computeDuration") or ""))
    if found is not None:
        days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return days * 86400 + hours * 3600 + minutes * 60 + seconds
    begin, end = moment(run.get("startTimeUtc")), moment(run.get("endTimeUtc"))
    if begin is None or end is None:
        return None
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds())


def moment(text: Any) -> str | None:
    """A time of Azure's (seven digits of a second, Z or an offset) as ISO 8601 that Python reads; None: it is none."""
    if not isinstance(text, str) or text.startswith("0001-"):
        return None
    short = re.sub(r"(\.\d{6})\d+", r"\1", text.strip())
    try:
        found = datetime.fromisoformat(short)
    except ValueError:
        return None
    return short if found.tzinfo is not None else f"{short}+00:00"
