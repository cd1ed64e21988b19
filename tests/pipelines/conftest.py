"""Fixtures of the samples: a copy of each in the test's own folder, so that no run writes into the checkout."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def sample(work: Path) -> Callable[[str], Path]:
    """`sample("mixed/pipeline.yml")`: the path of that file in a copy of the sample's folder."""

    def copied(file: str) -> Path:
        folder = file.partition("/")[0]
        if not (work / folder).exists():
            shutil.copytree(ROOT / "pipelines" / folder, work / folder)
        return work / file

    return copied
