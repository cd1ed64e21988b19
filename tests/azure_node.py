"""What Azure ML does with a command job on a node, as far as a process can show it: plain files, text put in, bash.

Written from the service's documented behaviour (shared design, section 5), and not from what runner sends.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.backends.azureml import snapshot
from runner.backends.azureml.document import document
from runner.backends.base import Box, Task
from runner.model import Limits, Remote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RECORD = "runner-record: "
BASH = shutil.which("bash") or "/bin/bash"


def make_task(folder: Path, argv: Sequence[str], **given: Any) -> Task:
    """A task as the composer makes it, for a run called `calm-otter`."""
    values: dict[str, Any] = {
        "key": "store-calm-otter-1", "image": None, "inputs": {}, "outputs": {}, "secrets": {}, "limits": Limits(),
        "box": Box(folder / "box"), "log": folder / "log", "remote": Remote(environment={"image": "debian:stable"}),
        "labels": {"runner.store": "store", "runner.run": "calm-otter", "runner.step": "job", "runner.attempt": "1"},
    }  # fmt: skip
    env = {"RUNNER_RUN": "calm-otter", "RUNNER_EXPERIMENT": "trials", "RUNNER_ATTEMPT": "1", **given.pop("env", {})}
    return Task(argv=tuple(argv), env=env, **{**values, **given})


@dataclass
class Ended:
    """What a job left. log: its standard output and error, without the record."""

    code: int
    log: bytes
    record: dict[str, Any] | None
    last: dict[str, Any] | None
    work: Path


@dataclass
class Node:
    """A node of a compute. path: its PATH, without tools that put themselves before every program (pyenv).

    values: what Azure puts in for each expression. variables: the service's own.
    """

    root: Path
    path: str = f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin"
    values: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def prepare(self, task: Task) -> tuple[Path, list[str], dict[str, str]]:
        """(working directory, argv, environment) of the task's job."""
        made = snapshot.make(task)
        job = document(task)
        assert job["code"] == str(made[task.code])
        work = self.root / "wd"
        upload(Path(job["code"]), work)
        env = {"PATH": self.path, "HOME": str(self.root), "AZUREML_RUN_ID": job["name"], **job["environment_variables"]}
        return work, [BASH, "-c", substituted(job["command"], self.values)], {**env, **self.variables}

    def run(self, task: Task) -> Ended:
        """Run it to its end."""
        work, argv, env = self.prepare(task)
        done = subprocess.run(
            argv, cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60
        )
        return ended(done.returncode, done.stdout, work)


def ended(code: int, output: bytes, work: Path, record: str = "status.json") -> Ended:
    """The log without its last line, where that is the record."""
    log, mark, last = output.rpartition(RECORD.encode())
    if not mark:
        log, last = output, b"null"
    path = work / "logs" / "runner" / record
    return Ended(code, log, json.loads(path.read_text()) if path.is_file() else None, json.loads(last), work)


def upload(source: Path, target: Path) -> None:
    """Files by name, as a storage account keeps them: no links, modes or empty folders."""
    for base, _, files in os.walk(source):
        for name in files:
            place = target / Path(base).relative_to(source) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(base) / name, place)
            place.chmod(0o644)


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Azure's replacement in a command: by text, without any quoting; what names nothing stays."""

    def optional(found: re.Match[str]) -> str:
        names = re.findall(r"\$\{\{\s*([^}]*?)\s*\}\}", found[1])
        return found[1] if all(name in values for name in names) else ""

    text = re.sub(r"\$\[\[(.*?)\]\]", optional, text, flags=re.DOTALL)
    return re.sub(r"\$\{\{\s*([^}]*?)\s*\}\}", lambda found: values.get(found[1], found[0]), text)
