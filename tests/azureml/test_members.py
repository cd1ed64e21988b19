"""Nothing that a job file says is lost without a word: what reaches the service is compared, member by member, with what
Azure ML's own SDK makes of the same file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from runner.spec.job.kinds import JOBS
from runner.spec.job.shapes import ANYTHING, ListOf, MapOf, OneOf, Pick, Record
from tests.azureml.job_members import COMPONENT, FILES, LEFT_OUT_RE, OURS_RE
from tests.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.spec.job.shapes import Shape
    from tests.azureml.conftest import Emulator
    from tests.conftest import Cli

pytestmark = pytest.mark.docker
_SDK = """
import os, sys
from azure.ai.ml import MLClient, load_job
from azure.identity import DefaultAzureCredential
where = (os.environ[f"AZURE_{name}"] for name in ("SUBSCRIPTION_ID", "RESOURCE_GROUP", "WORKSPACE"))
job = load_job(sys.argv[1])
job.name = sys.argv[2]
MLClient(DefaultAzureCredential(), *where).jobs.create_or_update(job)
"""
_Leaf = tuple[tuple[str, ...], str]


@pytest.mark.parametrize("kind", list(FILES))
def test_what_a_file_says_reaches_the_service_as_azure_s_own_sdk_sends_it(
    kind: str, cli: Cli, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.admin.switch(queue_s=3600)
    emulator.admin.change("datastore", "second", **_second(emulator))
    cli.env |= emulator.service.env
    file = _written(cli.cwd, kind, tmp_path.name)
    theirs = _sent(emulator, lambda: _by_sdk(cli, file, f"sdk-{os.urandom(6).hex()}"))
    ours = _sent(emulator, lambda: cli.submit(file, "--backend", "azureml"))
    have = {(path[-1], value) for path, value in ours}
    lost = {".".join(path): value for path, value in theirs if (path[-1], value) not in have}
    unexplained = {path: value for path, value in lost.items() if not any(each.search(path) for each in OURS_RE)}
    assert unexplained == {}


def test_those_files_say_everything_that_there_is() -> None:
    """A member that is added to the shapes has to be added to the files too, or said not to reach the service."""
    for kind, text in FILES.items():
        missing = set(_missing(JOBS[kind], [yaml.safe_load(text)], ""))
        assert {path for path in missing if not any(each.search(path) for each in LEFT_OUT_RE)} == set(), kind


def _written(folder: Path, kind: str, unique: str) -> Path:
    for name, text in {"code/a.sh": "echo", "data/f": "1"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name, text in {"component.yml": COMPONENT, "job.yml": FILES[kind]}.items():
        (folder / name).write_text(text.replace("IMAGE", f"registry.example.com/{unique}:1"))
    return folder / "job.yml"


def _second(emulator: Emulator) -> dict[str, Any]:
    """A datastore more, in the container of the first."""
    first = next(each for each in emulator.admin.documents("datastore") if each["name"] == "workspaceblobstore")
    return {**first, "name": "second", "properties": {**first["properties"], "isDefault": False}}


def _by_sdk(cli: Cli, file: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SDK, str(file), name], cwd=file.parent, env=cli.env | {"PYTHONWARNINGS": "ignore"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def _sent(emulator: Emulator, submit: Callable[[], object]) -> list[_Leaf]:
    """Every value of the job, components and environments that this makes, with where it stands."""
    kinds = ("job", "component", "environment")
    before = {kind: len(emulator.admin.documents(kind)) for kind in kinds}
    submit()
    eventually(lambda: len(emulator.admin.documents("job")) > before["job"], "the job is there")
    return [
        leaf for kind in kinds for one in emulator.admin.documents(kind)[before[kind] :] for leaf in _leaves(one, kind)
    ]


def _leaves(value: Any, *path: str) -> Iterator[_Leaf]:
    match value:
        case dict():
            for name, item in value.items():
                yield from _leaves(item, *path, name)
        case list():
            for item in value:
                yield from _leaves(item, *path)
        case None:
            return
        case _:
            yield path, str(value)


def _missing(shape: Shape, given: list[Any], path: str) -> Iterator[str]:
    """Members of a shape that none of the values says. Steps of a pipeline are those of their own kind."""
    match shape:
        case Record():
            values = [value for value in given if isinstance(value, dict)]
            for name, member in shape.members.items():
                there = [value[name] for value in values if name in value]
                if not there and not member.lost:
                    yield f"{path}{name}"
                yield from _missing(member.shape, there, f"{path}{name}.")
        case MapOf() | ListOf():
            items = [item for value in given for item in (value.values() if isinstance(value, dict) else value)]
            yield from _missing(shape.item, items, path)
        case OneOf():
            for one in shape.shapes:
                fitting = [value for value in given if one.fits(value)]
                if fitting:
                    yield from _missing(one, fitting, path)
        case Pick():
            for kind in ("command", "sweep"):
                steps = [value for value in given if value["type"] == kind]
                yield from _missing(shape.choose(steps[0]) or ANYTHING, steps, path)
        case _:
            return
