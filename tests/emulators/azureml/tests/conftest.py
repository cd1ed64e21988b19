"""Fixtures of the emulator's own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulators.azureml.fixture import Service, azureml, azureml_service
from tests.emulators.azureml.tests.client import Client, Sdk

# Its own: these tests look at all that it knows.
__all__ = ["azureml", "azureml_service"]


@pytest.fixture
def client(azureml: Service) -> Client:
    """Plain requests through the proxy, as a client of the service."""
    return Client(azureml.env)


@pytest.fixture
def sdk(azureml: Service, tmp_path: Path) -> Sdk:
    """Scripts with the unmodified SDK, in processes of their own."""
    return Sdk(azureml.env, tmp_path)
