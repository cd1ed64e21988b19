"""The backend under test, as data: its options for `submit` and its capabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.helpers import Api, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.backends.base import Capabilities


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    """A process that submits and waits."""
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def api(worker: Worker, home: Path, where: list[str]) -> Api:
    """Runs on the backend under test, without the cost of the command."""
    return Api(
        worker, home, {key.removeprefix("--"): value for key, value in zip(where[::2], where[1::2], strict=True)}
    )


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
