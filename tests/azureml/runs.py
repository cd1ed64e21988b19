"""Runs by the command line on the emulator, whose supervisors are stopped and killed; fixtures `there` and `pulled`."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import NotFoundError
from runner.store import Store
from tests.conftest import Cli, Done, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.store import AttemptFolder, RunRow
    from tests.azureml.conftest import Emulator

COMMAND = """
code: code
command: sh say.sh ${{{{outputs.out}}}}
environment: {{image: {image}}}
compute: azureml:cpu-cluster
outputs: {{out: {{type: uri_folder}}}}
"""
PIPELINE = """
type: pipeline
settings: {{default_compute: azureml:cpu-cluster}}
jobs:
  one:
    code: code
    command: sh say.sh ${{{{outputs.out}}}}
    environment: {{image: {image}}}
    outputs: {{out: {{type: uri_folder}}}}
  two:
    code: code
    command: test -s ${{{{inputs.got}}}}/named && sh say.sh ${{{{outputs.out}}}}
    environment: {{image: {image}}}
    inputs: {{got: "${{{{parent.jobs.one.outputs.out}}}}"}}
    outputs: {{out: {{type: uri_folder}}}}
"""
SAY = "echo hello; mkdir -p outputs; echo kept > outputs/kept; echo named > $1/named\n"
HANG = "trap 'exit 0' TERM; echo up; sleep 600 & wait\n"


@pytest.fixture(scope="module")
def pulled(image: str) -> Iterator[str]:
    """The image by a name that is not only this machine's, and so is not pushed first."""
    name = f"registry.example.com/small-{uuid.uuid4().hex[:8]}:1"
    subprocess.run(["docker", "tag", image, name], check=True)
    yield name
    subprocess.run(["docker", "rmi", "--no-prune", name], check=True, capture_output=True)


@dataclass(frozen=True)
class There:
    """The command, with the emulator as its workspace, and the files `command.yml` and `pipeline.yml` with `say.sh`."""

    cli: Cli
    emulator: Emulator
    name: str

    def script(self, text: str) -> None:
        (self.cli.cwd / "code" / "say.sh").write_text(text)

    def submit(self, kind: str, *options: str) -> None:
        """Without waiting for its end."""
        done = self.cli("submit", f"{kind}.yml", "--backend", "azureml", "--name", self.name, *options)
        assert done.code == 0, done.err

    @contextmanager
    def submitting(self, kind: str) -> Iterator[None]:
        """The same, for while a request is held: the command itself returns when the job was asked for."""
        command = self.cli.start(
            "submit", f"{kind}.yml", "--backend", "azureml", "--name", self.name,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield
        finally:
            command.kill()
            command.wait()

    def wait(self) -> Done:
        return self.cli("wait", self.name)

    @property
    def row(self) -> RunRow:
        """Of the run, as the store has it."""
        return self.stored(self.name)

    def step(self, name: str) -> RunRow:
        return self.stored(f"{self.name}.{name}")

    def stored(self, name: str) -> RunRow:
        """Looked up without a command, which would start a supervisor, and costs more."""
        store = Store(self.cli.home)
        try:
            return store.get(name)
        finally:
            store.close()

    def until(self, status: str, name: str | None = None) -> None:
        """Until the run, or a step of it, stands so."""

        def stands() -> bool:
            with suppress(NotFoundError):
                return self.stored(name or self.name).status.value == status
            return False

        eventually(stands, f"{name or self.name} is {status}")

    def log(self, name: str) -> bytes:
        """Of the first attempt of a run or step."""
        return self.folder(name).log.read_bytes()

    def folder(self, name: str) -> AttemptFolder:
        store = Store(self.cli.home)
        try:
            return store.folder(name).attempt(1)
        finally:
            store.close()

    @property
    def supervisor(self) -> int | None:
        """Its process: who holds the run's lock, beside the commands."""
        lock = self.cli.home.resolve() / "runs" / self.name / "lock"
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):
                if link.readlink() == lock and int(link.parts[2]) != os.getpid():
                    return int(link.parts[2])
        return None

    def kill(self) -> None:
        """The supervisor, with -9."""
        pid = self.supervisor
        assert pid is not None, "it has no supervisor"
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self.supervisor is None, "the supervisor is gone")

    def job(self) -> dict[str, Any]:
        """The one job that it has on the service."""
        (job,) = self.jobs()
        return job

    def jobs(self) -> list[dict[str, Any]]:
        return [
            each for each in self.emulator.admin.documents("job")
            if (each.get("properties", {}).get("tags") or {}).get("runner.run") == self.name
        ]  # fmt: skip

    def run(self) -> dict[str, Any]:
        """Its job as the run history has it."""
        name = self.job()["name"]
        return next(each for each in self.emulator.admin.documents("run") if each["runId"] == name)

    def stand(self) -> list[str]:
        """How its job and that one's steps stand there; empty before there is one."""
        names = {each["name"] for each in self.jobs()}
        runs = self.emulator.admin.documents("run")
        return [each["status"] for each in runs if names & {each["runId"], each.get("parentRunId")}]

    def ended_there(self) -> None:
        eventually(
            lambda: self.run()["status"] in {"Completed", "Failed", "Canceled"}, "the job ends on the service", 90
        )

    def whole(self, kind: str) -> None:
        """It has completed, as one job, and everything of it is here."""
        assert told(self.row) == ("Completed", "Completed"), self.row
        assert self.run()["status"] == "Completed"
        for step in (self.name,) if kind == "command" else (f"{self.name}.one", f"{self.name}.two"):
            assert told(self.stored(step)) == ("Completed", "Completed"), self.stored(step)
            assert self.log(step) == b"hello\n"
            left = self.folder(step).artifacts
            assert sorted(path.name for path in left.rglob("*") if path.is_file()) == ["kept", "named"]


def told(row: RunRow) -> tuple[str, str]:
    """(status, reason) of a run that has ended."""
    assert row.outcome is not None, row
    return row.status.value, row.outcome.reason.value


@pytest.fixture
def there(emulator: Emulator, cli: Cli, pulled: str) -> There:
    cli.env |= dict(emulator.service.env)
    (cli.cwd / "code").mkdir()
    for kind, text in {"command": COMMAND, "pipeline": PIPELINE}.items():
        (cli.cwd / f"{kind}.yml").write_text(text.format(image=pulled))
    made = There(cli, emulator, f"w{uuid.uuid4().hex[:10]}")
    made.script(SAY)
    return made
