"""The options of `runner submit`, by the names of its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli import workspaces

Script = Annotated[
    Path,
    typer.Argument(
        metavar="SCRIPT|JOB.yml",
        help="A .py .R .sh .jl .js .pl .ipynb .Rmd .qmd, or an executable file; a job, pipeline or sweep as Azure ML's "
        "YAML has it; pipeline:NAME[@VERSION].",
    ),
]
Backend = Annotated[str | None, typer.Option(metavar="BACKEND", help="process, docker or azureml.")]
Compute = Annotated[str | None, typer.Option(metavar="C", help="A compute of Azure ML, or local.")]
Libs = Annotated[Path | None, typer.Option(metavar="FILE", help="Run in the image of this libs.yaml.")]
Image = Annotated[str | None, typer.Option(metavar="REF", help="Run in this image.")]
Code = Annotated[Path | None, typer.Option(metavar="DIR", help="The folder to take along (default: the script's).")]
Input = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=PATH", help="A file or folder to read, as RUNNER_INPUT_NAME; on Azure also a URI."),
]
Output = Annotated[
    list[str] | None, typer.Option(metavar="NAME[=DIR]", help="A folder to collect, RUNNER_OUTPUT_NAME.")
]
Env = Annotated[list[str] | None, typer.Option(metavar="K=V", help="A variable.")]
Secret = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=@FILE|=keyvault:[VAULT/]NAME]",
        help="A secret: from the environment, a file, or a prompt; on Azure ML from Key Vault.",
    ),
]
Cpus = Annotated[str | None, typer.Option(metavar="N", help="Processors: 2, 0.5.")]
Memory = Annotated[str | None, typer.Option(metavar="SIZE", help="Memory limit: 512m, 2g.")]
Gpus = Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of GPUs.")]
ShmSize = Annotated[str | None, typer.Option("--shm-size", metavar="SIZE", help="Size of /dev/shm: 1g.")]
Timeout = Annotated[str | None, typer.Option(metavar="TIME", help="End the script after: 30s, 10m, 1h30m.")]
Grace = Annotated[str, typer.Option(metavar="TIME", help="Time between SIGTERM and SIGKILL.")]
Retries = Annotated[
    int, typer.Option(metavar="N", min=0, help="Further attempts for causes that trying again can cure.")
]
RetryOn = Annotated[
    list[str] | None, typer.Option("--retry-on", metavar="REASON", help="Also retry this: NonZeroExit, Timeout …")
]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="The run's name (default: made up).")]
Experiment = Annotated[str | None, typer.Option(metavar="E", help="Group of runs (default: the code folder's name).")]
Description = Annotated[str, typer.Option(metavar="TEXT", help="A note.")]
Tag = Annotated[list[str] | None, typer.Option(metavar="K=V", help="A tag.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of a job: another value: inputs.lr=0.1.")
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="Of a job: instead of runner.yaml.")]
ForceRerun = Annotated[bool, typer.Option("--force-rerun", help="Of a pipeline: reuse no earlier step.")]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="STEP", help="Of a pipeline: take over the last run up to this step."),
]
Registry = Annotated[
    str | None, typer.Option(metavar="HOST[/PATH]", help="Azure ML: the registry to push the image to.")
]
Instances = Annotated[int | None, typer.Option(metavar="N", min=1, help="Azure ML, of a job: on so many machines.")]
Workspace = Annotated[str | None, workspaces.WORKSPACE]
ResourceGroup = Annotated[str | None, workspaces.RESOURCE_GROUP]
Subscription = Annotated[str | None, workspaces.SUBSCRIPTION]
Auth = Annotated[str | None, workspaces.AUTH]
Wait = Annotated[bool, typer.Option("--wait", help="Stay, show the log, exit as the script did.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; start nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the run as JSON.")]
