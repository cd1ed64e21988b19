"""`runner pipeline`: jobs under a name and a version, to be submitted when their files are gone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner import console
from runner.cli import pipeline_shown, pipeline_there, workspaces
from runner.cli.pipeline_shown import Shown
from runner.cli.pipeline_there import Named

if TYPE_CHECKING:
    from runner.job import Job
    from runner.store import PipelineRow

_JSON = typer.Option("--json", help="Print JSON.")


def register(
    job: Annotated[str, typer.Argument(metavar="JOB.yml", help="A job file.")],
    *,
    name: Annotated[str, typer.Option(metavar="NAME", help="What to call it.")],
    description: Annotated[str, typer.Option(metavar="TEXT", help="A note (default: the job's).")] = "",
    backend: Annotated[
        str | None,
        typer.Option(metavar="B", help="docker keeps images by their ids; azureml makes a component of the workspace."),
    ] = None,
    registry: Annotated[
        str | None, typer.Option(metavar="HOST[/PATH]", help="On Azure: where images of libs files are.")
    ] = None,
    workspace: Annotated[str | None, workspaces.WORKSPACE] = None,
    resource_group: Annotated[str | None, workspaces.RESOURCE_GROUP] = None,
    subscription: Annotated[str | None, workspaces.SUBSCRIPTION] = None,
    auth: Annotated[str | None, workspaces.AUTH] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Instead of runner.yaml.")] = None,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Keep a job with its code as the next version of NAME. The same again is the same version, but on Azure ML."""
    from runner import registered
    from runner.store import Store
    from runner.submission.job import loaded
    from runner.submission.pinning import pinning

    asked = workspaces.said(workspace, resource_group, subscription, auth)
    store = Store()
    found, settings = loaded(Path(job), [], store, os.environ, config)
    if workspaces.asked_of(backend, asked, registry, here=(backend,) if backend else ()):
        pipeline_there.register(found, settings, Named(name, description, registry), asked, json=json)
        return
    pin = pinning(settings, backend, store, console.say)
    done = registered.register(store, found, name, description=description, pin=pin)
    for note in done.notes:
        console.say("note", note)
    if json:
        console.result_json({**done.row.to_json(), "new": done.new, "notes": list(done.notes)})
        return
    console.result(f"{done.row.name}@{done.row.version}" + ("" if done.new else "  (unchanged)"))
    console.say("", f"run it: runner submit pipeline:{done.row.name}")


def list_(
    *,
    backend: Annotated[str | None, typer.Option(metavar="B", help="azureml: those of the workspace.")] = None,
    workspace: Annotated[str | None, workspaces.WORKSPACE] = None,
    resource_group: Annotated[str | None, workspaces.RESOURCE_GROUP] = None,
    subscription: Annotated[str | None, workspaces.SUBSCRIPTION] = None,
    auth: Annotated[str | None, workspaces.AUTH] = None,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """The newest version of each registered pipeline."""
    from runner.store import Store

    asked = workspaces.said(workspace, resource_group, subscription, auth)
    if workspaces.asked_of(backend, asked):
        pipeline_there.show_all(asked, json=json)
        return
    rows = Store().pipelines()
    if json:
        console.result_json([row.to_json() for row in rows])
        return
    if not rows:
        console.say("", "no pipelines yet; register one: runner pipeline register JOB.yml --name NAME")
        return
    pipeline_shown.table([_shown(row) for row in rows])


def show(
    pipeline: Annotated[str, typer.Argument(metavar="NAME[@V]", help="A registered pipeline.")],
    *,
    backend: Annotated[str | None, typer.Option(metavar="B", help="azureml: one of the workspace.")] = None,
    workspace: Annotated[str | None, workspaces.WORKSPACE] = None,
    resource_group: Annotated[str | None, workspaces.RESOURCE_GROUP] = None,
    subscription: Annotated[str | None, workspaces.SUBSCRIPTION] = None,
    auth: Annotated[str | None, workspaces.AUTH] = None,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """The inputs of a registered pipeline, its outputs and its versions."""
    from runner import registered
    from runner.store import Store

    asked = workspaces.said(workspace, resource_group, subscription, auth)
    if workspaces.asked_of(backend, asked):
        pipeline_there.show(pipeline, asked, json=json)
        return
    store = Store()
    row = registered.find(store, pipeline)
    job = registered.load(store, f"{row.name}@{row.version}")
    versions = [each.version for each in store.pipelines(row.name)]
    if json:
        facts = {
            "versions": versions,
            "inputs": {name: each.type.value for name, each in job.component.inputs.items()},
            "outputs": list({**job.component.outputs, **job.outputs}),
        }
        console.result_json({**row.to_json(), **facts})
        return
    inputs = [
        (name, each.type.value, pipeline_shown.value(_given(job, name), optional=each.optional))
        for name, each in job.component.inputs.items()
    ]
    outputs = [(name, each.type.value) for name, each in {**job.component.outputs, **job.outputs}.items()]
    way = f"steps: runner graph pipeline:{row.name}@{row.version}"
    shown = replace(_shown(row), versions=[str(each) for each in versions], inputs=inputs, outputs=outputs, ways=[way])
    pipeline_shown.whole(shown)


def _shown(row: PipelineRow) -> Shown:
    return Shown(row.name, str(row.version), row.description, console.local_time(row.created))


def _given(job: Job, name: str) -> object:
    """What an input is if nothing is said; of data where it is."""
    given = job.inputs.get(name, job.component.inputs[name].default)
    return getattr(given, "uri", given)
