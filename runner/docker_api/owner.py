"""Which process a build container belongs to, told by its name, so that those of killed builds can be removed.

A container of another machine, or of another space of process ids (runner inside a container that was given the engine's
socket), is nobody here to judge: it is stale only when it has not run for a day.
"""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from pathlib import Path

PREFIX = "runner-build-"
"""What the names of build containers start with; then come `mark()` and a random part."""

_FOREIGN_STALE_S = 86_400


def mark() -> str:
    """This process: machine and boot, process id, start time. Process ids alone are used again."""
    pid = os.getpid()
    return f"{_machine()}-{pid}-{_started(pid)}"


def is_stale(name: str, *, running: bool, age_s: float) -> bool:
    """Whether nobody will come back for this build container."""
    parts = name.removeprefix(PREFIX).split("-")
    if len(parts) != 4 or not parts[1].isdigit() or parts[0] != _machine():
        return not running and age_s > _FOREIGN_STALE_S
    return _started(int(parts[1])) != parts[2]


@cache
def _machine() -> str:
    """This boot of this machine and this space of process ids, as eight hex digits."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, space = socket.gethostname(), ""
    return hashlib.sha256(f"{boot}{space}".encode()).hexdigest()[:8]


def _started(pid: int) -> str | None:
    """A process's start time in clock ticks since boot (field 22 of its stat); None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
