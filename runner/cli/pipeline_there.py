"""`runner pipeline` with `--backend azureml`: pipelines that are registered in a workspace, as its components."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from runner import console
from runner.cli import workspaces
from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.backends.azureml.components import Pipeline
    from runner.job import Job
    from runner.spec.config import Config


_NAME = re.compile(r"[a-z][a-z0-9_]{0,254}")


@dataclass(frozen=True, slots=True)
class Named:
    """What a pipeline is to be called, and where the images of its libs files are."""

    name: str
    description: str
    registry: str | None


def refuse(asked: dict[str, str] | None, registry: str | None = None) -> None:
    """Options that only Azure ML has a use for.

    Raises:
        UsageError: one was given.
    """
    if asked or registry is not None:
        raise UsageError("workspace and registry are Azure ML's here", "say it too: --backend azureml")


def register(job: Job, settings: Config, named: Named, asked: dict[str, str] | None, *, json: bool) -> None:
    """Make a pipeline a component of the workspace, as plain Azure ML: it needs no runner to run."""
    from runner.backends.azureml import components, pulls, sdk
    from runner.backends.azureml.credential import Tokens
    from runner.export import component
    from runner.store import Store
    from runner.submission import images

    if not _NAME.fullmatch(named.name):
        near = re.sub(r"[^a-z0-9_]", "_", named.name.lower()).lstrip("_0123456789")
        raise UsageError(
            f"{named.name!r} cannot be a component's name in Azure ML", "expected lower-case letters, digits and `_`",
            *([f"such as {near}"] if near else []),
        )  # fmt: skip
    description = named.description or job.description
    # All else that is in the way is told before anything is built or pushed.
    component(job, settings, named.name, description, built=lambda _: {})
    with workspaces.opened(asked) as (arm, found):
        target = found.target
        pushing = images.Pushing(
            named.registry,
            lambda: pulls.own_registry(arm, target),
            settings,
            Store().cache / "contexts",
            console.say,
            True,
        )
        document = component(
            job, settings, named.name, description, built=lambda each: images.resolve_all([each], pushing)[0].member
        )
        content = components.content(document)
        version, there = components.version_for(arm, target, named.name, content)
    if not there:  # else it was registered before, perhaps by a command that was killed before it could say so
        tags = {**document.get("tags", {}), components.CONTENT: content}
        with closing(Tokens(target.auth)) as tokens:
            sdk.Client(target, tokens).register({**document, "version": version, "tags": tags})
    if json:
        console.result_json({"name": named.name, "version": version, "workspace": target.workspace})
        return
    console.result(f"{named.name}@{version}")
    console.say("", f"run it: runner submit pipeline:{named.name} --backend azureml")


def show_all(asked: dict[str, str] | None, *, json: bool) -> None:
    """The pipelines of the workspace."""
    from runner.backends.azureml import components

    with workspaces.opened(asked) as (arm, found):
        rows = components.listed(arm, found.target)
    if json:
        console.result_json([asdict(row) for row in rows])
        return
    if not rows:
        console.say("", f"no pipelines in the workspace {found.target.workspace}")
        return
    console.table(
        ("NAME", "VERSION", "REGISTERED", "DESCRIPTION"),
        [(row.name, row.version, _when(row.created), row.description) for row in rows],
    )


def show(reference: str, asked: dict[str, str] | None, *, json: bool) -> None:
    """One of them."""
    from runner.backends.azureml import components

    with workspaces.opened(asked) as (arm, found):
        row = components.find(arm, found.target, reference)
    if json:
        console.result_json(asdict(row))
        return
    lines = [
        f"{row.name}@{row.version}   {row.description}".rstrip(),
        f"  {'registered':<12}{_when(row.created)}",
        f"  {'versions':<12}{', '.join(row.versions)}",
        *_inputs(row),
        *(f"  {'output':<12}{name}  {kind}" for name, kind in row.outputs.items()),
    ]
    for line in lines:
        console.result(console.printable(line))


def _inputs(row: Pipeline) -> list[str]:
    told = []
    for name, each in row.inputs.items():
        default = each.get("default")
        value = "optional" if default is None and each.get("optional") else "required" if default is None else default
        told.append(f"  {'input':<12}{name}  {each.get('type')}  {value}")
    return told


def _when(text: str | None) -> str:
    try:
        return console.local_time(datetime.fromisoformat(text).timestamp()) if text else ""
    except ValueError:
        return ""
