"""The article's walk, by the real command line: the image with R pushed, the script submitted to the cluster, its output,
and in the place of each of the portal's pages a command; then a pipeline registered and invoked by its name.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.emulators.azureml.fixture import azureml, azureml_service
from tests.loopback_registry import registry, repositories

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Cli
    from tests.emulators.azureml.fixture import Service

__all__ = ["azureml", "azureml_service"]  # its own: the walk finds nothing but itself there
pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture
def address(tmp_path: Path, python_r: str) -> Iterator[str]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with registry(folder) as address:
        yield address


@pytest.fixture
def there(cli: Cli, azureml: Service, address: str, tmp_path: Path) -> Cli:
    """The command with what a user has exported: the workspace, a sign-in, and where images go."""
    cli.env |= azureml.env | {"RUNNER_REGISTRY": address, "DOCKER_CONFIG": str(tmp_path / "no-login")}
    return cli


def test_the_walk_of_the_article(there: Cli, address: str, azureml: Service) -> None:
    shutil.copy(ROOT / "pipelines" / "hello" / "hello.R", there.cwd / "hello.R")
    done = there("submit", "hello.R", "--compute", "defaultcompute", "--name", "walk", "--experiment", "hello", "--wait",
                 timeout=240)  # fmt: skip
    assert done.code == 0, done.err
    assert done.out == '[1] "hello, world"\n'
    assert len(repositories(address)) == 1
    row = there.row("walk")
    assert (row["backend"], row["status"], row["exit_code"]) == ("azureml", "Completed", 0)
    assert row["image"].startswith(f"{address}/")
    assert "@sha256:" in row["image"]
    (experiment,) = there("experiments", "--json").json
    assert experiment["name"] == "hello"
    assert [each["name"] for each in there("list", "--json").json] == ["walk"]
    assert "walk" in there("list", "--backend", "azureml").out
    assert "Completed" in there("show", "walk").out
    assert there("logs", "walk").out == '[1] "hello, world"\n'
    (job,) = azureml.admin.documents("job")
    page = there("open", "walk")
    assert page.code == 0, page.err
    assert page.out.startswith(f"https://ml.azure.com/runs/{job['name']}?wsid=/subscriptions/")


def test_a_pipeline_is_registered_and_invoked_by_its_name(there: Cli) -> None:
    shutil.copytree(ROOT / "pipelines" / "hello-io", there.cwd / "hello-io")
    done = there(
        "pipeline", "register", "hello-io/pipeline.yml", "--name", "greet", "--backend", "azureml", timeout=240
    )
    assert done.code == 0, done.err
    listed = there("pipeline", "list", "--backend", "azureml")
    assert "greet" in listed.out, listed.err
    done = there("submit", "pipeline:greet", "--backend", "azureml", "--set", "inputs.greeting=bye", "--name", "it",
                 "--wait", timeout=240)  # fmt: skip
    assert done.code == 0, done.err + done.out
    target = there.cwd / "got"
    assert there("download", "it", "--output", "letter", "--to", target).code == 0
    assert [path.read_text() for path in target.rglob("*") if path.is_file()] == ["BYE, WORLD\n"]
