"""What a user does first: on the emulator, or on a real workspace that `RUNNER_TEST_WORKSPACE` names (docs/azure.md)."""

from __future__ import annotations

import subprocess
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.contract import workspace
from tests.patience import REAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Cli

pytestmark = pytest.mark.docker


@dataclass(frozen=True)
class Place:
    """Where jobs run. image: one with sh and python3, as Azure pulls it."""

    cli: Cli
    image: str
    compute: str

    def submit(self, *args: str) -> str:
        """--wait; the script's output."""
        done = self.cli("submit", *args, "--backend", "azureml", "--wait", "--name", self.name())
        assert done.code == 0, done.err
        return done.out

    def name(self) -> str:
        return f"test-{uuid.uuid4().hex[:10]}"

    def write(self, name: str, text: str) -> str:
        (self.cli.cwd / name).write_text(text.replace("IMAGE", self.image).replace("COMPUTE", self.compute))
        return name


@pytest.fixture
def place(request: pytest.FixtureRequest, cli: Cli) -> Iterator[Place]:
    if REAL:
        cli.env |= workspace.environment()
        assert workspace.COMPUTE is not None
        yield Place(cli, workspace.IMAGE, workspace.COMPUTE)
        return
    cli.env |= dict(request.getfixturevalue("emulator").service.env)
    image = f"registry.example.com/first-{uuid.uuid4().hex[:8]}:1"
    subprocess.run(["docker", "tag", request.getfixturevalue("image"), image], check=True)
    yield Place(cli, image, "cpu-cluster")
    subprocess.run(["docker", "rmi", "--no-prune", image], check=True, capture_output=True)


def test_a_script_its_arguments_and_outputs(place: Place, tmp_path: Path) -> None:
    place.write("hello.py", "import sys, pathlib\nprint(sys.argv[1:])\npathlib.Path('outputs').mkdir(exist_ok=True)\n"
                "pathlib.Path('outputs/bytes').write_bytes(bytes(range(256)))\n")  # fmt: skip
    name = place.name()
    done = place.cli("submit", "hello.py", "--compute", place.compute, "--image", place.image, "--wait", "--name", name,
                     "--", "a b", "${HOME}", "ü")  # fmt: skip
    assert done.code == 0, done.err
    assert done.out == "['a b', '${HOME}', 'ü']\n"
    assert place.cli("download", name, "--to", tmp_path / "got").code == 0
    assert (tmp_path / "got" / "outputs" / "bytes").read_bytes() == bytes(range(256))


def test_a_script_that_fails(place: Place) -> None:
    place.write("fail.sh", "echo before\nexit 7\n")
    name = place.name()
    done = place.cli("submit", "fail.sh", "--compute", place.compute, "--image", place.image, "--wait", "--name", name)
    assert done.code == 7
    assert done.out == "before\n"
    assert (place.cli.row(name)["reason"], place.cli.row(name)["exit_code"]) == ("NonZeroExit", 7)


def test_a_pipeline_passes_data_on(place: Place) -> None:
    place.write("pipe.yml", """
type: pipeline
settings: {default_compute: azureml:COMPUTE}
jobs:
  make:
    command: echo made > ${{outputs.data}}/it
    environment: {image: "IMAGE"}
    outputs: {data: {type: uri_folder}}
  use:
    command: cat ${{inputs.data}}/it
    environment: {image: "IMAGE"}
    inputs: {data: "${{parent.jobs.make.outputs.data}}"}
""")  # fmt: skip
    assert place.submit("pipe.yml") == "[use] made\n"


def test_a_cancel_ends_it(place: Place) -> None:
    place.write("long.sh", "echo begun\nsleep 3600\n")
    name = place.name()
    done = place.cli("submit", "long.sh", "--compute", place.compute, "--image", place.image, "--name", name)
    assert done.code == 0, done.err
    follow = place.cli.start("logs", "-f", name)
    assert follow.stdout is not None
    assert follow.stdout.readline() == b"begun\n"
    assert place.cli("cancel", name).code == 0
    assert place.cli("wait", name).code == 143
    follow.communicate(timeout=60)
    assert place.cli.row(name)["status"] == "Canceled"
