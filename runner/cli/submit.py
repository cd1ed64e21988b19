"""`runner submit`: options to a Request, and what the user sees until the run is accepted or, with --wait, has ended."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from runner import console
from runner.cli import workspaces
from runner.errors import UsageError
from runner.model import Reason
from runner.spec import values

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.model import Outcome
    from runner.store import RunRow, Store
    from runner.submission.accepting import Prepared

script_args: list[str] = []
"""What stood after `--`; put here by `main`, which cuts it off before any parser sees it."""


def submit(  # noqa: PLR0917 - the signature is the command line
    script: Annotated[
        Path,
        typer.Argument(
            metavar="SCRIPT|JOB.yml",
            help="A .py .R .sh .jl .js .pl .ipynb .Rmd .qmd, or an executable file; a job, pipeline or sweep as Azure ML's "
            "YAML has it; pipeline:NAME[@VERSION].",
        ),
    ],
    backend: Annotated[str | None, typer.Option(metavar="BACKEND", help="process, docker or azureml.")] = None,
    compute: Annotated[str | None, typer.Option(metavar="C", help="A compute of Azure ML, or local.")] = None,
    libs: Annotated[Path | None, typer.Option(metavar="FILE", help="Run in the image of this libs.yaml.")] = None,
    image: Annotated[str | None, typer.Option(metavar="REF", help="Run in this image.")] = None,
    code: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to take along (default: the script's).")
    ] = None,
    input: Annotated[  # noqa: A002
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="A file or folder to read, as RUNNER_INPUT_NAME; on Azure also a URI."),
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=DIR]", help="A folder to collect, RUNNER_OUTPUT_NAME.")
    ] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A variable.")] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=@FILE|=keyvault:[VAULT/]NAME]",
            help="A secret: from the environment, a file, or a prompt; on Azure ML from Key Vault.",
        ),
    ] = None,
    cpus: Annotated[str | None, typer.Option(metavar="N", help="Processors: 2, 0.5.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory limit: 512m, 2g.")] = None,
    gpus: Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of GPUs.")] = None,
    shm_size: Annotated[str | None, typer.Option("--shm-size", metavar="SIZE", help="Size of /dev/shm: 1g.")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="End the script after: 30s, 10m, 1h30m.")] = None,
    grace: Annotated[str, typer.Option(metavar="TIME", help="Time between SIGTERM and SIGKILL.")] = "10s",
    retries: Annotated[
        int, typer.Option(metavar="N", min=0, help="Further attempts for causes that trying again can cure.")
    ] = 0,
    retry_on: Annotated[
        list[str] | None, typer.Option("--retry-on", metavar="REASON", help="Also retry this: NonZeroExit, Timeout …")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The run's name (default: made up).")] = None,
    experiment: Annotated[
        str | None, typer.Option(metavar="E", help="Group of runs (default: the code folder's name).")
    ] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="A note.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A tag.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of a job: another value: inputs.lr=0.1.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Of a job: instead of runner.yaml.")] = None,
    force_rerun: Annotated[bool, typer.Option("--force-rerun", help="Of a pipeline: reuse no earlier step.")] = False,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="STEP", help="Of a pipeline: take over the last run up to this step."),
    ] = None,
    registry: Annotated[
        str | None, typer.Option(metavar="HOST[/PATH]", help="Azure ML: the registry to push the image to.")
    ] = None,
    instances: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Azure ML, of a job: on so many machines.")
    ] = None,
    workspace: Annotated[str | None, workspaces.WORKSPACE] = None,
    resource_group: Annotated[str | None, workspaces.RESOURCE_GROUP] = None,
    subscription: Annotated[str | None, workspaces.SUBSCRIPTION] = None,
    auth: Annotated[str | None, workspaces.AUTH] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay, show the log, exit as the script did.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent; start nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the run as JSON.")] = False,
) -> int:
    """Run a script, a job or a pipeline. What follows `--` is the script's: runner submit train.R --wait -- --rounds 50."""
    from runner.cli import secret as secrets_given
    from runner.cli import submit_job
    from runner.model import Limits, RetryPolicy
    from runner.submission.script import Request, prepare

    show = Show(wait=wait, dry_run=dry_run, json=json)
    target = workspaces.said(workspace, resource_group, subscription, auth)
    if submit_job.is_job(script):
        submit_job.refuse_options_of_scripts({
            "--libs": libs, "--image": image, "--code": code, "--input": input, "--output": output, "--env": env,
            "--cpus": cpus, "--memory": memory, "--gpus": gpus, "--shm-size": shm_size, "--timeout": timeout,
            "--retries": retries, "--retry-on": retry_on, "--": script_args,
        })  # fmt: skip
        secrets = secrets_given.read(secret, values_too=not dry_run)
        named = submit_job.Named(
            backend, compute, None if name is None else values.run_name(name, "--name"), experiment, description,
            _pairs(tag, "--tag", "K=V"), secrets.given, secrets.vaulted, target, registry,
        )  # fmt: skip
        changes = submit_job.Changes(_sets(set_), config, force_rerun, from_, instances)
        return carry_out(lambda store: submit_job.prepared(str(script), named, changes, store, build=not dry_run), show)
    submit_job.refuse_options_of_jobs(
        {"--set": set_, "--config": config, "--force-rerun": force_rerun, "--from": from_, "--instances": instances}
    )
    if libs is not None and image is not None:
        raise UsageError("--libs and --image both choose the image", "leave one of them out")
    secrets = secrets_given.read(secret, values_too=not dry_run)
    request = Request(
        script=script,
        args=tuple(script_args),
        backend=backend,
        compute=compute,
        libs=libs,
        image=image,
        code=code,
        inputs={key: values.location(text) for key, text in _pairs(input, "--input", "NAME=PATH").items()},
        outputs=_outputs(output),
        env=_variables(env),
        secrets=secrets.given,
        vaulted=secrets.vaulted,
        target=target,
        registry=registry,
        limits=Limits(
            cpus=None if cpus is None else values.cpus(cpus, "--cpus"),
            memory_bytes=None if memory is None else values.size(memory, "--memory"),
            gpus=gpus,
            shm_bytes=None if shm_size is None else values.size(shm_size, "--shm-size"),
            timeout_s=None if timeout is None else values.duration(timeout, "--timeout"),
            grace_s=values.duration(grace, "--grace"),
        ),
        retry=RetryPolicy(retries, tuple(values.reason(text) for text in retry_on or ())),
        name=None if name is None else values.run_name(name, "--name"),
        experiment=experiment,
        description=description,
        tags=_pairs(tag, "--tag", "K=V"),
    )
    return carry_out(lambda store: prepare(request, store, console.say, build=not dry_run), show)


