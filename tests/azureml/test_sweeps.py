"""Sweeps that Azure ML runs: the same trials, best, outputs and verdicts as here, whatever becomes of it on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.backends.azureml.backend import AzureMLBackend
from tests.azureml.conftest import Emulator
from tests.conftest import Cli, eventually
from tests.contract.helpers import supervisors

pytestmark = pytest.mark.docker

LOG = 'log() { echo "1700000000000 $1 ${2:-0}" >> "$RUNNER_TRACKING/metrics/loss"; }; '
AZURE = ("--backend", "azureml")


@dataclass
class Lab:
    """Sweeps over x = 1, 2, 3 in an environment of the workspace, submitted by the command line."""

    emulator: Emulator
    cli: Cli
    image: str

    def sweep(
        self, text: str, *, environment: str = "azureml:lab:1", x: tuple[int, ...] = (1, 2, 3), **more: Any
    ) -> Path:
        limits = {"max_total_trials": len(x), "max_concurrent_trials": 2, **more.pop("limits", {})}
        outputs = {"model": {"type": "uri_folder"}}
        trial = {"command": LOG + text, "environment": environment}
        return self.write({
            "type": "sweep", "experiment_name": "lab", "trial": trial, "outputs": outputs, "compute": "azureml:cpu-cluster",
            "search_space": {"x": {"type": "choice", "values": list(x)}}, "sampling_algorithm": "grid",
            "objective": {"goal": "minimize", "primary_metric": "loss"}, "limits": limits, **more,
        })  # fmt: skip

    def write(self, job: dict[str, Any]) -> Path:
        path = self.cli.cwd / "job.yml"
        path.write_text(json.dumps(job))
        return path

    def run(self, path: Path, *, code: int = 0) -> dict[str, Any]:
        """The run as JSON, once it has ended with that exit code."""
        done = self.cli("submit", path, *AZURE, "--wait", "--name", "one")
        assert done.code == code, (done.code, done.err)
        return self.cli.row("one")

    def file(self, name: str) -> str:
        self.cli("download", "one", "--to", self.cli.cwd / "got")
        return next((self.cli.cwd / "got").rglob(name)).read_text()

    def runs(self) -> list[dict[str, Any]]:
        return self.emulator.admin.documents("run")


@pytest.fixture
def lab(emulator: Emulator, cli: Cli, image: str) -> Lab:
    emulator.admin.switch(network="host")
    place = f"{emulator.target.path}/environments/lab/versions/1"
    emulator.admin.change("environment", "lab/1", id=place, name="1", properties={"image": image})
    return Lab(emulator, cli, image)


def told(run: dict[str, Any]) -> dict[str, Any]:
    """The member `sweep`, without times and with names below the run's own."""
    sweep: dict[str, Any] = run["sweep"]
    trials = [{**each, "name": each["name"].partition(".")[2], "elapsed_s": None} for each in sweep["trials"]]
    best = sweep["best"] and sweep["best"].partition(".")[2]
    return {**sweep, "best": best, "trials": trials}


BEST_IS_2 = 'x=${{search_space.x}}; log $(( (x-2)*(x-2) )); echo "m $x" > ${{outputs.model}}/m; echo "o $x" > outputs/o'


def test_it_is_what_it_is_on_docker(lab: Lab) -> None:
    found = lab.run(lab.sweep(BEST_IS_2))
    local = lab.sweep(BEST_IS_2).read_text().replace("azureml:lab:1", "WHERE")
    lab.write({**json.loads(local), "trial": {**json.loads(local)["trial"], "environment": {"image": lab.image}}})
    there = {name: "" for name in os.environ if "proxy" in name.lower()}
    done = lab.cli("submit", "job.yml", "--backend", "docker", "--wait", "--name", "two", env=there)
    assert done.code == 0, done.err
    other = lab.cli.row("two")
    assert told(found) == told(other)
    assert told(found)["best"] == "sweep.trial_1"
    assert [step["parameters"] for step in told(found)["trials"]] == [{"x": "1"}, {"x": "2"}, {"x": "3"}]
    assert [(each["path"], each["bytes"]) for each in found["outputs"] if each["path"] != "trials.svg"] == [
        (each["path"], each["bytes"]) for each in other["outputs"] if each["path"] != "trials.svg"
    ]
    assert (lab.file("m"), lab.file("o")) == ("m 2\n", "o 2\n")
    ET.fromstring(lab.file("trials.svg"))
    assert lab.cli("logs", "one.sweep.trial_2").out == lab.cli("logs", "two.sweep.trial_2").out


def test_the_service_chooses_by_what_was_forwarded(lab: Lab) -> None:
    lab.run(lab.sweep(BEST_IS_2))
    best = [run["properties"].get("best_child_run_id") for run in lab.runs()]
    chosen = next(name for name in reversed(best) if name)
    assert chosen.endswith("_1")
    assert next(run for run in lab.runs() if run["runId"] == chosen)["_metrics"]["loss"][0]["value"] == 0


def test_a_trial_that_fails_is_left_out_of_account(lab: Lab) -> None:
    run = lab.run(lab.sweep("x=${{search_space.x}}; log $x; [ $x != 1 ] || exit 3"))
    assert told(run)["best"] == "sweep.trial_1"
    warnings = lab.cli.row("one.sweep")["warnings"]
    assert warnings[0] == "1 of 3 trials failed"
    assert "Azure ML shows it as Failed" in warnings[1]
    statuses = [(each["status"], each["value"]) for each in told(run)["trials"]]
    assert statuses == [("Failed", 1.0), ("Completed", 2.0), ("Completed", 3.0)]


