"""The Azure ML backend against the emulator, which runs once for all tests and is asked nothing that it does not know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.backends.base import Handle, Observation, Task

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 90.0


@dataclass(frozen=True)
class Emulator:
    """exports: what its clients have in their environment."""

    exports: Mapping[str, str]

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """Its port for tests, which no proxy leads to."""
        request = urllib.request.Request(
            self.exports["RUNNER_EMULATOR_ADMIN"] + path, method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.exports['RUNNER_EMULATOR_ADMIN_TOKEN']}",
                     "Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.loads(answer.read())

    def switch(self, **switches: object) -> None:
        self.admin("POST", "/switches", switches)

    def fault(self, **rule: object) -> None:
        self.admin("POST", "/faults", rule)

    def requests(self, path: str = "", method: str = "") -> list[dict[str, Any]]:
        """What it was asked, by a part of the path."""
        return [
            one for one in self.admin("GET", "/requests")
            if path in one["path"] and (not method or one["method"] == method)
        ]  # fmt: skip

    @property
    def target(self) -> Target:
        subscription, group, workspace = (
            self.exports[f"AZURE_{name}"] for name in ("SUBSCRIPTION_ID", "RESOURCE_GROUP", "WORKSPACE")
        )
        return Target(subscription, group, workspace)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    state = tmp_path_factory.mktemp("emulator")
    command = [sys.executable, "-m", "tests.emulators.azureml"]
    done = subprocess.run(
        [*command, "start", "--state", str(state), "--detach"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = (line.removeprefix("export ").partition("=") for line in done.stdout.splitlines())
    yield Emulator({name: value.strip("'") for name, _, value in lines})
    subprocess.run([*command, "stop", "--state", str(state)], cwd=ROOT, check=True)


@pytest.fixture
def emulator(running: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """As it is at first, named in the environment of the test. Whatever it was asked and did not know fails the test."""
    for name, value in running.exports.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RUNNER_DOWNLOAD_LIMIT", raising=False)
    credential.forget()
    running.admin("DELETE", "/switches")
    running.admin("DELETE", "/faults")
    yield running
    assert running.admin("GET", "/unhandled") == []


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
