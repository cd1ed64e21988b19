"""What boundaries.py kills and takes up: how each command begins, is repeated, and what there has to be at its end."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from runner.errors import NotFoundError
from runner.store import Store
from tests.azureml.killed import Processes, until
from tests.azureml.runs import COMMAND, HANG, PIPELINE
from tests.emulators.azureml.fixture import Admin

SAY = "echo hello; mkdir -p outputs; echo kept > outputs/kept; echo named > $1/named"
SWEEP = """
type: sweep
trial:
  code: code
  command: echo "1700000000000 ${{{{search_space.x}}}} 0" >> $RUNNER_TRACKING/metrics/loss; sh say.sh ${{{{outputs.out}}}}
  environment: {{image: {image}}}
compute: azureml:cpu-cluster
search_space: {{x: {{type: choice, values: [1, 2]}}}}
sampling_algorithm: grid
objective: {{goal: minimize, primary_metric: loss}}
limits: {{max_total_trials: 2, max_concurrent_trials: 2}}
outputs: {{out: {{type: uri_folder}}}}
"""
_THERE = ("--backend", "azureml")


@dataclass
class Walk:
    """Where all journeys of one kind are made: a folder with `job.yml`, its code and a run store."""

    admin: Admin
    kind: str
    folder: Path
    image: str
    processes: Processes
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:5])
    """In every name, for an emulator that others have used."""

    def name(self, *parts: str) -> str:
        """Of a run, or of a component, which takes less."""
        return "_".join((self.kind, self.mark, *parts)).replace("-", "_")

    def prepare(self) -> None:
        (self.folder / "code").mkdir(parents=True)
        text = {"sweep": SWEEP, "command": COMMAND, "cancel": COMMAND, "download": COMMAND}.get(self.kind, PIPELINE)
        (self.folder / "job.yml").write_text(text.format(image=self.image))
        if self.kind == "sweep":  # whose trials tell the workspace what they logged
            self.admin.switch(network="host")
        os.environ["RUNNER_HOME"] = str(self.folder / "home")
        os.chdir(self.folder)

    def script(self, text: str) -> None:
        (self.folder / "code" / "say.sh").write_text(text)

    def run(self, *argv: str, code: int = 0) -> None:
        """A command that nobody kills."""
        assert (found := self.processes.code(self.processes.start(*argv))) == code, f"{argv} ended with {found}"

    def store(self) -> Store:
        return Store(self.folder / "home")

    def status(self, name: str) -> str | None:
        """None: there is no such run."""
        store = self.store()
        try:
            return store.get(name).status.value
        except NotFoundError:
            return None
        finally:
            store.close()

    def job(self, name: str) -> dict[str, Any]:
        """The one job that the run has on the service."""
        jobs = [
            each for each in self.admin.documents("job")
            if (each.get("properties", {}).get("tags") or {}).get("runner.run") == name
        ]  # fmt: skip
        assert len(jobs) == 1, f"{len(jobs)} jobs on the service"
        return jobs[0]

    def runs(self, name: str) -> tuple[str, int]:
        """(Azure's status of its job, how many children that has)."""
        runs, job = {each["runId"]: each for each in self.admin.documents("run")}, self.job(name)["name"]
        return runs[job]["status"], sum(each.get("parentRunId") == job for each in runs.values())

    def nothing_lies_about(self) -> None:
        left = [str(path) for path in (self.folder / "home").rglob("*") if path.name in {"box", "bringing"}]
        left += [str(path) for path in (self.folder / "home").rglob("tmp*")]
        assert not left, f"left behind: {left}"


class Journey(Protocol):
    """A command that exits with 0, and so does the one that takes it up."""

    def begin(self, walk: Walk, name: str) -> None:
        """What has to be there before."""

    def argv(self, walk: Walk, name: str) -> tuple[str, ...]:
        """The command that is killed."""

    def again(self, walk: Walk, name: str) -> tuple[str, ...]:
        """The one that takes it up, as its user would."""

    def check(self, walk: Walk, name: str) -> None:
        """Nothing is lost, and nothing is there twice."""


@dataclass(frozen=True)
class Submitted:
    """`runner submit --wait` of a job. steps: each with its log and outputs. children: of the job on the service."""

    steps: tuple[str, ...]
    children: int

    def begin(self, walk: Walk, name: str) -> None:
        walk.script(f"{SAY}\n# {name}\n")  # so that it goes up anew each time

    def argv(self, walk: Walk, name: str) -> tuple[str, ...]:
        del walk
        return ("submit", "job.yml", *_THERE, "--name", name, "--wait")

    def again(self, walk: Walk, name: str) -> tuple[str, ...]:
        return ("wait", name) if walk.status(name) is not None else self.argv(walk, name)

    def check(self, walk: Walk, name: str) -> None:
        """One job there; and here every step as if nothing had happened."""
        assert walk.runs(name) == ("Completed", self.children), walk.runs(name)
        store = walk.store()
        try:
            assert store.get(name).status.value == "Completed", store.get(name)
            for step in self.steps:
                self._step(store, name + step)
        finally:
            store.close()
        walk.nothing_lies_about()

    def _step(self, store: Any, name: str) -> None:
        row = store.get(name)
        assert (str(row.outcome.reason), row.outcome.warnings, row.attempts) == ("Completed", (), 1), row
        folder = store.folder(name).attempt(1)
        assert folder.log.read_bytes() == b"hello\n", folder.log.read_bytes()
        assert (folder.artifacts / "outputs" / "kept").read_text() == "kept\n"
        assert [path.read_text() for path in folder.artifacts.rglob("named")] == ["named\n"]
        assert json.loads(folder.record.read_bytes())["final"] is True


@dataclass(frozen=True)
class Canceled:
    """`runner cancel` of a job that runs."""

    def begin(self, walk: Walk, name: str) -> None:
        walk.script(HANG)
        walk.run("submit", "job.yml", *_THERE, "--name", name)
        until(lambda: walk.status(name) == "Running", "the job runs")

    def argv(self, walk: Walk, name: str) -> tuple[str, ...]:
        del walk
        return ("cancel", name)

    def again(self, walk: Walk, name: str) -> tuple[str, ...]:
        return self.argv(walk, name)

    def check(self, walk: Walk, name: str) -> None:
        walk.run("wait", name, code=143)
        assert walk.status(name) == "Canceled", walk.status(name)
        assert walk.runs(name) == ("Canceled", 0), walk.runs(name)
        walk.nothing_lies_about()


@dataclass(frozen=True)
class Downloaded:
    """`runner download` of outputs that stayed on the service since they were too large."""

    def begin(self, walk: Walk, name: str) -> None:
        walk.script(SAY)
        os.environ["RUNNER_DOWNLOAD_LIMIT"] = "0"
        walk.run("submit", "job.yml", *_THERE, "--name", name, "--wait")
        walk.processes.gone()

    def argv(self, walk: Walk, name: str) -> tuple[str, ...]:
        del walk
        return ("download", name, "--to", f"got-{name}")

    def again(self, walk: Walk, name: str) -> tuple[str, ...]:
        return self.argv(walk, name)

    def check(self, walk: Walk, name: str) -> None:
        got = walk.folder / f"got-{name}"
        found = {str(path.relative_to(got)): path.read_text() for path in got.rglob("*") if path.is_file()}
        assert found == {"outputs/kept": "kept\n", "out/named": "named\n"}, found
        walk.nothing_lies_about()


@dataclass(frozen=True)
class Registered:
    """`runner pipeline register --backend azureml`."""

    def begin(self, walk: Walk, name: str) -> None:
        walk.script(f"{SAY}\n# {name}\n")

    def argv(self, walk: Walk, name: str) -> tuple[str, ...]:
        del walk
        return ("pipeline", "register", "job.yml", "--name", name, *_THERE)

    def again(self, walk: Walk, name: str) -> tuple[str, ...]:
        return self.argv(walk, name)

    def check(self, walk: Walk, name: str) -> None:
        versions = [each["name"] for each in walk.admin.documents("component") if f"/{name}/" in each["id"]]
        assert versions == ["1"], versions
        walk.run("pipeline", "show", name, *_THERE)


JOURNEYS: Mapping[str, Journey] = {
    "command": Submitted(("",), 0),
    "pipeline": Submitted((".one", ".two"), 2),
    "sweep": Submitted((".sweep.trial_0", ".sweep.trial_1"), 2),
    "cancel": Canceled(),
    "download": Downloaded(),
    "register": Registered(),
}
