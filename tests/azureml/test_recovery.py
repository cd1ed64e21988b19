"""kill -9 of a run's supervisor at the requests that matter: one job each time, and the run ends as it would have."""

from __future__ import annotations

import os
from dataclasses import replace
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

import pytest

from runner.model import Status
from runner.run import Run
from runner.store import Store
from runner.submission.accepting import accept
from runner.submission.job import JobRequest, loaded
from runner.submission.job import prepare as prepare_job
from runner.submission.script import Request, prepare
from tests.contract.helpers import supervisors

if TYPE_CHECKING:
    from pathlib import Path

    from runner.model import Step
    from runner.submission.accepting import Prepared
    from tests.azureml.conftest import Emulator

pytestmark = pytest.mark.docker
AT = [
    ("before", "PUT", "/jobs/"),
    ("after", "PUT", "/jobs/"),
    ("after", "POST", "batchrundata"),
]
"""The job is not there yet; it is there, and nobody knows; it is followed."""


NAMED = "registry.example.com/any"


def with_image(step: Step, image: str) -> Step:
    """The step in an image of this engine, which is all that the emulator has; a submission would push it."""
    assert step.remote is not None
    return replace(step, remote=replace(step.remote, environment={"image": image}))


def killed(emulator: Emulator, store: Store, prepared: Prepared, at: tuple[str, str, str]) -> Run:
    """The run, ended, whose first supervisor died at that request."""
    admin, (when, method, path) = emulator.admin, at
    seen = len(admin.requests())
    admin.fault(method=method, path=path, pause=True, when=when)
    row, gone = accept(prepared, store)
    os.close(gone)
    assert first_held(admin, store, row.name) is not None
    for process in supervisors(store.home, row.name):
        os.kill(process, SIGKILL)
    admin.reset()
    run = Run(store, row.name)
    run.wait(120)
    made = [one["path"] for one in admin.requests(seen) if one["method"] == "PUT" and "/jobs/" in one["path"]]
    assert len(set(made)) == 1, "one job"
    assert len(made) == (2 if (when, method) == ("before", "PUT") else 1), "not asked for again where it was there"
    return run


def first_held(admin: Any, store: Store, name: str) -> dict[str, Any] | None:
    """The request that is held; None: the run has ended without making so many."""
    while not store.get(name).status.terminal:
        if held := admin.ask("GET", "/paused?wait=0.5"):
            return dict(held[0])
    return None


@pytest.mark.parametrize("at", AT, ids=str)
def test_a_script(emulator: Emulator, image: str, home: Path, work: Path, at: tuple[str, str, str]) -> None:
    (work / "a.py").write_text("print('once')\nopen('outputs/x', 'w').write('left')\n")
    store = Store(home)
    request = Request(work / "a.py", backend="azureml", compute="cpu-cluster", image=NAMED)
    prepared = prepare(request, store, lambda *_: None)
    prepared = replace(prepared, step=with_image(prepared.step, image))
    run = killed(emulator, store, prepared, at)
    assert run.status is Status.COMPLETED
    assert b"".join(run.logs()) == b"once\n"
    assert [path for path, _ in run.outputs()] == ["outputs/x"]


PIPELINE = """
type: pipeline
settings: {{default_compute: azureml:cpu-cluster}}
jobs:
  one:
    type: command
    command: echo one > ${{{{outputs.out}}}}/x
    environment: {{image: "{image}"}}
    outputs: {{out: {{type: uri_folder}}}}
  two:
    type: command
    command: cat ${{{{inputs.given}}}}/x
    environment: {{image: "{image}"}}
    inputs: {{given: "${{{{parent.jobs.one.outputs.out}}}}"}}
"""


def test_a_pipeline(emulator: Emulator, image: str, home: Path, work: Path) -> None:
    (work / "p.yml").write_text(PIPELINE.format(image=NAMED))
    store = Store(home)
    job, config = loaded(work / "p.yml", (), store, {})
    prepared = prepare_job(JobRequest(job, config, backend="azureml"), store, lambda *_: None)
    assert prepared.plan is not None
    steps = tuple(replace(each, step=with_image(each.step, image)) for each in prepared.plan.steps)
    prepared = replace(prepared, plan=replace(prepared.plan, steps=steps))
    run = killed(emulator, store, prepared, ("after", "PUT", "/jobs/"))
    assert run.status is Status.COMPLETED
    assert [(step.name.partition(".")[2], step.status) for step in run.steps()] == [
        ("one", Status.COMPLETED), ("two", Status.COMPLETED),
    ]  # fmt: skip
    assert b"".join(run.step("two").logs()) == b"one\n"
