"""Runs by the command line on the emulator, whose supervisors are stopped and killed. Import `there` and `pulled` as fixtures."""

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

from tests.conftest import Cli, Done, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = self.cli.start("submit", f"{kind}.yml", "--backend", "azureml", "--name", self.name, **options)
        try:
            yield
        finally:
            command.kill()
            command.wait()

    def wait(self) -> Done:
        return self.cli("wait", self.name)

    @property
    def row(self) -> dict[str, Any]:
        """Of the run, as the store has it."""
        return self.cli.row(self.name)

    def until(self, status: str, name: str | None = None) -> None:
        """Until the run, or a step of it, stands so; looked up without a command, which would start a supervisor."""
        eventually(lambda: self.stored(name or self.name) == status, f"{name or self.name} is {status}")

    def stored(self, name: str) -> str | None:
        from runner.errors import RunnerError
        from runner.store import Store

        store = Store(self.cli.home)
        try:
            return store.get(name).status.value
        except RunnerError:
            return None
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

    def ended_there(self) -> None:
        eventually(
            lambda: self.run()["status"] in {"Completed", "Failed", "Canceled"}, "the job ends on the service", 90
        )

    def whole(self, kind: str) -> None:
        """It has completed, as one job, and everything of it is here."""
        assert self.row["status"] == "Completed", self.row
        assert self.run()["status"] == "Completed"
        for step in (self.name,) if kind == "command" else (f"{self.name}.one", f"{self.name}.two"):
            row = self.cli.row(step)
            assert (row["status"], row["reason"]) == ("Completed", "Completed")
            assert self.cli("logs", step).out_bytes == b"hello\n"
            found = self.cli.cwd / f"got-{step}"
            done = self.cli("download", step, "--to", str(found))
            assert done.code == 0, done.err
            assert sorted(path.name for path in found.rglob("*") if path.is_file()) == ["kept", "named"]


@pytest.fixture
def there(emulator: Emulator, cli: Cli, pulled: str) -> There:
    cli.env |= dict(emulator.service.env)
    (cli.cwd / "code").mkdir()
    for kind, text in {"command": COMMAND, "pipeline": PIPELINE}.items():
        (cli.cwd / f"{kind}.yml").write_text(text.format(image=pulled))
    made = There(cli, emulator, f"w{uuid.uuid4().hex[:10]}")
    made.script(SAY)
    return made
