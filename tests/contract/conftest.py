"""The backend under test, as data: its options for `submit` and its capabilities."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.contract import workspace
from tests.contract.helpers import Api, Gate, Worker
from tests.patience import REAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.backends.base import Capabilities


@pytest.fixture(scope="session")
def node_image(image: str) -> Iterator[str]:
    """The same image under a name that is nobody's to build or push: the emulator's nodes have this machine's images."""
    name = f"runner-test-node-{os.getpid()}:1"
    subprocess.run(["docker", "tag", image, name], check=True)
    yield name
    subprocess.run(["docker", "rmi", "--no-prune", name], check=True, capture_output=True)


@pytest.fixture(
    params=[
        "process",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("azureml", marks=pytest.mark.docker),
    ]
)
def where(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The options that choose a backend: every test that takes it runs on each. Azure ML: `workspace`."""
    name = str(request.param)
    if name != "azureml":
        yield ["--backend", name, *(["--image", request.getfixturevalue("image")] if name == "docker" else [])]
        return
    image = workspace.IMAGE if REAL else request.getfixturevalue("node_image")
    env = workspace.environment() if REAL else request.getfixturevalue("azureml_service").env
    with pytest.MonkeyPatch.context() as patch:
        for key, value in env.items():
            patch.setenv(key, value)
        yield workspace.options(image)


@pytest.fixture(scope="session")
def workers() -> Iterator[Callable[[str], Worker]]:
    """A process that submits and waits, for each backend: it has the environment of the first test there."""
    made: dict[str, Worker] = {}

    def worker(backend: str) -> Worker:
        if backend not in made:
            made[backend] = Worker(backend)
        return made[backend]

    yield worker
    for each in made.values():
        each.close()


@pytest.fixture
def worker(workers: Callable[[str], Worker]) -> Worker:
    """That of the process backend."""
    return workers("process")


@pytest.fixture
def api(workers: Callable[[str], Worker], home: Path, where: list[str]) -> Api:
    """Runs on the backend under test, without the cost of the command."""
    return Api(
        workers(where[1]), home,
        {key.removeprefix("--"): value for key, value in zip(where[::2], where[1::2], strict=True)},
    )  # fmt: skip


@pytest.fixture
def can(where: list[str], home: Path) -> Iterator[Capabilities]:
    """What the backend under test can do."""
    from runner.backends import open_backend
    from runner.store import Store

    store = Store(home)
    backend = open_backend(where[1], store)
    yield backend.capabilities
    backend.close()
    store.close()


@pytest.fixture
def gate(can: Capabilities, tmp_path: Path) -> Gate:
    """Holds a script until the test opens it."""
    folder = tmp_path / "gate"
    folder.mkdir()
    return Gate(folder, can.remote)


@pytest.fixture
def here(can: Capabilities) -> None:
    """For tests of what only a backend of this machine has."""
    if can.remote:
        pytest.skip("it runs elsewhere: nothing of a task's box is seen here, and inputs are copies")
