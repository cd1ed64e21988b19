"""`runner pipeline`: jobs under a name and a version, to be submitted when their files are gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner import console
from runner.cli import pipeline_there, workspaces
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
    """Keep a job with its code as the next version of NAME. The same again is the same version."""
    from runner import registered
    from runner.store import Store
    from runner.submission.job import loaded
    from runner.submission.pinning import pinning

    asked = workspaces.said(workspace, resource_group, subscription, auth)
    store = Store()
    found, settings = loaded(Path(job), [], store, os.environ, config)
    if backend == "azureml":
        pipeline_there.register(found, settings, Named(name, description, registry), asked, json=json)
        return
    pipeline_there.refuse(asked, registry)
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
    if backend == "azureml":
        pipeline_there.show_all(asked, json=json)
        return
    pipeline_there.refuse(asked)
    rows = Store().pipelines()
    if json:
        console.result_json([row.to_json() for row in rows])
        return
    if not rows:
        console.say("", "no pipelines yet; register one: runner pipeline register JOB.yml --name NAME")
        return
    console.table(
        ("NAME", "VERSION", "REGISTERED", "DESCRIPTION"),
        [(row.name, str(row.version), console.local_time(row.created), row.description) for row in rows],
    )


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
    if backend == "azureml":
        pipeline_there.show(pipeline, asked, json=json)
        return
    pipeline_there.refuse(asked)
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
    _show(row, job, versions)


def _show(row: PipelineRow, job: Job, versions: list[int]) -> None:
    console.result(f"{row.name}@{row.version}   {console.printable(row.description)}".rstrip())
    console.result(f"  {'registered':<12}{console.local_time(row.created)}")
    console.result(f"  {'versions':<12}{', '.join(str(each) for each in versions)}")
    for name, declared in job.component.inputs.items():
        given = job.inputs.get(name, declared.default)
        value = "optional" if given is None and declared.optional else "required" if given is None else _said(given)
        console.result(console.printable(f"  {'input':<12}{name}  {declared.type.value}  {value}"))
    for name in {**job.component.outputs, **job.outputs}:
        console.result(console.printable(f"  {'output':<12}{name}"))
    console.result(f"  steps: runner graph pipeline:{row.name}@{row.version}")


def _said(given: object) -> str:
    return str(getattr(given, "uri", given))
