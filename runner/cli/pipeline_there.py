"""`runner pipeline` with `--backend azureml`: pipelines that are registered in a workspace, as its components."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from runner import console
from runner.cli import pipeline_shown, workspaces
from runner.cli.pipeline_shown import Shown
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
    folder = job.file.parent if job.file is not None else None
    with workspaces.opened(asked, settings, folder) as (arm, found):
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
    pipeline_shown.table([_shown(row) for row in rows])


def show(reference: str, asked: dict[str, str] | None, *, json: bool) -> None:
    """One of them."""
    from runner.backends.azureml import components

    with workspaces.opened(asked) as (arm, found):
        row = components.find(arm, found.target, reference)
    if json:
        console.result_json(asdict(row))
        return
    pipeline_shown.whole(_shown(row))


def _shown(row: Pipeline) -> Shown:
    inputs = [
        (name, str(each.get("type")), pipeline_shown.value(each.get("default"), optional=bool(each.get("optional"))))
        for name, each in row.inputs.items()
    ]
    way = f"run it: runner submit pipeline:{row.name}@{row.version} --backend azureml"
    return Shown(
        row.name,
        row.version,
        row.description,
        _when(row.created),
        row.versions,
        inputs,
        list(row.outputs.items()),
        [way],
    )


def _when(text: str | None) -> str:
    try:
        return console.local_time(datetime.fromisoformat(text).timestamp()) if text else ""
    except ValueError:
        return ""
