"""`runner export`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner import console
from runner.cli.submit_job import is_job
from runner.errors import ConflictError, UsageError
from runner.spec import values

if TYPE_CHECKING:
    from runner.job import Job
    from runner.spec.config import Config


def export(
    job: Annotated[str, typer.Argument(metavar="JOB.yml", help="A job file, or pipeline:NAME[@VERSION].")],
    *,
    to: Annotated[str, typer.Option(metavar="WHAT", help="azureml: what `az ml job create -f` takes.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there (default: print it).")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Instead of runner.yaml.")] = None,
    registry: Annotated[
        str | None, typer.Option(metavar="HOST[/PATH]", help="The registry that images of libs files are in.")
    ] = None,
) -> None:
    """Write a job as plain YAML of Azure ML. runner's additions are compiled away, or refused with the reason."""
    if to != "azureml":
        raise UsageError(f"--to {to}: a job is written for azureml only", "say --to azureml")
    from runner.export import to_azureml

    found, settings = loaded(job, set_, config)
    folder = output.absolute().parent if output is not None else None
    text = to_azureml(found, settings, folder=folder, registry=registry)
    if output is None:
        console.result(text.rstrip())
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise ConflictError(
            f"cannot write {output}: {error.strerror or error}", "choose another file: -o FILE"
        ) from None
    console.say("", f"wrote {output}.  submit it: az ml job create -f {output}")


def loaded(job: str, sets: list[str] | None, config: Path | None) -> tuple[Job, Config]:
    """A job file or registered pipeline, with other values, and the settings that hold there."""
    from runner.store import Store
    from runner.submission.job import loaded as load

    if not is_job(Path(job)):
        raise UsageError(f"{job} is no job file", "expected a JOB.yml, or pipeline:NAME[@VERSION]")
    pairs = [values.pair(text, "--set", what="KEY=VALUE", check=lambda key, _: key) for text in sets or ()]
    return load(job, pairs, Store(), os.environ, config)
