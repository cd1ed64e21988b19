"""Canceled at each phase of a job and of a pipeline, by us and by somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.azureml.runs import HANG, pulled, there, told
from tests.conftest import eventually

if TYPE_CHECKING:
    from tests.azureml.runs import There

__all__ = ["pulled", "there"]
pytestmark = pytest.mark.docker
KINDS = pytest.mark.parametrize("kind", ["command", "pipeline"])


def canceled(there: There, kind: str, *, began: bool) -> None:
    """Canceled by us, on the service too, and no step is anything else. began: whether there is a job at all."""
    assert there.wait().code == 143
    assert told(there.row) == ("Canceled", "Canceled"), there.row
    if kind == "pipeline":
        steps = {there.step(step).status.value for step in ("one", "two")}
        assert steps <= {"Canceled", "Skipped"}, steps
    if began:
        assert there.run()["status"] == "Canceled"
    else:
        assert there.jobs() == []


@KINDS
def test_before_the_job_is_there(there: There, kind: str) -> None:
    """The supervisor is killed where it asks for the job; whoever takes the run up makes none."""
    admin = there.emulator.admin
    admin.fault(method="PUT", path="/jobs/r", pause=True)
    with there.submitting(kind):
        admin.paused()
    there.kill()
    admin.ask("DELETE", "/faults")
    assert there.cli("cancel", there.name).code == 0
    canceled(there, kind, began=False)


@KINDS
def test_while_it_is_queued(there: There, kind: str) -> None:
    there.emulator.admin.switch(queue_s=600)
    there.submit(kind)
    eventually(lambda: "Queued" in there.stand(), "it, or its first step, is queued there")
    assert there.cli("cancel", there.name).code == 0
    canceled(there, kind, began=True)


@KINDS
def test_while_it_runs_and_lingers(there: There, kind: str) -> None:
    there.emulator.admin.switch(cancel_lingers_s=3)
    there.script(HANG)
    there.submit(kind)
    there.until("Running", there.name if kind == "command" else f"{there.name}.one")
    assert there.cli("cancel", there.name).code == 0
    canceled(there, kind, began=True)


def test_while_it_is_finalizing(there: There) -> None:
    """Azure refuses then, and the job ends by itself: as it would have."""
    there.emulator.admin.switch(ending_s=6)
    there.submit("command")
    eventually(lambda: there.jobs() and there.run()["status"] == "Finalizing", "it is finalizing there", 90)
    assert there.cli("cancel", there.name).code == 0
    done = there.wait()
    assert (*told(there.row), done.code) == ("Completed", "Completed", 0), there.row
    assert any(each["status"] == 400 for each in there.emulator.requests("/cancel", "POST"))
    there.whole("command")


@KINDS
def test_by_somebody_in_the_portal(there: There, kind: str) -> None:
    there.script(HANG)
    there.submit(kind)
    there.until("Running", there.name if kind == "command" else f"{there.name}.one")
    from runner.backends.azureml.backend import AzureMLBackend

    somebody = AzureMLBackend(there.emulator.target)
    somebody.cancel(there.job()["name"])
    somebody.close()
    assert there.wait().code == 143
    assert told(there.row) == ("Canceled", "CanceledExternally"), there.row
    if kind == "pipeline":
        assert told(there.step("one")) == ("Canceled", "CanceledExternally")
        assert there.step("two").status.value in {"Canceled", "Skipped"}


def test_a_refused_cancel_does_not_end_the_supervision(there: There) -> None:
    """Of an account that may not: it is told so, and the run ends as its job does."""
    there.script("echo up; until [ -e $1/../stop ] || [ $((n += 1)) -gt 60 ]; do sleep 0.1; done; echo done\n")
    rule = there.emulator.admin.fault(method="POST", path="/cancel", status=403, code="AuthorizationFailed", count=None)
    there.submit("command")
    there.until("Running")
    assert there.cli("cancel", there.name).code == 0
    eventually(lambda: there.emulator.admin.hits(rule) > 0, "the cancel is refused")
    assert there.wait().code == 0
    assert there.log(there.name) == b"up\ndone\n"
    assert told(there.row) == ("Completed", "Completed")
