"""`runner submit`: options to a Request, or to the changes of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import console
from runner.cli import options, workspaces
from runner.cli.carry import Show, carry_out
from runner.errors import UsageError
from runner.spec import values

if TYPE_CHECKING:
    from collections.abc import Callable

script_args: list[str] = []
"""What stood after `--`; put here by `main`, which cuts it off before any parser sees it."""


def submit(  # noqa: PLR0917 - the signature is the command line
    script: options.Script,
    backend: options.Backend = None,
    compute: options.Compute = None,
    libs: options.Libs = None,
    image: options.Image = None,
    code: options.Code = None,
    input: options.Input = None,  # noqa: A002
    output: options.Output = None,
    env: options.Env = None,
    secret: options.Secret = None,
    cpus: options.Cpus = None,
    memory: options.Memory = None,
    gpus: options.Gpus = None,
    shm_size: options.ShmSize = None,
    timeout: options.Timeout = None,
    grace: options.Grace = "10s",
    retries: options.Retries = 0,
    retry_on: options.RetryOn = None,
    name: options.Name = None,
    experiment: options.Experiment = None,
    description: options.Description = "",
    tag: options.Tag = None,
    set_: options.Set = None,
    config: options.Config = None,
    force_rerun: options.ForceRerun = False,
    from_: options.From = None,
    registry: options.Registry = None,
    instances: options.Instances = None,
    workspace: options.Workspace = None,
    resource_group: options.ResourceGroup = None,
    subscription: options.Subscription = None,
    auth: options.Auth = None,
    wait: options.Wait = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
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
