"""Ends that Azure itself decides, and storage that fails for ever: told as what they are, with all that could be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.backends.azureml import blobs, document, follow
from runner.backends.base import LEFT, Phase
from runner.model import Limits, Reason
from runner.verdict import Intent
from tests.azureml.runs import HANG, pulled, there
from tests.azureml.test_faults import patient
from tests.conftest import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.azureml.conftest import Bench
    from tests.azureml.runs import There

__all__ = ["pulled", "there"]
pytestmark = pytest.mark.docker
UP = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"


def test_an_image_that_cannot_be_pulled_is_that_and_no_fault_of_the_platform(bench: Bench) -> None:
    task = bench.task("print(1)\n", environment={"image": "registry.example.com/never-pushed:1"})
    outcome = bench.outcome(task, bench.backend.submit(task))
    assert (outcome.reason, outcome.process_exit, outcome.retryable) == (Reason.IMAGE_UNAVAILABLE, 125, False)
    assert "registry.example.com/never-pushed:1" in outcome.message


def test_azure_s_own_kill_at_the_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes after the bootstrapper's, which it stands behind; here it is let come first."""
    monkeypatch.setattr(document, "LATER_S", -285.0)
    bench.emulator.admin.switch(cancel_grace_s=5)
    task = bench.task(UP, limits=Limits(timeout_s=304, grace_s=1))
    outcome = bench.outcome(task, bench.backend.submit(task), Intent(limit_s=304))
    assert (outcome.reason, outcome.process_exit) == (Reason.TIMEOUT, 124)
    assert task.log.read_bytes() == b"up\n"


def test_a_step_whose_node_is_taken_away(there: There) -> None:
    there.script(HANG)
    there.submit("pipeline")
    first = f"{there.name}.one"
    there.until("Running", first)
    job, runs = there.job()["name"], there.emulator.admin.documents("run")
    child = next(run for run in runs if run.get("parentRunId") == job and run["status"] == "Running")
    there.emulator.admin.preempt(child["runId"])
    done = there.wait()
    assert done.code == 125
    ended = there.stored(first).outcome
    assert ended is not None
    assert (ended.reason, ended.retryable) == (Reason.PREEMPTED, True)
    whole = there.row.outcome
    assert whole is not None
    assert whole.reason is Reason.STEP_FAILED


def test_storage_that_fails_for_ever_ends_with_what_could_be_had(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(follow, "_GIVEN_UP_S", 0.0)
    monkeypatch.setattr(blobs, "_RETRIES", {"retry_total": 0})
    monkeypatch.setattr("runner.backends.azureml.tail._PATIENCE_S", 0.1)
    task = bench.task(
        "import time\nprint('first', flush=True)\ntime.sleep(8)\nopen('outputs/kept', 'w').write('k')\nprint('last')\n"
    )
    handle = bench.backend.submit(task)
    eventually(lambda: task.log.exists() and task.log.read_bytes() == b"first\n", "the first line is here")
    bench.emulator.admin.fault(host="blob", method="GET", status=500, count=None)
    outcome = bench.outcome(task, handle)
    assert outcome.reason is Reason.STATUS_MISSING, "Azure says Completed, and nobody else can"
    assert task.log.read_bytes() == b"first\n"
    assert [text.partition(":")[0].partition(" (")[0] for text in outcome.warnings] == [
        "the log is not complete", LEFT,
    ]  # fmt: skip
    bench.emulator.admin.reset()
    assert bench.backend.download(handle, ["outputs"], tmp_path / "later") == (["outputs"], [])
    assert (tmp_path / "later" / "outputs" / "kept").read_text() == "k"


def test_storage_that_comes_back_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "_RETRIES", {"retry_total": 0})
    task = bench.task("open('outputs/kept', 'w').write('k')\n")
    handle = bench.backend.submit(task)
    rule = bench.emulator.admin.fault(host="blob", method="GET", status=500, count=None)
    eventually(lambda: bench.emulator.admin.hits(rule) > 3, "it was tried")
    assert bench.backend.poll([handle])[handle].phase is not Phase.ENDED  # type: ignore[union-attr]
    bench.emulator.admin.reset()
    assert patient(bench, task, handle).reason is Reason.COMPLETED
    assert (task.box.work / "outputs" / "kept").read_text() == "k"
