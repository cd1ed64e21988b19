"""Logs, live: byte for byte, soon, each byte asked for once, and going on where a killed supervisor stopped."""

from __future__ import annotations

import time

import pytest

from runner.backends.azureml.tail import ARTIFACTS, folder_of
from runner.backends.base import Phase
from runner.model import Reason
from tests.azureml.conftest import Bench

pytestmark = pytest.mark.docker


def logged(bench: Bench, handle: str) -> int:
    """Bytes that were sent of the job's log."""
    return sum(one.get("sent") or 0 for one in bench.emulator.requests(f"dcid.{handle}/user_logs", "GET"))


def test_each_byte_is_asked_for_once(bench: Bench) -> None:
    line = b"x" * 99 + b"\n"
    text = (
        "import os, time\nline = b'x' * 99 + b'\\n'\n"
        "for i in range(20):\n    for _ in range(100):\n        os.write(1, line)\n        os.write(2, line * 24)\n"
        "    time.sleep(0.3)\n"
    )
    task = bench.task(text)
    handle = bench.backend.submit(task)
    assert bench.outcome(task, handle).reason is Reason.COMPLETED
    data = task.log.read_bytes()
    assert data == line * 50_000
    # Besides: answers that there is nothing new, and the record.
    assert logged(bench, handle) < len(data) * 1.01 + 60_000


def test_lines_are_here_within_two_seconds(bench: Bench) -> None:
    task = bench.task("import time\nfor i in range(30):\n    print(time.time(), flush=True)\n    time.sleep(0.3)\n")
    handle = bench.backend.submit(task)
    seen, worst = 0, 0.0
    while bench.backend.poll([handle])[handle].phase is not Phase.ENDED:  # type: ignore[union-attr]
        bench.backend.wait(0.05)
        lines = task.log.read_text().splitlines() if task.log.exists() else []
        for line in lines[seen:]:
            worst = max(worst, time.time() - float(line))
        seen = len(lines)
    assert seen == 30
    assert worst < 2 + 1.0, "one second is the emulator's own: it writes logs every half second, on a loaded machine"


def test_another_supervisor_goes_on_at_the_very_byte(bench: Bench) -> None:
    task = bench.task("import time\nfor i in range(40):\n    print('line', i, flush=True)\n    time.sleep(0.2)\n")
    first = bench.open()
    handle = first.submit(task)
    bench.until(handle, Phase.RUNNING, backend=first)
    end = time.monotonic() + 30
    while (not task.log.exists() or task.log.stat().st_size < 40) and time.monotonic() < end:
        first.wait(0.1)
    first.close()
    with task.log.open("ab") as log:
        log.write(b"written, and not noted before the kill")
    heir = bench.open()
    assert heir.find(task) == handle
    heir.watch(task, handle)
    bench.ended(handle, heir)
    heir.finish(handle)
    assert task.log.read_bytes() == b"".join(b"line %d\n" % number for number in range(40))


def test_a_job_that_ended_while_nobody_looked(bench: Bench) -> None:
    task = bench.task("print('all of it')\nopen('outputs/o', 'w').write('o')\n")
    first = bench.open()
    handle = first.submit(task)
    first.close()
    time_over = time.monotonic() + 60
    heir = bench.open()
    while heir.poll([handle])[handle].phase is not Phase.ENDED:  # type: ignore[union-attr]
        assert time.monotonic() < time_over
        heir.wait(0.2)
    heir.watch(task, handle)
    bench.ended(handle, heir)
    heir.finish(handle)
    assert task.log.read_bytes() == b"all of it\n"
    assert (task.box.work / "outputs" / "o").read_text() == "o"


def test_processes_after_the_first_are_named_line_by_line(bench: Bench) -> None:
    """Written beside the emulator's own log, since it runs jobs on one node only."""
    task = bench.task("import time\nprint('up', flush=True)\ntime.sleep(4)\nprint('down')\n")
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    datastores = bench.open().outputs.datastores
    datastores.read(ARTIFACTS, "x", 0, 1)
    container, _ = datastores._open[ARTIFACTS]
    path = f"{folder_of(handle)}user_logs/std_log_process_1.txt"
    container.upload_blob(path, b"one\ntwo without end")
    bench.emulator.admin.change("run", handle, _logs={"user_logs/std_log_process_1.txt": path})
    assert bench.outcome(task, handle).reason is Reason.COMPLETED
    lines = task.log.read_bytes().split(b"\n")
    assert [line for line in lines if not line.startswith(b"[")] == [b"up", b"down"]
    assert [line for line in lines if line.startswith(b"[")] == [b"[process_1] one", b"[process_1] two without end"]
