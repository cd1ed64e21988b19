"""The part of `runner submit` that jobs have alone: a job file or a registered pipeline, with other values."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner import console
from runner.cli import workspaces
from runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.job import Job
    from runner.spec.config import Config
    from runner.store import Store
    from runner.submission.accepting import Prepared

_REGISTERED = "pipeline:"
_WAYS = {
    "--libs": "--set environment.libs=FILE",
    "--image": "--set environment.image=REF",
    "--code": "--set code=DIR",
    "--input": "--set inputs.NAME=VALUE",
    "--output": "--set outputs.NAME.path=WHERE",
    "--env": "--set environment_variables.NAME=VALUE",
    "--timeout": "--set limits.timeout=SECONDS",
    "--shm-size": "--set resources.shm_size=SIZE",
    "--": "--set args=[…], or inputs of the job",
}


@dataclass(frozen=True, slots=True)
class Named:
    """Where a job goes and what its run is called. vaulted, target, registry: as of `runner.submission.script.Request`."""

    backend: str | None
    compute: str | None
    name: str | None
    experiment: str | None
    description: str
    tags: Mapping[str, str]
    secrets: Mapping[str, str]
    vaulted: Mapping[str, str]
    target: Mapping[str, str] | None
    registry: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What is other than the file says."""

    sets: Sequence[tuple[str, str]]
    config: Path | None
    force_rerun: bool
    begin_at: str | None
    instances: int | None

    def all_sets(self) -> list[tuple[str, str]]:
        """With `--instances`, which is short for one of them."""
        count = [] if self.instances is None else [("resources.instance_count", str(self.instances))]
        return [*self.sets, *count]


def is_job(target: Path) -> bool:
    """Whether it names a job file or a registered pipeline, not a script."""
    return target.suffix.lower() in {".yml", ".yaml"} or str(target).startswith(_REGISTERED)


def refuse_options_of_scripts(given: Mapping[str, object]) -> None:
    """Options that say of a script what a job's file says itself.

    Raises:
        UsageError: naming the first, and the way to say it.
    """
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} belongs to a script; a job says this in its file",
                f"for this once: {_WAYS.get(option, '--set KEY=VALUE, such as --set resources.docker_args=…')}",
            )


def refuse_options_of_jobs(given: Mapping[str, object]) -> None:
    """Options that a script has no use for.

    Raises:
        UsageError: naming the first.
    """
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} belongs to a job file (JOB.yml), and this is a script")


def prepared(target: str, named: Named, changes: Changes, store: Store, *, build: bool) -> Prepared:
    """Everything decided of a job file or registered pipeline."""
    from runner.submission.job import JobRequest, prepare

    if changes.instances is not None:
        _refuse_instances(_loaded(target, named, changes.sets, changes, store)[0])
    job, config = _loaded(target, named, changes.all_sets(), changes, store)
    request = JobRequest(
        job,
        config,
        backend=named.backend,
        compute=named.compute,
        name=named.name,
        experiment=named.experiment,
        description=named.description,
        tags=named.tags,
        secrets=named.secrets,
        vaulted=named.vaulted,
        target=named.target,
        registry=named.registry,
        force_rerun=changes.force_rerun,
        begin_at=changes.begin_at,
    )
    return prepare(request, store, console.say, build=build)


def _refuse_instances(job: Job) -> None:
    from runner.job import Graph

    if isinstance(job.component, Graph):
        raise UsageError(
            "--instances is of one job, and this is a pipeline",
            "say it of a step: --set jobs.STEP.resources.instance_count=2",
        )


def _loaded(
    target: str, named: Named, sets: Sequence[tuple[str, str]], changes: Changes, store: Store
) -> tuple[Job, Config]:
    """The job, and the settings that hold where it is. A pipeline that is not registered here may be so in the workspace."""
    from runner.submission.job import loaded

    away = named.backend == "azureml" or (named.backend is None and named.compute not in {None, "local"})
    name = target.removeprefix(_REGISTERED).partition("@")[0]
    if not away or not target.startswith(_REGISTERED) or store.pipelines(name):
        return loaded(target, sets, store, os.environ, changes.config)
    from runner.backends.azureml import components
    from runner.spec import config as configuration

    asked = dict(named.target) if named.target else None
    settings = configuration.load(Path.cwd(), os.environ, changes.config)
    with workspaces.opened(asked, settings) as (arm, found):
        pipeline = components.find(arm, found.target, target)
    return components.job(pipeline, sets), settings
