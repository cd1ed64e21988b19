"""What scripts log: real MLflow, R and shell, as processes and in containers; and scripts that mean harm."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner import tracking

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Cli

    Script = Callable[[str, str], Path]

needs_r = pytest.mark.skipif(not shutil.which("Rscript"), reason="R is not on this machine")
HAS_MLFLOW = subprocess.run([sys.executable, "-c", "import mlflow"], capture_output=True, check=False).returncode == 0
needs_mlflow = pytest.mark.skipif(not HAS_MLFLOW, reason="mlflow is not in this environment")

UNCHANGED = """
import mlflow
with mlflow.start_run() as run:
    for epoch in range(3):
        mlflow.log_metric("loss", 1 / (epoch + 1), step=epoch)
    mlflow.log_metrics({"group/accuracy": 0.9, "bad": float("nan")})
    mlflow.log_param("lr", 0.1)
    mlflow.set_tag("stage", "süß")
    mlflow.log_text("hello", "notes/a.txt")
    with mlflow.start_run(nested=True, run_name="fold 1"):
        mlflow.log_metric("loss", 7)
with mlflow.start_run(run_name="after"):
    mlflow.log_metric("loss", 8)
    mlflow.log_text("second", "b.txt")
print([each.name for each in mlflow.search_experiments()])
"""


def store_of(cli: Cli, name: str) -> tracking.Store:
    return tracking.read(cli.home / "runs" / name / "attempts" / "1" / "tracking")


def values(run: tracking.Tracked) -> dict[str, list[tuple[int, str]]]:
    """Metric → (step, value) of its points; as text, since NaN is not equal to itself."""
    return {name: [(point.step, f"{point.value:g}") for point in points] for name, points in run.metrics.items()}


@needs_mlflow
def test_an_unchanged_script_logs_by_mlflow(cli: Cli, script: Script) -> None:
    script("train.py", UNCHANGED)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = cli("submit", "train.py", "--backend", "process", "--experiment", "iris", "--wait", "--name", "t",
               env={"PATH": path, "PYTHONWARNINGS": "default"})  # fmt: skip
    assert done.code == 0, cli("logs", "t").out
    assert "['iris']" in cli("logs", "t").out
    found = store_of(cli, "t")
    assert found.main.name == "t"
    assert values(found.main) == {
        "loss": [(0, "1"), (1, "0.5"), (2, "0.333333")], "group/accuracy": [(0, "0.9")], "bad": [(0, "nan")],
    }  # fmt: skip
    assert (found.main.params, found.main.tags) == ({"lr": "0.1"}, {"stage": "süß"})
    others = sorted((run.name, values(run)["loss"]) for run in found.others)
    assert others == [("after", [(0, "8")]), ("fold 1", [(0, "7")])]
    done = cli("download", "t", "--to", "got")
    assert done.code == 0, done.err
    assert (cli.cwd / "got" / "mlflow" / "notes" / "a.txt").read_text() == "hello"
    assert [path.read_text() for path in (cli.cwd / "got" / "mlflow").glob("*/artifacts/b.txt")] == ["second"]


R = """
runner_log_metric("rmse", 0.5)
runner_log_metric("rmse", 1/3, step = 1)
runner_log_metric("group/none", NA)
runner_log_param("formula", "y ~ x")
writeLines("hello", "a.txt"); runner_log_artifact("a.txt")
for (name in list("../x", "/x", "a/../../x", "a//b", "a\\nb", NA, c("a", "b"), ".."))
  stopifnot(inherits(try(runner_log_metric(name, 1), silent = TRUE), "try-error"))
