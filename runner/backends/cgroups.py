"""Memory and CPU limits for plain processes, where this machine lets us make control groups (v1 as root, v2 delegated).

The bootstrapper moves itself in (`--cgroup`), so a limit holds from before the script's first instruction.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import CapabilityError

if TYPE_CHECKING:
    from runner.backends.base import Capabilities
    from runner.model import Limits

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000


def capabilities(base: Capabilities, root: Path = _ROOT) -> Capabilities:
    """The base capabilities, with the limits that can be held on this machine."""
    return replace(base, memory=_parent("memory", root) is not None, cpus=_parent("cpu", root) is not None)


def folders(key: str, limits: Limits, root: Path = _ROOT) -> list[Path]:
    """The control groups of a task: none without limits, one on v2, one per limited resource on v1.

    Raises:
        CapabilityError: this machine cannot hold the limit.
    """
    found: list[Path] = []
    for controller, value in (("memory", limits.memory_bytes), ("cpu", limits.cpus)):
        if value is None:
            continue
        parent = _parent(controller, root)
        if parent is None:
            raise CapabilityError(
                f"backend process cannot hold a {controller} limit on this machine (no control group can be made)",
                "use --backend docker, or leave the limit out",
            )
        if (path := parent / f"runner-{key}") not in found:
            found.append(path)
    return found


def make(key: str, limits: Limits, root: Path = _ROOT) -> None:
    """Make the control groups and set their limits."""
    for path in folders(key, limits, root):
        path.mkdir(exist_ok=True)
        if limits.memory_bytes is not None:
            _set_memory(path, limits.memory_bytes)
        if limits.cpus is not None:
            _set_cpus(path, limits.cpus)


def remove(key: str, root: Path = _ROOT) -> None:
    """Remove a task's control groups; the kernel refuses while a process is in one."""
    for controller in ("memory", "cpu"):
        parent = _parent(controller, root)
        if parent is not None:
            with contextlib.suppress(OSError):
                (parent / f"runner-{key}").rmdir()


def _parent(controller: str, root: Path) -> Path | None:
    """The control group below which ours can be made, or None."""
    if (root / "cgroup.controllers").exists():
        path = _own_v2(root).parent
        try:
            enabled = (path / "cgroup.subtree_control").read_text("ascii").split()
        except OSError:
            return None
        return path if controller in enabled and os.access(path, os.W_OK) else None
    path = root / controller
    return path if (path / "cgroup.procs").exists() and os.access(path, os.W_OK) else None


def _own_v2(root: Path) -> Path:
    for line in Path("/proc/self/cgroup").read_text("utf-8").splitlines():
        if line.startswith("0::"):
            return root / line[3:].lstrip("/")
    return root


def _set_memory(path: Path, limit: int) -> None:
    if (path / "memory.max").exists():
        (path / "memory.max").write_text(str(limit), "ascii")
        with contextlib.suppress(OSError):
            (path / "memory.swap.max").write_text("0", "ascii")
    elif (path / "memory.limit_in_bytes").exists():
        (path / "memory.limit_in_bytes").write_text(str(limit), "ascii")
        with contextlib.suppress(OSError):  # only where the kernel counts swap
            (path / "memory.memsw.limit_in_bytes").write_text(str(limit), "ascii")


def _set_cpus(path: Path, cpus: float) -> None:
    quota = round(cpus * _PERIOD_US)
    if (path / "cpu.max").exists():
        (path / "cpu.max").write_text(f"{quota} {_PERIOD_US}", "ascii")
    elif (path / "cpu.cfs_quota_us").exists():
        (path / "cpu.cfs_period_us").write_text(str(_PERIOD_US), "ascii")
        (path / "cpu.cfs_quota_us").write_text(str(quota), "ascii")
