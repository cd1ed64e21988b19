"""The Azure ML backend against the emulator, which runs once for all tests and is asked nothing that it does not know."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from runner import artifacts, verdict
from runner.backends.azureml import credential
from runner.backends.azureml.backend import AzureMLBackend
from runner.backends.azureml.target import Target
from runner.backends.base import Box, Phase
from runner.bootstrapper import final_outcome, read_record
from runner.composer import compose_task
from runner.model import Limits, Outcome, Remote, Step
from tests.contract.workspace import ONLY_THE_EMULATOR
from tests.emulators.azureml.fixture import Admin, Service
from tests.patience import REAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from runner.backends.base import Handle, Observation, Task

DEADLINE_S = 90.0


@dataclass(frozen=True)
class Emulator:
    """A running one, as these tests need it."""

    service: Service

    @property
    def admin(self) -> Admin:
        return self.service.admin

    def requests(self, path: str = "", method: str = "") -> list[dict[str, Any]]:
        """What it was asked, by a part of the path."""
        return [
            one for one in self.admin.requests()
            if path in one["path"] and (not method or one["method"] == method)
        ]  # fmt: skip

    @property
    def target(self) -> Target:
        env = self.service.env
        return Target(env["AZURE_SUBSCRIPTION_ID"], env["AZURE_RESOURCE_GROUP"], env["AZURE_WORKSPACE"])


@pytest.fixture(scope="module")
def pulled(image: str) -> Iterator[str]:
    """The image by a name that is not only this machine's, and so is not pushed first."""
    name = f"registry.example.com/small-{uuid.uuid4().hex[:8]}:1"
    subprocess.run(["docker", "tag", image, name], check=True)
    yield name
    subprocess.run(["docker", "rmi", "--no-prune", name], check=True, capture_output=True)


@pytest.fixture
def emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Named in the environment of the test."""
    if REAL:
        pytest.skip(ONLY_THE_EMULATOR)
    azureml: Service = request.getfixturevalue("azureml")
    for name, value in azureml.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RUNNER_DOWNLOAD_LIMIT", raising=False)
    credential.forget()
    return Emulator(azureml)


@dataclass
class Bench:
    """A backend and what it takes to make tasks for it."""

    emulator: Emulator
    image: str
    tmp: Path
    opened: list[AzureMLBackend] = field(default_factory=list)

    def open(self) -> AzureMLBackend:
        backend = AzureMLBackend(self.emulator.target)
        self.opened.append(backend)
        return backend

    @property
    def backend(self) -> AzureMLBackend:
        return self.opened[0] if self.opened else self.open()

    def task(
        self, text: str, *, outputs: Mapping[str, str] | None = None, limits: Limits | None = None, **remote: Any
    ) -> Task:
        """outputs: name → type. The key is of this very test, since the emulator keeps the jobs of all."""
        key = f"{self.tmp.name}-{len(list(self.tmp.glob('code-*')))}"
        code = self.tmp / f"code-{key}"
        code.mkdir()
        (code / "a.py").write_text(text)
        return self.composed(key, code, outputs or {}, limits or Limits(grace_s=3), remote)

    def composed(
        self, key: str, code: Path, outputs: Mapping[str, str], limits: Limits, remote: Mapping[str, Any]
    ) -> Task:
        box = Box(self.tmp / f"box-{key}")
        given: dict[str, Any] = {"environment": {"image": self.image}, "compute": "cpu-cluster", **remote}
        given["outputs"] = {name: {"type": kind} for name, kind in outputs.items()}
        step = Step(name="a", argv=("a.py",), outputs=dict.fromkeys(outputs), limits=limits, remote=Remote(**given))
        artifacts.prepare(box, None, dict(step.outputs))
        return compose_task(
            step, run=key, experiment="e", number=1, store_id=str(os.getpid()), secrets={}, box=box,
            log=self.tmp / f"log-{key}", layout=self.backend.layout(box, step.inputs, step.outputs, step.files), code=code,
        )  # fmt: skip

    def until(self, handle: Handle, *phases: Phase, backend: AzureMLBackend | None = None) -> Observation:
        """Wait as the engine does until the task is in one of these phases."""
        backend = backend or self.backend
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            seen = backend.poll([handle])[handle]
            assert seen is not None
            if seen.phase in phases:
                return seen
            backend.wait(0.2)
        raise AssertionError(f"{handle} is not {phases} within {DEADLINE_S:g} s")

    def ended(self, handle: Handle, backend: AzureMLBackend | None = None) -> Observation:
        return self.until(handle, Phase.ENDED, backend=backend)

    def outcome(self, task: Task, handle: Handle, intent: verdict.Intent | None = None) -> Outcome:
        """Followed to its end, brought here, and judged."""
        seen = self.ended(handle)
        warnings = self.backend.finish(handle)
        record = final_outcome(read_record(task.box.record), task.key)
        outcome = verdict.judge(seen, record, intent or verdict.Intent())
        for warning in warnings:
            outcome = outcome.with_warning(warning)
        return outcome


@pytest.fixture
def bench(emulator: Emulator, image: str, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(emulator, image, tmp_path)
    yield bench
    for backend in bench.opened:
        backend.close()
