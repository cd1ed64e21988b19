"""What the protocol of backends promises, of jobs that the emulator executes."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from runner.backends.base import Box, Phase
from runner.errors import BackendError
from runner.model import Limits, Reason
from runner.verdict import Intent
from tests.azureml.conftest import Bench

pytestmark = pytest.mark.docker

_ALL = """
import os, sys
print("hello"); sys.stdout.flush()
os.write(1, bytes(range(256)))
open("outputs/a.txt", "w").write("a")
os.makedirs("outputs/deep/er"); open("outputs/deep/er/b.txt", "w").write("b")
os.makedirs("logs", exist_ok=True); open("logs/mine.txt", "w").write("l")
open(os.path.join(os.environ["RUNNER_OUTPUT_MODEL"], "m.bin"), "wb").write(b"\\x00m")
open(os.environ["RUNNER_OUTPUT_ONE"], "w").write("one")
sys.stderr.write("no end of line")
"""


@pytest.mark.parametrize("secrets", ["Sas", "AccountKey", "None"])
def test_everything_that_a_job_leaves_comes_here(bench: Bench, secrets: str) -> None:
    """On datastores of each kind."""
    bench.emulator.admin.switch(secrets=secrets, folder_type="uri_folder" if secrets == "AccountKey" else "UriFolder")
    task = bench.task(_ALL, outputs={"model": "uri_folder", "one": "uri_file"})
    handle = bench.backend.submit(task)
    outcome = bench.outcome(task, handle)
    assert (outcome.reason, outcome.exit_code, outcome.warnings) == (Reason.COMPLETED, 0, ())
    assert task.log.read_bytes() == b"hello\n" + bytes(range(256)) + b"no end of line"
    work, outputs = task.box.work, task.box.outputs
    found = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    assert found == ["logs/mine.txt", "outputs/a.txt", "outputs/deep/er/b.txt"]
    assert (outputs / "model" / "m.bin").read_bytes() == b"\x00m"
    assert (outputs / "one" / "one").read_text() == "one"
    assert (task.box.tracking / "main").exists()


def test_the_same_key_is_one_job_whoever_submits_it(bench: Bench) -> None:
    task = bench.task("print('once')\n")
    first = bench.backend.submit(task)
    other = bench.open()
    assert other.submit(task) == first
    assert bench.backend.submit(task) == first
    bench.ended(first, other)
    assert other.submit(task) == first
    made, *again = [one["status"] for one in bench.emulator.requests(f"/jobs/{first}", "PUT")]
    assert (made, set(again)) == (201, {200}), "made once, and there from then on"
    assert bench.backend.find(task) == first
    stranger = replace(task, key=f"{task.key}-other", box=Box(bench.tmp / "no-box"))
    assert bench.backend.find(stranger) is None


def test_a_job_of_another_under_our_name_is_not_taken_for_ours(bench: Bench) -> None:
    task = bench.task("print(1)\n")
    handle = bench.backend.submit(task)
    bench.emulator.admin.ask("POST", f"/documents/job/{handle}", {"properties": {"tags": {"runner.key": "somebody"}}})
    bench.emulator.admin.ask("POST", f"/documents/run/{handle}", {"tags": {"runner.key": "somebody"}})
    with pytest.raises(BackendError, match="of another run"):
        bench.open().find(task)
    bench.ended(handle)


def test_what_is_unknown_is_none_and_never_a_status(bench: Bench) -> None:
    unknown = "r" + "0" * 31
    assert bench.backend.poll([unknown]) == {unknown: None}
    assert bench.backend.poll([]) == {}
    bench.backend.cancel(unknown)
    bench.backend.cancel(unknown, force=True)
    bench.backend.remove(unknown)


def test_a_script_that_fails_keeps_its_log_outputs_and_code(bench: Bench) -> None:
    task = bench.task("open('outputs/part', 'w').write('p')\nprint('so far')\nraise SystemExit(7)\n")
    outcome = bench.outcome(task, bench.backend.submit(task))
    assert (outcome.reason, outcome.exit_code) == (Reason.NON_ZERO_EXIT, 7)
    assert task.log.read_bytes() == b"so far\n"
    assert (task.box.work / "outputs" / "part").read_text() == "p"


def test_the_log_itself_says_the_end_where_the_record_is_gone(bench: Bench) -> None:
    task = bench.task("import shutil\nshutil.rmtree('logs/runner')\nprint('x')\nraise SystemExit(3)\n")
    outcome = bench.outcome(task, bench.backend.submit(task))
    assert (outcome.reason, outcome.exit_code) == (Reason.NON_ZERO_EXIT, 3)
    assert task.log.read_bytes() == b"x\n"


def test_a_canceled_script_hears_of_it_and_keeps_what_it_wrote(bench: Bench) -> None:
    task = bench.task(
        "import signal, sys, time\n"
        "def stop(*_):\n    print('bye', flush=True)\n    open('outputs/last', 'w').write('x')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    end = time.monotonic() + 30
    while not task.log.exists() and time.monotonic() < end:
        bench.backend.wait(0.2)
    bench.backend.cancel(handle)
    bench.backend.cancel(handle, force=True)
    outcome = bench.outcome(task, handle, Intent("ada"))
    assert outcome.reason is Reason.CANCELED
    assert task.log.read_bytes() == b"up\nbye\n"
    assert (task.box.work / "outputs" / "last").exists()
    bench.backend.cancel(handle)  # of one that has ended: nothing


def test_somebody_else_cancels_it(bench: Bench) -> None:
    task = bench.task("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    bench.open().cancel(handle)
    outcome = bench.outcome(task, handle, Intent(limit_s=3600))
    assert outcome.reason is Reason.CANCELED_EXTERNALLY
    assert outcome.process_exit == 143


def test_the_users_limit_is_the_bootstrappers(bench: Bench) -> None:
    task = bench.task("import time\ntime.sleep(600)\n", limits=Limits(timeout_s=2, grace_s=1))
    outcome = bench.outcome(task, bench.backend.submit(task), Intent(limit_s=2))
    assert (outcome.reason, outcome.process_exit) == (Reason.TIMEOUT, 124)


def test_a_node_that_is_taken_away(bench: Bench) -> None:
    task = bench.task("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    bench.emulator.admin.preempt(handle)
    outcome = bench.outcome(task, handle)
    assert (outcome.reason, outcome.retryable) == (Reason.PREEMPTED, True)


def test_two_hundred_states_are_one_question(bench: Bench) -> None:
    task = bench.task("print(1)\n")
    handle = bench.backend.submit(task)
    bench.ended(handle)
    bench.backend.remove(handle)
    before = len(bench.emulator.requests("batchrundata"))
    handles = [handle, *(f"r{number:031d}" for number in range(199))]
    states = bench.backend.service.runs(handles)
    assert len(states) == 200
    assert states[handle] is not None
    assert len(bench.emulator.requests("batchrundata")) == before + 1


def test_a_list_of_jobs_shows_ours_and_pages(bench: Bench) -> None:
    from runner.backends.azureml import listing

    task = bench.task("print(1)\n")
    handle = bench.backend.submit(task)
    found = listing.jobs(bench.backend.service)
    mine = next(one for one in found if one.name == handle)
    assert (mine.run, mine.display_name, mine.kind.lower(), mine.compute) == (
        task.labels["runner.run"], task.labels["runner.run"], "command", "cpu-cluster",
    )  # fmt: skip
    assert listing.jobs(bench.backend.service, limit=1) == found[:1]
    bench.ended(handle)


def test_outputs_that_are_too_large_stay_there_until_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_DOWNLOAD_LIMIT", "10k")
    task = bench.task(
        "import os\nopen(os.environ['RUNNER_OUTPUT_MODEL'] + '/m', 'wb').write(os.urandom(20000))\n"
        "open('outputs/small', 'w').write('s')\n",
        outputs={"model": "uri_folder"},
    )
    handle = bench.backend.submit(task)
    outcome = bench.outcome(task, handle)
    assert outcome.reason is Reason.COMPLETED
    assert "left on the service" in outcome.warnings[0]
    assert (task.box.work / "outputs" / "small").read_text() == "s"
    assert not (task.box.outputs / "model" / "m").exists()
    found, warnings = bench.open().download(handle, ["model", "outputs"], bench.tmp / "down")
    assert (sorted(found), warnings) == (["model", "outputs"], [])
    assert (bench.tmp / "down" / "model" / "m").stat().st_size == 20000
    assert (bench.tmp / "down" / "outputs" / "small").read_text() == "s"


def test_names_of_blobs_that_lead_out_are_left_where_they_are(bench: Bench) -> None:
    """Written by something else than the script, past what a file system lets a name be."""
    from runner.backends.azureml.blobs import Place
    from runner.backends.azureml.tail import ARTIFACTS, folder_of

    task = bench.task("import time\nprint('up', flush=True)\nopen('outputs/good', 'w').write('g')\ntime.sleep(3)\n")
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    datastores = bench.open().outputs.datastores
    datastores.listing(Place(ARTIFACTS, "x"))
    container, _ = datastores._open[ARTIFACTS]
    container.upload_blob(f"{folder_of(handle)}outputs/..\\..\\evil", b"e")
    container.upload_blob(f"{folder_of(handle)}outputs/a//b", b"e")
    outcome = bench.outcome(task, handle)
    assert [path.name for path in (task.box.work / "outputs").rglob("*")] == ["good"]
    assert "left out" in outcome.warnings[0]
    assert "evil" in outcome.warnings[0]


def test_fifty_live_tasks_are_followed_by_few_threads(bench: Bench) -> None:
    """What one supervisor of a large pipeline has; here the jobs are one, under fifty handles of its children's form."""
    import threading

    task = bench.task("import time\nfor i in range(40):\n    print(i, flush=True)\n    time.sleep(0.25)\n")
    handle = bench.backend.submit(task)
    others = []
    for number in range(50):
        box = Box(bench.tmp / f"many-{number}")
        box.root.mkdir()
        others.append(replace(task, box=box, log=bench.tmp / f"many-{number}.log"))
    handles = [f"whole{number}/{handle}" for number in range(50)]
    for one, name in zip(others, handles, strict=True):
        bench.backend.watch(one, name)
    bench.until(handle, Phase.RUNNING)
    bench.ended(handle)
    for name in handles:
        bench.ended(name)
        bench.backend.finish(name)
    assert {one.log.read_bytes() for one in others} == {task.log.read_bytes()}
    assert sum(thread.name.startswith(("azureml", "download")) for thread in threading.enumerate()) <= 16


def test_threads_of_others_may_ask_too(bench: Bench) -> None:
    task = bench.task("print(1)\n")
    handle = bench.backend.submit(task)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: bench.backend.poll([handle])[handle], range(40)))
    assert all(seen is not None for seen in answers)
    bench.ended(handle)
    assert os.environ["HTTPS_PROXY"].startswith("http://127.0.0.1")
