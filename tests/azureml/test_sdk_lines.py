"""The line of azure-ai-ml before 1.35, which differs on the wire: the same commands, with nothing of it patched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, Cli

if TYPE_CHECKING:
    from tests.azureml.conftest import Emulator

VERSION = "1.34.1"
NEEDED = (
    f"azure-ai-ml=={VERSION}", "six", "azure-identity", "azure-storage-blob", "docker", "packaging", "pathspec", "pydantic",
    "pyyaml", "typer<0.29", "uv", "urllib3",
)  # fmt: skip
"""`six`: imported by 1.34.1, which does not say so."""
pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def old_python() -> Path:
    """An environment with that line, made once."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runner-tests"
    folder = base / f"azure-ai-ml-{VERSION}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if not (folder / "whole").exists():
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([*uv, "pip", "install", "--python", str(python), *NEEDED], check=True)
        # For its metadata; the code comes from the checkout, by PYTHONPATH.
        subprocess.run([*uv, "pip", "install", "--python", str(python), "--no-deps", str(ROOT)], check=True)
        (folder / "whole").touch()
    return python


class Old(Cli):
    """The command in that environment."""

    def __init__(self, home: Path, cwd: Path, python: Path) -> None:
        super().__init__(home, cwd)
        self.python = python
        del self.env["PYTHONWARNINGS"]  # those of an old line are no faults of ours

    def argv(self, *args: str | Path) -> list[str]:
        return [str(self.python), "-m", "runner", *(str(arg) for arg in args)]


@pytest.fixture
def old(cli: Cli, emulator: Emulator, old_python: Path) -> Old:
    made = Old(cli.home, cli.cwd, old_python)
    made.env |= {**emulator.service.env, "PYTHONPATH": str(ROOT)}
    return made


def test_the_earlier_line_runs_jobs_and_pipelines(old: Old, pulled: str) -> None:
    told = subprocess.run(
        [str(old.python), "-c", "import azure.ai.ml; print(azure.ai.ml.__version__)"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert told.stdout.strip() == VERSION
    (old.cwd / "say.sh").write_text('echo "said $1"\nmkdir -p outputs && echo kept > outputs/one\nexit $2\n')
    where = ("--compute", "cpu-cluster")
    done = old("submit", "say.sh", *where, "--image", pulled, "--wait", "--name", "one", "--", "it's", "3", timeout=120)
    assert (done.code, done.out) == (3, "said it's\n"), done.err
    row = old.row("one")
    assert (row["status"], row["reason"], row["exit_code"]) == ("Failed", "NonZeroExit", 3)
    assert (old.home / "runs/one/attempts/1/artifacts/outputs/one").read_text() == "kept\n"
    (old.cwd / "pipe.yml").write_text(
        f"""
type: pipeline
outputs: {{end: {{type: uri_folder}}}}
jobs:
  first:
    command: echo one > ${{{{outputs.o}}}}/f
    environment: {{image: {pulled}}}
    outputs: {{o: {{type: uri_folder}}}}
  second:
    command: cat ${{{{inputs.i}}}}/f | tee ${{{{outputs.end}}}}/g
    environment: {{image: {pulled}}}
    inputs: {{i: "${{{{parent.jobs.first.outputs.o}}}}"}}
    outputs: {{end: "${{{{parent.outputs.end}}}}"}}
"""
    )
    done = old("submit", "pipe.yml", *where, "--wait", "--name", "two", timeout=180)
    assert done.code == 0, done.err
    assert "one" in old("logs", "two").out
    assert old("download", "two", "--output", "end", "--to", "got").code == 0
    assert [path.read_text() for path in (old.cwd / "got").rglob("g")] == ["one\n"]
