"""How everything that is in the way of a job is told: by line, and the same way out once."""

from __future__ import annotations

from runner.errors import CapabilityError
from runner.job import Command, Job, Problem, Where
from runner.submission import refusing


def test_faults_come_by_line_with_their_way_out_below_and_each_once() -> None:
    add = 'runner.yaml: environments: {"azureml:s:1": {libs: libs.yaml}}'
    faults = [
        refusing.of_error(Where("p.yml", 22, "jobs.b.environment").error("azureml:s:1 is not mapped", add)),
        refusing.of_problem(
            Problem("type: spark", "spark runs on Azure ML only", "--backend azureml", Where("p.yml", 3, "t"))
        ),
        refusing.of_error(Where("p.yml", 9, "jobs.a.environment").error("azureml:s:1 is not mapped", add)),
        refusing.of_error(Where("p.yml", 9, "jobs.a.environment").error("azureml:s:1 is not mapped", add)),
    ]
    found = refusing.refusal(Job(Command()), "docker", faults)
    assert isinstance(found, CapabilityError)
    assert str(found).splitlines() == [
        "3 things in the job cannot run on docker; nothing was started",
        "  p.yml:3: t: spark runs on Azure ML only",
        "    → --backend azureml",
        "  p.yml:9: jobs.a.environment: azureml:s:1 is not mapped",
        "  p.yml:22: jobs.b.environment: azureml:s:1 is not mapped",
        f"    → {add}",
    ]
