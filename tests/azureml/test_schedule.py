"""What is read when: no slow answer about states, no long download and no crowd of log files holds up a line of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.backends.azureml import follow, tail
from runner.backends.base import Phase
from runner.model import Reason
from tests.conftest import eventually

if TYPE_CHECKING:
    from tests.azureml.conftest import Bench

pytestmark = pytest.mark.docker
TALKS = "import time\nfor i in range({}):\n    print('line', i, flush=True)\n    time.sleep(0.2)\n"


def test_logs_are_read_while_the_service_thinks_about_the_states(bench: Bench) -> None:
    task = bench.task(TALKS.format(60))
    handle = bench.backend.submit(task)
    eventually(lambda: task.log.exists() and task.log.stat().st_size > 0, "the log has begun")
    bench.emulator.admin.fault(path="batchrundata", pause=True, count=1)
    held = bench.emulator.admin.paused()
    before = task.log.stat().st_size
    eventually(lambda: task.log.stat().st_size > before + 30, "the log goes on while the question is held")
    assert bench.emulator.admin.release(held["n"])
    assert bench.outcome(task, handle).reason is Reason.COMPLETED


def test_logs_are_read_while_what_another_left_is_brought(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_READERS", 1)
    monkeypatch.setattr(follow, "_BRINGERS", 1)
    first = bench.task("open('outputs/large', 'w').write('x' * 1000)\n")
    bench.emulator.admin.fault(host="blob", path="outputs/large", method="GET", pause=True, count=1)
    ended = bench.backend.submit(first)
    held = bench.emulator.admin.paused(60)
    task = bench.task(TALKS.format(30))
    handle = bench.backend.submit(task)
    eventually(lambda: task.log.exists() and task.log.stat().st_size > 30, "the other's log is read meanwhile")
    assert bench.backend.poll([ended])[ended].phase is not Phase.ENDED  # type: ignore[union-attr]
    assert bench.emulator.admin.release(held["n"])
    assert bench.outcome(first, ended).reason is Reason.COMPLETED
    assert bench.outcome(task, handle).reason is Reason.COMPLETED


def test_a_job_of_thousands_of_log_files_keeps_its_first_ones_lines_near(bench: Bench) -> None:
    """The others are had in rotation, and every one of them at the end."""
    task = bench.task(TALKS.format(40))
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    others = {f"user_logs/std_log_process_{number:04}.txt": f"none/{number:04}.txt" for number in range(1, 1501)}
    bench.emulator.admin.change("run", handle, _logs=others)
    assert bench.outcome(task, handle).reason is Reason.COMPLETED
    assert task.log.read_text().splitlines() == [f"line {number}" for number in range(40)]
    log = f"dcid.{handle}/user_logs/std_log.txt"
    asked = [
        one["path"] for one in bench.emulator.requests(method="GET") if "/none/" in one["path"] or log in one["path"]
    ]
    turns = [0]
    for path in asked:
        turns[-1:] = [turns[-1] + 1] if "/none/" in path else [turns[-1], 0]
    *while_running, at_the_end = [count for count in turns if count]
    assert while_running
    assert max(while_running) <= tail._OTHERS
    assert at_the_end == 1500
