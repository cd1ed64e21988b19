"""R logs in the default image, as the user of that image, and a sweep of containers finds its best trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cli

pytestmark = pytest.mark.docker

JOB = """type: sweep
trial:
  code: src
  command: Rscript fit.R ${{{{search_space.x}}}} ${{{{outputs.model}}}}
  environment: {{image: "{image}"}}
outputs:
  model: {{type: uri_folder}}
sampling_algorithm: grid
search_space:
  x: {{type: choice, values: [3, 1, 2]}}
objective: {{goal: minimize, primary_metric: rmse}}
"""
FIT = """
given <- commandArgs(TRUE)
runner_log_metric("rmse", as.numeric(given[1]) / 3, step = 1)
runner_log_param("x", given[1])
writeLines(given[1], file.path(given[2], "model.txt"))
runner_log_artifact(file.path(given[2], "model.txt"))
"""


def test_a_sweep_of_r_in_containers(cli: Cli, python_r: str) -> None:
    (cli.cwd / "src").mkdir()
    (cli.cwd / "src" / "fit.R").write_text(FIT)
    (cli.cwd / "job.yml").write_text(JOB.format(image=python_r))
    done = cli("submit", "job.yml", "--backend", "docker", "--wait", "--name", "s")
    assert done.code == 0, done.err
    row = cli.row("s")
    assert row["sweep"]["best"] == "s.sweep.trial_1"
    assert [one["value"] for one in row["sweep"]["trials"]] == [1, 1 / 3, 2 / 3]
    assert row["params"] == {"x": "1"}
    assert cli("download", "s", "--to", "got").code == 0
    assert (cli.cwd / "got/model/model.txt").read_text() == "1\n"
    assert (cli.cwd / "got/mlflow/model.txt").read_text() == "1\n"
