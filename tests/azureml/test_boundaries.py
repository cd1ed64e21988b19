"""Each command that makes something on Azure ML, killed at every request that does, and at some others by a seed.

One run for each, which is killed at all of these one after the other; boundaries.py walks all requests there are.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.azureml.runs import pulled
from tests.conftest import ROOT

if TYPE_CHECKING:
    from tests.azureml.conftest import Emulator

__all__ = ["pulled"]
pytestmark = pytest.mark.docker
_SEED = int(os.environ.get("RUNNER_FAULT_SEED", "20261121"))
_MAKES = {
    "command": ("begin-upload", "upload", "code", "environment", "job"),
    "pipeline": ("component", "job"),  # all else goes up as that of a command does
    "sweep": ("job",),
    "cancel": ("cancel",),
    "download": (),
    "register": ("component", "registered"),
}
_OTHERS = dict.fromkeys(("command", "pipeline", "sweep"), ("state", "log", "left", "record", "output")) | {
    "download": ("left", "output")
}
_SOME = 2
"""So many of the others, in the order in which they are made."""


def points(kind: str, seed: int) -> list[str]:
    """`REQUEST:before` or `:after`, as boundaries.py takes them."""
    dice = random.Random(f"{seed}-{kind}")
    others = _OTHERS.get(kind, ())
    some = sorted(dice.sample(range(len(others)), min(_SOME, len(others))))
    chosen = [f"{others[number]}:{dice.choice(('before', 'after'))}" for number in some]
    return [f"{name}:{when}" for name in _MAKES[kind] for when in ("before", "after")] + chosen


@pytest.mark.parametrize("kind", list(_MAKES))
def test_killed_again_and_again_and_taken_up(emulator: Emulator, pulled: str, kind: str) -> None:
    chosen = points(kind, _SEED)
    done = subprocess.run(
        [sys.executable, "-m", "tests.azureml.boundaries", kind, pulled, "--one", "--points", ",".join(chosen)],
        cwd=ROOT, env={**os.environ, **emulator.service.env}, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"seed {_SEED}, {chosen}:\n{done.stdout}{done.stderr}"
    assert len(done.stdout.splitlines()) == len(chosen), done.stdout
