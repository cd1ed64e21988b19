"""Notes how long a log was when, so that `logs --since` finds its place."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = struct.Struct("<dQ")
"""Time (seconds since the epoch) and size in bytes."""


def note(index: Path, size: int) -> None:
    """The log is `size` bytes long now."""
    with index.open("ab") as file:
        file.write(ENTRY.pack(time.time(), size))


def log_offset(index: Path, since: float) -> int:
    """The position in a log at which lines written after `since` (seconds since the epoch) begin, to about 0.2 s."""
    try:
        raw = index.read_bytes()
    except OSError:
        return 0
    offset = 0
    for when, size in ENTRY.iter_unpack(raw[: len(raw) // ENTRY.size * ENTRY.size]):
        if when >= since:
            break
        offset = size
    return offset
