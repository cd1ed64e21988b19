"""Fixtures of the end-to-end suite: what images are built from, made once per session."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.builder import BuiltImage, Options, build
from tests.conftest import Cli
from tests.e2e.build_material import build_containers, docker, make_cran, served


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Builds of one cache folder wait for each other: on one worker, they keep no other from its work."""
    here = Path(__file__).parent
    for item in items:
        builds = here in item.path.parents and "make" in getattr(item, "fixturenames", ())
        if builds and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("builds"))


@pytest.fixture
def cli(home: Path, work: Path) -> Cli:
    """Started as a user does, each time: here nothing is spared."""
    return Cli(home, work)


@dataclass
class Made:
    """A build's result and what it reported, movement left out."""

    image: BuiltImage
    told: list[tuple[str, str]] = field(default_factory=list)

    @property
    def stages(self) -> set[str]:
        """The stages in which something happened."""
        return {stage for stage, _ in self.told}


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips where no container engine answers."""
    from runner.docker_api.images import connect
    from runner.errors import UnavailableError

    try:
        connect().close()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cran(python_r: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a CRAN-like repository; see `make_cran` for what it holds."""
    folder = tmp_path_factory.mktemp("cran")
    make_cran(folder, python_r)
    return folder


@pytest.fixture(scope="session")
def cran_url(cran: Path) -> Iterator[str]:
    """The same repository over http on loopback."""
    with served(cran) as address:
        yield f"http://{address}"


@pytest.fixture
def make(engine: None, tmp_path: Path) -> Iterator[Callable[..., Made]]:
    """Write a libs file into the test's folder and build it. At the end: no build container, and the images are removed
    (their layers stay for the next test)."""
    tags = []

    def run(text: str, *, name: str = "libs.yaml", **options: Any) -> Made:
        libs = tmp_path / name
        libs.write_text(text)
        told: list[tuple[str, str]] = []

        def note(stage: str, message: str) -> None:
            if not message.endswith("…"):
                told.append((stage, message))

        image = build(libs, options=Options(progress=note, **options))
        tags.append(image.tag)
        return Made(image, told)

    yield run
    left = build_containers(os.getpid())
    for tag in dict.fromkeys(tags):
        docker("rmi", tag)
    assert not left