@dataclass(frozen=True, slots=True)
class Show:
    """What the user wants to see of it."""

    wait: bool
    dry_run: bool
    json: bool


def carry_out(prepare: Callable[[Store], Prepared], show: Show) -> int:
    """Decide, then start (or with --dry-run show) what was decided; with --wait stay until the end."""
    from runner.store import Store
    from runner.submission.accepting import accept, handed_over
    from runner.supervisor import ensure

    store = Store()
    try:
        prepared = prepare(store)
        if show.dry_run:
            _preview(prepared, store, json=show.json)
            return 0
        run, gone = accept(prepared, store)
        run = handed_over(store, run, gone, console.say)
    except KeyboardInterrupt as stop:
        if not stop.args:
            console.say("", "\ninterrupted; nothing was submitted")
        else:
            ensure(store, store.get(stop.args[0]))
            console.say("", f"\ninterrupted; {stop.args[0]} was submitted and goes on")
        return 130
    if not show.wait and not _never_began(run):
        os.close(gone)
        _accepted(run, json=show.json)
        return 0
    console.say("run", run.name)
    return _stay(store, run, gone, json=show.json)


def _preview(prepared: Prepared, store: Store, *, json: bool) -> None:
    from runner.submission.accepting import preview

    if prepared.target is not None and not json:
        from runner.spec.jobwriter import written

        console.result(written(preview(prepared, store)["request"]).rstrip())
    elif prepared.plan is None or json:
        console.result_json(preview(prepared, store))
    else:
        from runner.graph import draw

        console.result(draw(prepared.plan, "text").rstrip())


def _never_began(run: RunRow) -> bool:
    """The service elsewhere would not have it; that is told like the end of a run that was waited for."""
    return run.outcome is not None and run.outcome.reason is Reason.START_FAILED


def _accepted(run: RunRow, *, json: bool) -> None:
    if json:
        console.result_json(run.to_json())
    elif sys.stdout.isatty():
        console.result(f"{run.name}  {run.status.value} on {run.backend}")
    else:
        console.result(run.name)
    if not json:
        console.say("", f"follow: runner logs -f {run.name}     cancel: runner cancel {run.name}")


def _stay(store: Store, run: RunRow, gone: int, *, json: bool) -> int:
    """Show the log until the run has ended. With --json the log goes to stderr: stdout is the result."""
    from runner.logs import Follower

    sink = sys.stderr.buffer if json else None
    try:
        if run.composed:
            from runner.cli import board

            board.follow(store, run, gone=gone, json=json)
        else:
            for block in Follower(store, run, gone=gone):
                console.result_bytes(block, sink)
    except KeyboardInterrupt:
        console.say(
            "", f"\n{run.name} goes on.  follow: runner logs -f {run.name}     cancel: runner cancel {run.name}"
        )
        return 130
    ended = store.get(run.name)
    outcome = ended.outcome
    assert outcome is not None  # noqa: S101 - the follower stops at the end
    if json:
        console.result_json(ended.to_json())
    else:
        _closing(store, ended, outcome)
    return outcome.process_exit


def _closing(store: Store, run: RunRow, outcome: Outcome) -> None:
    from runner.api import Run

    files = [path.removeprefix("outputs/") for path, _ in Run(store, run.name).outputs()]
    console.say("", console.closing_line(outcome, files))
    if outcome.message:
        console.say("", f"  {outcome.message}")
    for warning in outcome.warnings:
        console.say("", f"  warning: {warning}")
    if outcome.process_exit != 0:
        from runner.cli.show import cause

        ended = cause(store, run) or run
        if advice := console.advice(ended, ended.outcome or outcome):
            console.say("", f"  try: {advice}")
        console.say("", f"  log: runner logs {ended.name}")
    elif files:
        console.say("", f"runner download {run.name}")


# -- options --------------------------------------------------------------------------------------------------------


def _pairs(
    texts: list[str] | None, key: str, what: str, check: Callable[[str, str], str] = values.identifier
) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or ():
        name, value = values.pair(text, key, what=what, check=check)
        if name in found:
            raise UsageError(f"{key} {name} is given twice")
        found[name] = value
    return found


def _sets(texts: list[str] | None) -> list[tuple[str, str]]:
    return [values.pair(text, "--set", what="KEY=VALUE", check=lambda key, _: key) for text in texts or ()]


def _variables(texts: list[str] | None) -> dict[str, str]:
    return _pairs(texts, "--env", "K=V", values.variable)


def _outputs(texts: list[str] | None) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in texts or ():
        name, equals, folder = text.partition("=")
        if values.identifier(name, "--output") in found:
            raise UsageError(f"--output {name} is given twice")
        found[name] = folder if equals else None
    return found
