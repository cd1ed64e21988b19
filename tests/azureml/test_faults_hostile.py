"""What a service, or who writes to its storage, may send: it reaches nothing outside a run's folder, and ends nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from runner.backends.azureml.blobs import Place
from runner.backends.azureml.tail import ARTIFACTS, folder_of
from runner.backends.base import Phase
from runner.model import Reason

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

    from tests.azureml.conftest import Bench

pytestmark = pytest.mark.docker
_WAITS = "import os, time\nprint('up', flush=True)\n{}time.sleep({})\n"


def container(bench: Bench, datastore: str) -> ContainerClient:
    datastores = bench.open().outputs.datastores
    datastores.listing(Place(datastore, "x"))
    return datastores._open[datastore][0]


def test_blobs_whose_names_lead_out_of_a_named_output(bench: Bench) -> None:
    body = "open(os.environ['RUNNER_OUTPUT_M'] + '/good', 'w').write('g')\n"
    task = bench.task(_WAITS.format(body, 4), outputs={"m": "uri_folder"})
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    client = container(bench, "workspaceblobstore")
    folder = f"azureml/{handle}/m/"
    deep = "/".join(["d" * 200] * 4)
    for name in ("x\\..\\..\\evil", "a//b", "l" * 300, ".. /spaced", "...", "fine/" + deep):
        client.upload_blob(folder + name, b"e")
    outcome = bench.outcome(task, handle)
    assert outcome.reason is Reason.COMPLETED
    found = {str(path.relative_to(task.box.outputs / "m")) for path in task.box.outputs.rglob("*") if path.is_file()}
    assert found == {"good", ".. /spaced", "...", "fine/" + deep}
    assert "left out" in outcome.warnings[0]
    assert not list(bench.tmp.rglob("evil"))


def test_a_path_longer_than_a_file_system_takes(bench: Bench) -> None:
    """Each part is a name; all of it is none. It is left out and told, and the others come."""
    body = "open(os.environ['RUNNER_OUTPUT_M'] + '/good', 'w').write('g')\n"
    task = bench.task(_WAITS.format(body, 3), outputs={"m": "uri_folder"})
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    root = task.box.outputs / "m"
    many = "/".join(["e" * 100] * 10)
    container(bench, "workspaceblobstore").upload_blob(f"azureml/{handle}/m/{many}", b"e")
    outcome = bench.outcome(task, handle)
    assert outcome.reason is Reason.COMPLETED
    assert (root / "good").read_text() == "g"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"final": True, "attempt": "somebody", "status": "Completed", "reason": "Completed", "process_exit": 0}),
        "[" * 100_000,
        json.dumps({"final": True, "attempt": "KEY", "status": "Completed", "reason": "Completed", "process_exit": 99999}),
        json.dumps({"final": True, "attempt": "KEY", "reason": {"a": 1}, "warnings": 7}),
        "\x00" * 3_000_000,
    ],
    ids=["another's", "deep", "no-exit-code", "no-types", "zeros"],
)  # fmt: skip
def test_a_record_that_is_forged_proves_no_success(bench: Bench, text: str) -> None:
    """Put in the place of ours by somebody else, after the end; our own last line of the log still says the truth."""
    bench.emulator.admin.switch(ending_s=4)
    task = bench.task("print('x')\nraise SystemExit(3)\n")
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.FINALIZING)
    client = container(bench, ARTIFACTS)
    name = f"{folder_of(handle)}logs/runner/status.json"
    client.upload_blob(name, text.replace("KEY", task.key).encode(), overwrite=True)
    outcome = bench.outcome(task, handle)
    assert outcome.reason in {Reason.NON_ZERO_EXIT, Reason.PLATFORM_ERROR}, outcome
    assert task.log.read_bytes() == b"x\n"


def test_thousands_of_log_files(bench: Bench) -> None:
    """All are there in the end, in order, none of another kind, and the run ends."""
    bench.emulator.admin.switch(ending_s=8)
    task = bench.task("print('mine')\n")
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.FINALIZING)
    client = container(bench, ARTIFACTS)
    for number in range(300):
        client.upload_blob(f"{folder_of(handle)}user_logs/std_log_process_{number:03d}.txt", f"line {number}\n".encode())
    client.upload_blob(f"{folder_of(handle)}user_logs/../../x/std_log_9.txt".replace("..", "%2e%2e"), b"evil\n")
    outcome = bench.outcome(task, handle)
    assert outcome.reason is Reason.NON_ZERO_EXIT or outcome.reason is Reason.COMPLETED
    lines = task.log.read_text().splitlines()
    assert lines.count("mine") == 1
    assert "evil" not in task.log.read_text()
