"""A submit that is killed, cut off or put off: one job each time, and nothing lost."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from runner.backends.base import Phase
from runner.errors import BackendError, UnavailableError
from runner.model import Reason
from tests.azureml.runs import pulled, there

if TYPE_CHECKING:
    from runner.backends.base import Handle, Task
    from tests.azureml.conftest import Bench
    from tests.azureml.runs import There

__all__ = ["pulled", "there"]
pytestmark = pytest.mark.docker


def submitted(bench: Bench, task: Task) -> Handle:
    """Asked for again where Azure was out of reach, as the engine does."""
    for _ in range(4):
        with suppress(UnavailableError):
            return bench.backend.submit(task)
    return bench.backend.submit(task)


@pytest.mark.parametrize(
    "rules",
    [
        [{"host": "blob", "method": "PUT", "reset": True, "count": 4}],
        [{"host": "blob", "method": "PUT", "when": "after", "reset": True, "count": 4}],
        [{"host": "blob", "method": "PUT", "status": 503, "count": 4}],
        [
            {"path": "startPendingUpload", "when": "after", "reset": True},
            {"path": "/codes/", "method": "PUT", "reset": True},
        ],
        [{"path": "/codes/", "method": "PUT", "when": "after", "status": 500}],
    ],
    ids=["blobs", "blobs-after", "blobs-busy", "before-the-snapshot", "the-snapshot"],
)  # fmt: skip
def test_cut_off_while_code_goes_up(bench: Bench, rules: list[dict[str, object]]) -> None:
    """The code of this test alone, so that it has to go up; and it arrives whole."""
    text = "import hashlib\nprint(hashlib.sha256(open('a.py', 'rb').read()).hexdigest()[:8])\n"
    task = bench.task(text + f"# {bench.tmp}\n")
    numbers = [bench.emulator.admin.fault(**rule) for rule in rules]
    handle = submitted(bench, task)
    assert all(bench.emulator.admin.hits(number) for number in numbers), "the fault was never met"
    assert bench.outcome(task, handle).reason is Reason.COMPLETED
    import hashlib

    assert task.log.read_text() == hashlib.sha256((text + f"# {bench.tmp}\n").encode()).hexdigest()[:8] + "\n"


def test_cut_off_while_data_goes_up(there: There) -> None:
    data = there.cli.cwd / "data"
    data.mkdir()
    for number in range(6):
        (data / f"{number}.bin").write_bytes(os.urandom(1 << 18))
    text = (there.cli.cwd / "command.yml").read_text()
    (there.cli.cwd / "command.yml").write_text(
        text.replace("sh say.sh", "cat ${{inputs.d}}/*.bin | sha256sum; sh say.sh")
        + "inputs: {d: {type: uri_folder, path: data}}\n"
    )
    rule = there.emulator.admin.fault(host="blob", method="PUT", reset=True, skip=2, count=3)
    other = there.emulator.admin.fault(path="/datastores/", status=429, retry_after="1", count=2)
    there.submit("command")
    assert there.wait().code == 0
    assert there.emulator.admin.hits(rule) == 3
    assert there.emulator.admin.hits(other) == 2
    import hashlib

    whole = b"".join((data / f"{number}.bin").read_bytes() for number in range(6))
    assert there.log(there.name) == f"{hashlib.sha256(whole).hexdigest()}  -\nhello\n".encode()
    assert len(there.jobs()) == 1


@pytest.mark.parametrize("kind", ["command", "pipeline"])
def test_a_storm(there: There, kind: str) -> None:
    """Everything is refused now and then, from the first request to the last, and says when to come again."""
    admin = there.emulator.admin
    hosts = {"management": 3, "login": 1, "api.azureml": 4, "blob": 3}
    rules = [
        admin.fault(host=host, skip=skip, count=2, status=429 if skip % 2 else 503, retry_after="1" if skip % 2 else "")
        for host, many in hosts.items()
        for skip in range(1, 4 * many, 4 if host != "management" else 3)
    ]
    there.submit(kind)
    assert there.wait().code == 0
    assert sum(admin.hits(rule) > 0 for rule in rules) > len(rules) // 2
    admin.ask("DELETE", "/faults")
    there.whole(kind)
    assert len(there.jobs()) == 1


def test_refused_and_out_of_reach_is_not_given_up(bench: Bench) -> None:
    """The job may have been made: while nobody can say, nothing is decided, and it is found once somebody can."""
    admin = bench.emulator.admin
    task = bench.task("print('once')\n")
    admin.fault(method="PUT", path="/jobs/", when="after", status=409, code="Conflict")
    admin.fault(method="GET", path="/jobs/", reset=True, count=None)
    bench.backend.service.rest.patience_s = 1
    with pytest.raises(UnavailableError):
        bench.backend.submit(task)
    admin.ask("DELETE", "/faults")
    handle = bench.backend.find(task)  # the engine asks, whenever it has tried before
    assert handle is not None
    bench.backend.watch(task, handle)
    assert bench.outcome(task, handle).reason is Reason.COMPLETED
    assert len(bench.emulator.requests(f"/jobs/{handle}", "PUT")) == 1


def test_a_sign_in_refused_in_the_middle_of_everything(bench: Bench) -> None:
    """401 once to each kind of question while a job runs, with short tokens beside."""
    admin = bench.emulator.admin
    admin.switch(token_lifetime_s=4.0)
    text = "import time\nfor n in range(16):\n    print(n, flush=True)\n    time.sleep(0.25)\n"
    task = bench.task(text, outputs={"m": "uri_folder"})
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.RUNNING)
    rules = [
        admin.fault(path=path, status=401)
        for path in ("batchrundata", "/details", "/rundata", "batchGetResolved", "/datastores/", "listSecrets")
    ]
    outcome = bench.outcome(task, handle)
    assert (outcome.reason, outcome.warnings) == (Reason.COMPLETED, ())
    assert task.log.read_text() == "".join(f"{n}\n" for n in range(16))
    assert all(admin.hits(rule) for rule in rules)


def test_what_is_refused_for_good_is_no_job(bench: Bench) -> None:
    admin = bench.emulator.admin
    admin.fault(method="PUT", path="/jobs/", status=403, code="AuthorizationFailed", count=None)
    task = bench.task("print('never')\n")
    with pytest.raises(BackendError, match="role on the workspace"):
        bench.backend.submit(task)
    admin.ask("DELETE", "/faults")
    assert bench.backend.find(task) is None