def test_when_all_fail_the_first_says_why(lab: Lab) -> None:
    run = lab.run(lab.sweep("log 1; exit 3"), code=3)
    assert (run["status"], run["reason"], run["sweep"]["best"]) == ("Failed", "StepFailed", None)
    step = lab.cli.row("one.sweep")
    assert step["reason"] == "StepFailed"
    assert "sweep.trial_0" in step["message"]


def test_a_metric_that_nobody_logged(lab: Lab) -> None:
    lab.run(lab.sweep('echo "1700000000000 1 0" > $RUNNER_TRACKING/metrics/los'), code=1)
    message = lab.cli.row("one.sweep")["message"]
    assert "3 trials completed, but none logged a finite value of the metric loss" in message
    assert "they logged: los" in message


def test_a_policy_ends_trials_that_fall_behind(lab: Lab) -> None:
    text = (
        "x=${{search_space.x}}; if [ $x = 1 ]; then log 1; else for i in $(seq 400); do log 9 $i; sleep 0.2; done; fi"
    )
    policy = {"type": "bandit", "slack_amount": 1, "evaluation_interval": 1, "delay_evaluation": 0}
    run = lab.run(lab.sweep(text, early_termination=policy))
    assert told(run)["best"] == "sweep.trial_0"
    assert [each["status"] for each in told(run)["trials"]] == ["Completed", "Canceled", "Canceled"]
    stopped = lab.cli.row("one.sweep.trial_1")
    assert (stopped["reason"], stopped["message"]) == ("Canceled", "stopped by the sweep (bandit)")


def test_the_time_of_the_whole_sweep(lab: Lab) -> None:
    text = "x=${{search_space.x}}; log $x; [ $x = 1 ] || sleep 300"
    run = lab.run(lab.sweep(text, limits={"timeout": 12}))
    assert told(run)["best"] == "sweep.trial_0"
    assert "the sweep's timeout of 12 s ended it early" in lab.cli.row("one.sweep")["warnings"]
    assert told(run)["trials"][1]["status"] == "Canceled"


def test_the_time_of_one_trial(lab: Lab) -> None:
    text = "x=${{search_space.x}}; log $x; [ $x = 1 ] || sleep 300"
    run = lab.run(lab.sweep(text, x=(1, 2), limits={"trial_timeout": 1}))
    assert [each["status"] for each in told(run)["trials"]] == ["Completed", "Failed"]
    assert lab.cli.row("one.sweep.trial_1")["reason"] == "Timeout"


def test_a_cancel_ends_all_of_it(lab: Lab) -> None:
    lab.cli.submit(lab.sweep("echo begun; sleep 300"), *AZURE, "--name", "one")
    eventually(lambda: "begun" in lab.cli("logs", "one.sweep.trial_0").out, "a trial runs", 60)
    assert lab.cli("cancel", "one").code == 0
    assert lab.cli("wait", "one").code == 143
    run = lab.cli.row("one")
    assert run["status"] == "Canceled"
    assert {each["status"] for each in run["sweep"]["trials"]} == {"Canceled"}
    eventually(lambda: all(each["status"] == "Canceled" for each in lab.runs()[-3:]), "it is canceled there too", 30)


def test_one_that_is_canceled_in_the_portal_is_not_complete(lab: Lab) -> None:
    done = lab.cli("submit", lab.sweep("echo begun; sleep 300"), *AZURE, "--name", "one")
    job = re.search(r"accepted as (r[0-9a-f]{31})", done.err)
    assert job is not None
    eventually(lambda: "begun" in lab.cli("logs", "one.sweep.trial_0").out, "a trial runs", 60)
    backend = AzureMLBackend(lab.emulator.target)
    backend.cancel(job[1])
    backend.close()
    assert lab.cli("wait", "one").code == 143
    run = lab.cli.row("one")
    assert (run["status"], run["reason"]) == ("Canceled", "CanceledExternally")


def test_a_killed_supervisor_loses_nothing(lab: Lab) -> None:
    job = lab.sweep(f"echo begun; sleep 4; {BEST_IS_2}")
    lab.cli.submit(job, *AZURE, "--name", "one")
    eventually(lambda: "begun" in lab.cli("logs", "one.sweep.trial_0").out, "a trial runs", 60)
    found = supervisors(lab.cli.home, "one")
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    assert lab.cli("wait", "one", timeout=180).code == 0
    run = lab.cli.row("one")
    assert told(run)["best"] == "sweep.trial_1"
    assert (lab.file("m"), len(told(run)["trials"])) == ("m 2\n", 3)
    assert lab.cli("logs", "one.sweep.trial_0").out == "begun\n"


def test_a_sweep_among_steps(lab: Lab) -> None:
    """What needs it gets the best trial's output."""
    sweep = json.loads(lab.sweep(BEST_IS_2).read_text())
    tune = {name: sweep[name] for name in ("type", "search_space", "sampling_algorithm", "objective", "limits")}
    tune["trial"] = {
        "type": "command", "command": sweep["trial"]["command"].replace("search_space.x", "inputs.x"),
        "environment": "azureml:lab:1", "inputs": {"x": {"type": "number"}}, "outputs": {"model": {"type": "uri_folder"}},
    }  # fmt: skip
    read = {
        "type": "command", "command": "cat ${{inputs.model}}/m", "environment": "azureml:lab:1",
        "inputs": {"model": "${{parent.jobs.tune.outputs.model}}"},
    }  # fmt: skip
    settings = {"default_compute": "azureml:cpu-cluster"}
    jobs = {"tune": {**tune, "outputs": {"model": {"type": "uri_folder"}}}, "read": read}
    run = lab.run(lab.write({"type": "pipeline", "experiment_name": "lab", "settings": settings, "jobs": jobs}))
    assert run["status"] == "Completed"
    assert lab.cli("logs", "one.read").out == "m 2\n"
    assert told(lab.cli.row("one.tune"))["best"] == "tune.trial_1"
