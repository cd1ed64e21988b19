"""Times as the service writes them, and its durations."""

from __future__ import annotations

import re
from datetime import UTC, datetime


def now() -> str:
    """UTC, with microseconds and seven digits as in run history's answers."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00")


def seconds_since(moment: str) -> float:
    """By the wall clock: a run may have begun before the emulator did."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def duration_s(text: str | float | None) -> float | None:
    """Seconds of an ISO 8601 duration, `PT1H30M`, `P1D`, or (in nodes) of a plain number. ValueError: it is neither."""
    if text is None or not isinstance(text, str):
        return text
    parts = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", text)
    if parts is None or not any(parts.groups()):
        raise ValueError(f"{text!r} is no ISO 8601 duration")
    days, hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
