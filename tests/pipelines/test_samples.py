"""The samples below pipelines/: each runs as it says, on process, Docker and Azure ML, and leaves the same bytes on all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.helpers import steps
from tests.pipelines.samples import DOCKER, EVERYWHERE, Sample, left

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.conftest import Cli
    from tests.pipelines.samples import Files

_one_registry = pytest.mark.xdist_group("samples")
"""For those that take `workspace`: each worker has a registry of its own, to which the default image would have to go."""
_PNG = b"\x89PNG\r\n\x1a\n"


def run(cli: Cli, path: Path, sample: Sample, backend: str, env: Mapping[str, str] | None = None) -> Files:
    """Run a sample to its end, check what it says and leaves, and give what it leaves."""
    name = f"on-{backend}"
    done = cli("submit", path, "--backend", backend, "--name", name, "--wait", *sample.options, env=dict(env or {}),
               timeout=240)  # fmt: skip
    assert done.code == sample.code, done.out + done.err
    statuses = {step: row.status.value for step, row in steps(cli.home, name).items()}
    assert {step: status for step, status in statuses.items() if status != "Completed"} == sample.steps
    files = left(cli.home / "runs" / name)
    for place, text in sample.leaves.items():
        assert files[place].decode().startswith(text), place
    return files


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("each", EVERYWHERE, ids=str)
def test_the_same_on_process_and_docker(cli: Cli, sample: Callable[[str], Path], each: Sample) -> None:
    path = sample(each.file)
    process, docker = (run(cli, path, each, backend) for backend in ("process", "docker"))
    assert _comparable(docker) == _comparable(process)


@_one_registry
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("each", [each for each in EVERYWHERE + DOCKER if not each.refused], ids=str)
def test_the_same_on_docker_and_azure_ml(
    cli: Cli, sample: Callable[[str], Path], workspace: Mapping[str, str], each: Sample
) -> None:
    path = sample(each.file)
    docker, azureml = run(cli, path, each, "docker"), run(cli, path, each, "azureml", workspace)
    assert azureml == docker
    assert (_told(cli, "on-azureml") | {"backend": "docker"}) == _told(cli, "on-docker")


@_one_registry
@pytest.mark.docker
@pytest.mark.parametrize("each", [each for each in EVERYWHERE + DOCKER if each.refused], ids=str)
def test_what_azure_ml_does_not_take_is_refused_before_anything_starts(
    cli: Cli, sample: Callable[[str], Path], workspace: Mapping[str, str], each: Sample
) -> None:
    done = cli("submit", sample(each.file), "--backend", "azureml", "--wait", *each.options, env=dict(workspace))
    assert done.code in {3, 4, 6}, done.err
    assert each.refused in done.err
    assert cli("list", "--json").json == []


def _told(cli: Cli, name: str) -> dict[str, Any]:
    """What `show --json` says, but for names, times, sizes, and how the image is called."""
    differ = {"name", "created", "started", "finished", "elapsed_s", "max_rss_bytes", "user_s", "sys_s", "image",
              "image_name", "log", "attempt_list", "steps", "trials"}  # fmt: skip
    return {key: value for key, value in cli.row(name).items() if key not in differ}


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("each", DOCKER, ids=str)
def test_on_docker(cli: Cli, sample: Callable[[str], Path], each: Sample) -> None:
    run(cli, sample(each.file), each, "docker")


def _comparable(files: Files) -> Files:
    """A plot's bytes depend on the machine's fonts: of these only that they are a plot."""
    return {path: _PNG if data.startswith(_PNG) else data for path, data in files.items()}


@_one_registry
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["process", "docker", "azureml"])
def test_a_sweep_gives_the_best_of_its_trials(
    cli: Cli, sample: Callable[[str], Path], workspace: Mapping[str, str], backend: str
) -> None:
    env = dict(workspace) if backend == "azureml" else {}
    done = cli(
        "submit", sample("sweep/sweep.yml"), "--backend", backend, "--name", "it", "--wait", env=env, timeout=240
    )
    assert done.code == 0, done.out + done.err
    trials = {path: data for path, data in left(cli.home / "runs" / "it").items() if "trial" in path}
    heights = [float(data.decode().split()[-1]) for path, data in trials.items() if path.endswith("result/result")]
    assert len(heights) == 6
    assert len(set(heights)) == 6, "each trial has values of its own"
    download = cli("download", "it", "--output", "result", "--to", cli.cwd / "best")
    assert download.code == 0, download.err
    (best,) = (path for path in (cli.cwd / "best").rglob("*") if path.is_file())
    assert float(best.read_text().split()[-1]) == min(heights)


def test_what_a_datastore_stands_for_gets_the_output(cli: Cli, sample: Callable[[str], Path]) -> None:
    path = sample("datastore/pipeline.yml")
    done = cli("submit", path, "--backend", "process", "--name", "it", "--wait")
    assert done.code == 0, done.err
    store = path.parent / "store" / "counts"
    assert {each.relative_to(store).as_posix(): each.read_text() for each in store.rglob("*") if each.is_file()} == {
        "it.count/counts.txt": "1 blue\n2 green\n3 red\n"
    }


@pytest.mark.parametrize("file", ["values/docker.yml", "mixed/with-libs.yml"])
def test_what_a_process_cannot_have_is_refused_before_anything_starts(
    cli: Cli, sample: Callable[[str], Path], file: str
) -> None:
    done = cli("submit", sample(file), "--backend", "process", "--wait")
    assert done.code == 6, done.err
    assert "--backend docker" in done.err
    assert cli("list", "--json").json == []
