"""Azure's own examples, unchanged: each completes, or is refused for the right reason. Skipped without their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pipelines.azureml_examples.score import jobs, prepare, submit

_GIVEN = os.environ.get("RUNNER_AZUREML_EXAMPLES")
FOLDER = Path(_GIVEN or "azureml-examples/cli/jobs")

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.timeout(1000),
    pytest.mark.skipif(not _GIVEN, reason="RUNNER_AZUREML_EXAMPLES names no folder with Azure's examples (cli/jobs)"),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("examples"), FOLDER)


@pytest.mark.parametrize(
    "file", [path.relative_to(FOLDER).as_posix() for path in (jobs(FOLDER) if _GIVEN else [FOLDER / "job.yml"])]
)
def test_runs_or_is_refused(file: str, config: Path, home: Path) -> None:
    result = submit(FOLDER / file, config, home, root=FOLDER)
    assert result.wrong is None
