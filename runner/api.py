"""What the command line and Python code do alike to submit. `from runner import …` shows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.model import Limits, RetryPolicy
from runner.run import Run
from runner.spec import azureobject, values
from runner.store import Store
from runner.submission.accepting import accept, handed_over
from runner.submission.script import Request, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.job import Job
    from runner.submission.accepting import Prepared


def submit(
    script: str | Path | object,
    *args: str,
    backend: str | None = None,
    compute: str | None = None,
    libs: str | Path | None = None,
    image: str | None = None,
    code: str | Path | None = None,
    inputs: Mapping[str, str | Path] | None = None,
    outputs: Mapping[str, str | None] | Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    cpus: float | None = None,
    memory: str | None = None,
    gpus: int | None = None,
    shm_size: str | None = None,
    timeout: str | float | None = None,
    grace: str | float = 10.0,
    retries: int = 0,
    retry_on: Sequence[str] = (),
    name: str | None = None,
    experiment: str | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    target: Mapping[str, str] | None = None,
    registry: str | None = None,
    home: Path | None = None,
    say: Callable[[str, str], None] | None = None,
) -> Run:
    """Submit a script and return as soon as the run is accepted; on a backend elsewhere, as soon as the service has it, so
    that this machine may be switched off. The options are those of `runner submit`.

    Args:
        script: path of the script; or a job that was made with azure-ai-ml, for which `submit_job` says which options
            there are. args: its arguments, byte for byte.
        inputs: name → path, or on Azure ML a URI. outputs: names, or name → folder in the script's working directory.
        secrets: name → value; they reach the script as variables and are kept nowhere. On Azure ML name →
            `keyvault:[VAULT/]NAME`, read in the job.
        target: on Azure ML, which workspace: `workspace`, `resource_group`, `subscription`, `auth`, as far as the
            environment, runner.yaml and config.json do not say it. registry: HOST[/PATH] that an image is pushed to.
        memory, shm_size: as `2g`. timeout, grace: as `10m`, or seconds.
        say: receives (kind, text) for each decision that was taken.

    Raises:
        RunnerError: nothing was started.
    """
    if azureobject.is_one(script):
        _of_its_own(
            args=args, libs=libs, image=image, code=code, inputs=inputs, outputs=outputs, env=env, cpus=cpus, memory=memory,
            gpus=gpus, shm_size=shm_size, timeout=timeout, retries=retries, retry_on=retry_on,
        )  # fmt: skip
        return submit_job(
            script, backend=backend, compute=compute, secrets=secrets, name=name, experiment=experiment,
            description=description, tags=tags, target=target, registry=registry, home=home, say=say,
        )  # fmt: skip
    given, vaulted = _secrets(secrets)
    request = Request(
        script=Path(str(script)),
        args=tuple(args),
        backend=backend,
        compute=compute,
        libs=Path(libs) if libs is not None else None,
        image=image,
        code=Path(code) if code is not None else None,
        inputs={values.identifier(key, "inputs"): values.location(path) for key, path in (inputs or {}).items()},
        outputs=_outputs(outputs),
        env={values.variable(key, "env"): value for key, value in (env or {}).items()},
        secrets=given,
        vaulted=vaulted,
        target=target,
        registry=registry,
        limits=Limits(
            cpus=cpus,
            memory_bytes=None if memory is None else values.size(memory, "memory"),
            gpus=gpus,
            shm_bytes=None if shm_size is None else values.size(shm_size, "shm_size"),
            timeout_s=None if timeout is None else values.duration(str(timeout), "timeout"),
            grace_s=values.duration(str(grace), "grace"),
        ),
        retry=RetryPolicy(retries, tuple(values.reason(text) for text in retry_on)),
        name=None if name is None else values.run_name(name, "name"),
        experiment=experiment,
        description=description,
        tags=dict(tags or {}),
    )
    store, say = Store(home), say or _silent
    return _started(prepare(request, store, say), store, say)


def _of_its_own(**given: object) -> None:
    """Refuse options of a script for a job that is made already."""
    if names := [name for name, value in given.items() if value]:
        raise UsageError(
            f"{', '.join(names)}: a job of azure-ai-ml has these of its own",
            "say it where the job is made, or use submit_job",
        )


def _started(prepared: Prepared, store: Store, say: Callable[[str, str], None]) -> Run:
    row, gone = accept(prepared, store)
    try:
        handed_over(store, row, gone, say)
    finally:
        os.close(gone)
    return Run(store, row.name)


def _silent(_kind: str, _text: str) -> None:
    """What is said to nobody."""


def submit_job(
    job: Job | str | Path | object,
    sets: Mapping[str, str] | None = None,
    *,
    backend: str | None = None,
    compute: str | None = None,
    config: str | Path | None = None,
    secrets: Mapping[str, str] | None = None,
    name: str | None = None,
    experiment: str | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    force_rerun: bool = False,
    begin_at: str | None = None,
    target: Mapping[str, str] | None = None,
    registry: str | None = None,
    home: Path | None = None,
    say: Callable[[str, str], None] | None = None,
) -> Run:
    """Submit a job (a command, pipeline or sweep) and return as soon as its run is accepted; see `submit` for one elsewhere.

    Args:
        job: a job file, `pipeline:NAME[@VERSION]` of a registered one, what `Pipeline.to_job` gives, or a job that was
            made with azure-ai-ml: what `command()` or a function with `@dsl.pipeline` returns.
        sets: other values than the file's: dotted key → value, as `--set` takes them.
        config: the file to take instead of the project's runner.yaml.
        force_rerun: let every step run, whatever ran before. begin_at: take over what the last run of it did before this
            step, and run it and all that depends on it.
        secrets, target, registry: as of `submit`.
        say: receives (kind, text) for each decision that was taken.

    Raises:
        RunnerError: nothing was started.
    """
    from runner.submission.job import JobRequest, loaded
    from runner.submission.job import prepare as prepare_job

    store, say = Store(home), say or _silent
    given, vaulted = _secrets(secrets)
    found, settings = loaded(
        job, list((sets or {}).items()), store, os.environ, None if config is None else Path(config)
    )
    request = JobRequest(
        found,
        settings,
        backend=backend,
        compute=compute,
        name=None if name is None else values.run_name(name, "name"),
        experiment=experiment,
        description=description,
        tags=dict(tags or {}),
        secrets=given,
        vaulted=vaulted,
        target=target,
        registry=registry,
        force_rerun=force_rerun,
        begin_at=begin_at,
    )
    return _started(prepare_job(request, store, say), store, say)


def _secrets(given: Mapping[str, str] | None) -> tuple[dict[str, str], dict[str, str]]:
    """(name → value, name → its name in a key vault)."""
    found = {values.variable(key, "secrets"): value for key, value in (given or {}).items()}
    vaulted = {
        key: values.key_vault(value, f"secrets {key}")
        for key, value in found.items()
        if value.startswith(values.KEY_VAULT)
    }
    return {key: value for key, value in found.items() if key not in vaulted}, vaulted


def _outputs(outputs: Mapping[str, str | None] | Sequence[str]) -> dict[str, str | None]:
    from collections.abc import Mapping as Map

    named: dict[str, str | None] = dict(outputs) if isinstance(outputs, Map) else dict.fromkeys(outputs)
    return {values.identifier(name, "outputs"): folder for name, folder in named.items()}