stopifnot(inherits(try(runner_log_metric("x", "1"), silent = TRUE), "try-error"))
stopifnot(length(ls(globalenv())) == 1L)  # `name`
"""


@needs_r
def test_r_logs_without_a_package(cli: Cli, script: Script) -> None:
    script("fit.R", R)
    done = cli("submit", "fit.R", "--backend", "process", "--wait", "--name", "t")
    assert done.code == 0, cli("logs", "t").out
    found = store_of(cli, "t").main
    assert values(found) == {"rmse": [(0, "0.5"), (1, "0.333333")], "group/none": [(0, "nan")]}
    assert found.params == {"formula": "y ~ x"}
    assert found.metrics["rmse"][1].value == 1 / 3
    assert (cli.home / "runs/t/attempts/1/artifacts/mlflow/a.txt").read_text() == "hello\n"


def test_a_shell_logs_a_line_of_the_documented_format(cli: Cli, script: Script, where: list[str]) -> None:
    script("a.sh", 'echo "$(date +%s%3N) 0.25 1" >> "$RUNNER_TRACKING/metrics/rmse"; mkdir -p "$RUNNER_TRACKING/params"\n'
                   'printf 3 > "$RUNNER_TRACKING/params/depth"\n')  # fmt: skip
    done = cli("submit", "a.sh", *where, "--wait", "--name", "t")
    assert done.code == 0, done.err
    found = store_of(cli, "t").main
    assert (values(found), found.params) == ({"rmse": [(1, "0.25")]}, {"depth": "3"})


def test_a_script_that_logs_nothing_leaves_nothing(cli: Cli, script: Script) -> None:
    script("a.sh", "true\n")
    assert cli("submit", "a.sh", "--backend", "process", "--wait", "--name", "t").code == 0
    attempt = cli.home / "runs/t/attempts/1"
    assert not (attempt / "tracking").exists()
    assert not (attempt / "artifacts" / "mlflow").exists()


def test_a_server_of_ones_own_stays(cli: Cli, script: Script) -> None:
    script("a.sh", 'echo "$MLFLOW_TRACKING_URI,$MLFLOW_RUN_ID"\n')
    done = cli(
        "submit", "a.sh", "--backend", "process", "--env", "MLFLOW_TRACKING_URI=http://mine", "--wait", "--name", "t"
    )
    assert done.code == 0, done.err
    assert cli("logs", "t").out == "http://mine,\n"


@pytest.mark.parametrize("trick", [
    'rm -rf "$TOP" && ln -s "$SECRET" "$TOP"',
    'rm -rf "$TOP/store/1" && ln -s "$SECRET" "$TOP/store/1"',
    'rm -rf "$RUNNER_TRACKING/metrics" && ln -s "$SECRET" "$RUNNER_TRACKING/metrics"',
    'ln -s "$SECRET/secret" "$RUNNER_TRACKING/params/p"; ln "$SECRET/nothing" x; mkfifo "$RUNNER_TRACKING/params/fifo"',
    'rm -rf "$TOP/artifacts"; ln -s "$SECRET" "$TOP/artifacts"',
    'mkdir "$TOP/artifacts"; ln -s "$SECRET/secret" "$TOP/artifacts/s"',
    'rm -f "$TOP/main"; ln -s "$SECRET/secret" "$TOP/main"',
    'chmod 000 "$RUNNER_TRACKING/metrics" "$TOP"',
])  # fmt: skip
def test_links_of_a_hostile_script_lead_nowhere(cli: Cli, script: Script, tmp_path: Path, trick: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "secret").write_text("1 42 0\n")
    script("a.sh", f'SECRET={secret}; TOP="$(dirname "$(dirname "$(dirname "$RUNNER_TRACKING")")")"; {trick}; true\n')
    done = cli("submit", "a.sh", "--backend", "process", "--wait", "--name", "t")
    assert done.code == 0, done.err
    for path in (cli.home / "runs/t/attempts/1").rglob("*"):
        assert not (path.is_symlink() and path.is_relative_to(cli.home / "runs/t/attempts/1/artifacts"))
    assert "42" not in repr(store_of(cli, "t"))
    assert (secret / "secret").read_text() == "1 42 0\n"
