"""What a service, or who writes to its storage, may send: it reaches nothing outside a run's folder, and ends nothing.

Each job ends first; what is wrong is put there then, and all is brought once more, as by a supervisor that takes it up.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from runner import verdict
from runner.backends.azureml.blobs import Place
from runner.backends.azureml.tail import ARTIFACTS, folder_of
from runner.bootstrapper import final_outcome, read_record
from runner.model import Reason

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

    from runner.backends.base import Handle, Task
    from runner.model import Outcome
    from tests.azureml.conftest import Bench

pytestmark = pytest.mark.docker


def container(bench: Bench, datastore: str) -> ContainerClient:
    datastores = bench.backend.outputs.datastores
    datastores.listing(Place(datastore, "x"))
    return datastores._open[datastore][0]


def again(bench: Bench, task: Task, handle: Handle) -> Outcome:
    """Brought once more, and judged."""
    backend = bench.open()
    backend.watch(task, handle)
    seen = bench.ended(handle, backend)
    warnings = backend.finish(handle)
    outcome = verdict.judge(seen, final_outcome(read_record(task.box.record), task.key), verdict.Intent())
    for warning in warnings:
        outcome = outcome.with_warning(warning)
    return outcome


def test_names_of_blobs_in_a_named_output(bench: Bench) -> None:
    """Those that lead out, or are none here, are left out and told; odd ones that are names come."""
    text = "import os\nopen(os.environ['RUNNER_OUTPUT_M'] + '/good', 'w').write('g')\n"
    task = bench.task(text, outputs={"m": "uri_folder"})
    handle = bench.backend.submit(task)
    assert bench.outcome(task, handle).reason is Reason.COMPLETED
    client, folder = container(bench, "workspaceblobstore"), f"azureml/{handle}/m/"
    deep = "/".join(["d" * 200] * 4)
    for name in ("x\\..\\..\\evil", "a//b", "l" * 300, ".. /spaced", "...", f"fine/{deep}"):
        client.upload_blob(folder + name, b"e")
    outcome = again(bench, task, handle)
    assert outcome.reason is Reason.COMPLETED
    root = task.box.outputs / "m"
    found = {str(path.relative_to(root)) for path in task.box.outputs.rglob("*") if path.is_file()}
    assert found == {"good", ".. /spaced", "...", f"fine/{deep}"}
    assert "left out" in outcome.warnings[0]
    assert not list(bench.tmp.rglob("*evil*"))


def test_a_record_that_is_forged_proves_no_success(bench: Bench) -> None:
    """One that is not final, another's, or none: the job failed, and its end is told as failed."""
    task = bench.task("print('x')\nraise SystemExit(3)\n")
    handle = bench.backend.submit(task)
    assert bench.outcome(task, handle).exit_code == 3
    client, name = container(bench, ARTIFACTS), f"{folder_of(handle)}logs/runner/status.json"
    good = {"final": True, "attempt": task.key, "status": "Completed", "reason": "Completed", "process_exit": 0}
    for forged in (
        json.dumps({**good, "attempt": "somebody"}), json.dumps({**good, "final": "yes"}),
        json.dumps({**good, "process_exit": 99999}), json.dumps({**good, "reason": {"a": 1}, "warnings": 7}),
        "[" * 100_000, "\x00" * 3_000_000, json.dumps(good),
    ):  # fmt: skip
        client.upload_blob(name, forged.encode(), overwrite=True)
        outcome = again(bench, task, handle)
        assert outcome.reason in {Reason.NON_ZERO_EXIT, Reason.PLATFORM_ERROR}, forged[:200]
        assert task.log.read_bytes() == b"x\n"
