"""Rows 4 and 5: what the kernel killed for want of memory. v1 for real; v2 by recorded hosts, for lack of one here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from tests.bootstrap.conftest import Run

RECORDED = Path(__file__).parent / "recorded"
LIMIT = 64 << 20
HOG = "block = b'x' * 300_000_000"


def limited(cgroup: Callable[..., Path]) -> list[str]:
    """The option that puts the bootstrapper under a limit of 64 MiB."""
    return ["--cgroup", str(cgroup("memory", limit_in_bytes=LIMIT))]


def test_row_4_the_script(run: Run, mode: str, cgroup: Callable[..., Path]) -> None:
    result = run("python3", "-c", HOG, mode=mode, options=limited(cgroup))
    assert result.row() == ("Failed", "OutOfMemory", None, "SIGKILL", 137)
    assert result.record["message"] in [f"killed: out of memory (limit 64 MiB, peak {peak} MiB)" for peak in (63, 64)]
    assert result.record["oom_kills"] == 1
    assert result.record["retryable"] is False
    assert result.record["warnings"] == []


@pytest.mark.parametrize("code", [0, 3])
def test_row_5_a_child_while_the_script_goes_on(run: Run, mode: str, cgroup: Callable[..., Path], code: int) -> None:
    script = f'python3 -c "{HOG}"; python3 -c "{HOG}"; exit {code}'
    result = run("bash", "-c", script, mode=mode, options=limited(cgroup))
    assert result.row()[1:] == ("NonZeroExit" if code else "Completed", code, None, code)
    assert result.record["oom_kills"] == 2
    assert result.record["warnings"] == ["2 processes OOM-killed"]


def test_a_kill_from_outside_is_no_lack_of_memory(run: Run, mode: str, cgroup: Callable[..., Path]) -> None:
    result = run("sh", "-c", "kill -9 $$", mode=mode, options=limited(cgroup))
    assert result.row() == ("Failed", "Signaled", None, "SIGKILL", 137)
    assert result.record["oom_kills"] == 0


def test_kills_before_our_time_do_not_count(run: Run, cgroup: Callable[..., Path]) -> None:
    options = limited(cgroup)
    assert run("python3", "-c", HOG, options=options).record["reason"] == "OutOfMemory"
    assert run("sh", "-c", "kill -9 $$", options=options).record["reason"] == "Signaled"


@pytest.mark.parametrize(
    ("host", "version", "kills", "words"),
    [
        ("v2-container", 2, 2, " (limit 512 MiB, peak 511 MiB)"),
        ("v2-systemd", 2, 0, ""),
        ("v2-hostns", 2, 1, " (limit 256 MiB, peak 256 MiB)"),
        ("v1-container", 1, 4, " (limit 100 MiB, peak 99 MiB)"),
    ],
)
def test_recorded_hosts(module: ModuleType, host: str, version: int, kills: int, words: str) -> None:
    found = module.memory_cgroup(str(RECORDED / host))
    assert found is not None
    assert found[0] == version
    assert module.oom_kills(found) == kills
    assert module.memory_words(found) == words


def test_a_host_that_does_not_count(module: ModuleType, tmp_path: Path) -> None:
    assert module.memory_cgroup(str(RECORDED / "v2-root")) is None
    assert module.memory_cgroup(str(tmp_path)) is None
    assert module.oom_kills(None) == 0
    assert module.memory_words(None) == ""


def test_recorded_v2_kill_becomes_row_4(module: ModuleType) -> None:
    """The judgement with the counter of a recorded v2 host that rose by one while the script ran."""
    found = module.memory_cgroup(str(RECORDED / "v2-container"))
    script = module.Script()
    script.status = 9
    fields = module.judge(script, module.oom_kills(found) - 1, module.memory_words(found), {})
    assert (fields["reason"], fields["process_exit"], fields["signal"]) == ("OutOfMemory", 137, "SIGKILL")
    assert fields["message"] == "killed: out of memory (limit 512 MiB, peak 511 MiB)"
