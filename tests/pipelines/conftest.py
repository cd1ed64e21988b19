"""Fixtures of the samples: a copy of each in the test's own folder, so that no run writes into the checkout."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.emulators.azureml.fixture import Service
from tests.loopback_registry import registry
from tests.patience import REAL


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry for what is built here and runs elsewhere."""
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def workspace(azureml_service: Service, address: str, python_r: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What has to be exported to run on Azure ML, the emulator. Its jobs reach it: a sweep chooses by what its trials
    send to the workspace. The default image is there: with these exports nothing can be had of anywhere else."""
    assert python_r
    if REAL:
        pytest.skip(
            "the samples' images are in a registry of this machine; RUNNER_TEST_WORKSPACE names a real workspace"
        )
    azureml_service.admin.switch(network="host")
    yield azureml_service.env | {"RUNNER_REGISTRY": address, "DOCKER_CONFIG": str(tmp_path / "no-login")}
    azureml_service.admin.reset()


@pytest.fixture
def sample(work: Path) -> Callable[[str], Path]:
    """`sample("mixed/pipeline.yml")`: the path of that file in a copy of the sample's folder."""

    def copied(file: str) -> Path:
        folder = file.partition("/")[0]
        if not (work / folder).exists():
            shutil.copytree(ROOT / "pipelines" / folder, work / folder)
        return work / file

    return copied
