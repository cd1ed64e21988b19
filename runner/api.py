"""What the command line and Python code do alike: submit, look, wait, cancel, download. `from runner import …` shows it."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runner import artifacts, logs, steplogs
from runner.errors import CapabilityError, ConflictError, NotFoundError, UsageError
from runner.model import Limits, Outcome, RetryPolicy, Status
from runner.spec import azureobject, values
from runner.store import Store, output_folder
from runner.submission.accepting import accept, handed_over
from runner.submission.script import Request, prepare
from runner.supervisor import ensure
from runner.sweeps.summary import logged, sweep_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.backends.base import PlanBackend
    from runner.builder import BuiltImage
    from runner.builder.registry.push import Pushed
    from runner.job import Job
    from runner.store import RunRow
    from runner.submission.accepting import Prepared
    from runner.tracking import Point

_POLL_S = 0.05


class Run:
    """One execution of a script. Every property is read afresh from the run store."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.name = name

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.status.value})"

    @property
    def row(self) -> RunRow:
        """All that the store holds of it."""
        return self._store.get(self.name)

    @property
    def status(self) -> Status:
        """Where it stands now."""
        return self.row.status

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it has not."""
        return self.row.outcome

    def to_json(self) -> dict[str, Any]:
        """The documented shape of a run; see docs/json.md."""
        return self.row.to_json()

    def wait(self, timeout: float | None = None) -> Outcome:
        """Wait for the end. Gives the run a supervisor where its own has died.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds. It goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        looked = 0.0
        while True:
            row = self.row
            if row.outcome is not None:
                return row.outcome
            if time.monotonic() - looked > 1:
                ensure(self._store, row)
                looked = time.monotonic()
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} has not ended after {timeout:g} s ({row.status})")
            time.sleep(_POLL_S)

    def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        attempt: int | None = None,
        step: str | None = None,
    ) -> Iterator[bytes]:
        """The script's output, byte for byte; of a pipeline the lines of all its steps, each with `[step] ` before it.

        Args:
            follow: go on until the run has ended.
            tail: only the last so many lines. since: only what was written after that time (seconds since the epoch).
            attempt: of that attempt (from 1); else of all when following, of the last when not.
            step: of that step of a pipeline alone.
        """
        row = self.row
        ensure(self._store, row)
        if step is not None:
            yield from self.step(step).logs(follow=follow, tail=tail, since=since, attempt=attempt)
            return
        if row.composed:
            if attempt is not None:
                raise UsageError(f"{self.name} is a pipeline: its steps have attempts", "name one with --step")
            if follow:
                yield from steplogs.Follower(self._store, row, tail=tail, since=since)
            else:
                yield from steplogs.read(self._store, row, tail=tail, since=since)
            return
        if attempt is not None and not 1 <= attempt <= max(1, row.attempts):
            raise NotFoundError(f"{self.name} has no attempt {attempt}", f"it has {row.attempts}")
        if follow:
            yield from logs.Follower(self._store, row, attempt=attempt, tail=tail, since=since)
            return
        folder = self._store.folder(self.name).attempt(attempt or max(1, row.attempts))
        yield from logs.read(folder.log, tail=tail, since=since, index=folder.log_index)

    def step(self, path: str) -> Run:
        """One step of a pipeline, which is a run too.

        Raises:
            NotFoundError: it has none of that name.
        """
        return Run(self._store, self._store.child(self.row, path).name)

    def steps(self) -> Sequence[Run]:
        """The steps of a pipeline in the order of its plan, then the trials of its sweeps; of a script none."""
        return [Run(self._store, row.name) for row in self._store.children(self.row)]

    def cancel(self, by: str | None = None) -> bool:
        """Ask it to end: SIGTERM, and SIGKILL after the grace. Returns at once; False if it had ended already.

        Raises:
            CapabilityError: it is a step of a whole that a service elsewhere runs, which cancels nothing less.
        """
        row = self.row
        if row.parent is not None and self._store.folder(row.parent).read_target() is not None:
            raise CapabilityError(
                f"{row.name} is a step of {row.parent}, and {row.backend} cancels that as a whole only",
                f"runner cancel {row.parent}",
            )
        asked = self._store.request_cancel(row, by or os.environ.get("USER") or "user")
        if asked:
            ensure(self._store, row)
        return asked

    def outputs(self) -> Sequence[tuple[str, int]]:
        """(path, bytes) of everything that the last attempt left; of a pipeline, of its own outputs."""
        row = self.row
        if (kept := self._kept(row)) is not None:
            return artifacts.listing(kept)
        return [
            (f"{name}/{path}", size)
            for name, folder in self._pipeline_outputs(row).items()
            for path, size in artifacts.listing(folder)
        ]

    def metrics(self) -> Mapping[str, Sequence[Point]]:
        """What the last attempt logged by MLflow or in R: metric → its points, each with value, step and time."""
        return logged(self._store, self.row).main.metrics

    def download(self, to: str | Path, output: str | None = None) -> Sequence[str]:
        """Copy what the script left into the folder `to`: everything, or one named output. The paths written.

        Raises:
            ConflictError: the run has not ended.
            NotFoundError: no such output.
        """
        row = self.row
        if not row.status.terminal:
            raise ConflictError(f"{self.name} has not ended ({row.status})", f"first: runner wait {self.name}")
        to = Path(to)
        if to.exists() and not to.is_dir():
            raise ConflictError(f"{to} is not a folder", "choose another one with --to")
        try:
            self._bring_left(row)
            return self._copy_out(row, to, output)
        except OSError as error:
            raise ConflictError(
                f"cannot write {error.filename or to}: {error.strerror or error}", "choose another folder with --to"
            ) from error

    def _bring_left(self, row: RunRow) -> None:
        """First bring what was left elsewhere, since it is large; it stays in the run's folder then."""
        from runner.backends import open_backend
        from runner.backends.base import LEFT
        from runner.composer import task_key
        from runner.snapshot import COLLECTED

        kept, root = self._kept(row), self._store.root_of(row)
        target = self._store.folder(root.name).read_target()
        left = row.outcome is not None and any(LEFT in warning for warning in row.outcome.warnings)
        if kept is None or target is None or not left:
            return
        places = {name: kept / output_folder(name) for name in row.step.outputs}
        places |= {name: kept / name for name in COLLECTED}
        names = [
            name for name, place in places.items() if not artifacts.plain_folder(place) or not any(place.iterdir())
        ]
        if not names:
            return
        backend = cast("PlanBackend", open_backend(root.backend, self._store, target))
        try:
            with tempfile.TemporaryDirectory(dir=kept.parent) as aside:
                key = task_key(self._store.id, root.name, max(1, root.attempts))
                handle = backend.handle_of(key, row.path)
                for name in backend.download(handle, names, Path(aside))[0]:
                    artifacts.copy_out(Path(aside, name), places[name])
        finally:
            backend.close()

    def _copy_out(self, row: RunRow, to: Path, output: str | None) -> Sequence[str]:
        if output is not None:
            return artifacts.copy_out(self._output(row, values.identifier(output, "--output")), to)
        if (kept := self._kept(row)) is not None:
            return artifacts.copy_out(kept, to)
        return [
            f"{name}/{path}"
            for name, folder in self._pipeline_outputs(row).items()
            for path in artifacts.copy_out(folder, to / name)
        ]

    def _output(self, row: RunRow, name: str) -> Path:
        if (kept := self._kept(row)) is None:
            found = self._pipeline_outputs(row)
        else:
            found = {path.name: path for path in kept.iterdir()} if kept.is_dir() else {}
            found |= {
                each: kept / output_folder(each) for each in row.step.outputs if (kept / output_folder(each)).is_dir()
            }
        if name not in found or not found[name].is_dir():
            have = ", ".join(sorted(each for each, path in found.items() if path.is_dir())) or "none"
            raise NotFoundError(f"{self.name} has no output {name!r}", f"it has: {have}")
        return found[name]

    def _pipeline_outputs(self, row: RunRow) -> dict[str, Path]:
        """The folder of each output of a pipeline: it lies with the step that wrote it."""
        found = {}
        for name, up in self._store.plan(row).outputs.items():
            step = self._store.child(row, up.step)
            found[name] = self._store.folder(step.name).attempt(max(1, step.attempts)).output(up.output)
        return found

    def delete(self) -> None:
        """Remove the run with its log and outputs.

        Raises:
            ConflictError: it has not ended.
        """
        self._store.delete(self.row)

    def _kept(self, row: RunRow) -> Path | None:
        """The folder of all that it left; a sweep's is that of its only step. None: a pipeline's lies with its steps."""
        if row.kind == "pipeline":
            return None
        row = sweep_row(self._store, row) or row
        return self._store.folder(row.name).attempt(max(1, row.attempts)).artifacts


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


def build(libs: str | Path = "libs.yaml", *, tag: str | None = None, no_cache: bool = False, locked: bool = False,
          upgrade: Sequence[str] = (), secrets: Sequence[str] = (), push: str | None = None,
          config: str | Path | None = None,
          say: Callable[[str, str], None] | None = None) -> BuiltImage:  # fmt: skip
    """Build the image of a libs file, verify every library in it, and tag it; an unchanged file builds nothing.

    Args:
        locked: build exactly the lock, or fail. upgrade: names of packages to resolve anew, `*` for all.
        secrets: names of environment variables whose values `run` commands find as files below /run/secrets.
        push: HOST/REPOSITORY[:TAG], or "" for the registry that is set; None: only where one is set.
        config: the file to take instead of the project's runner.yaml.

    Raises:
        SpecError, BuildError, UnavailableError: nothing was tagged.
    """
    from runner.builder import Options
    from runner.builder import build as build_image

    options = Options(
        no_cache=no_cache,
        locked=locked,
        upgrade=frozenset(upgrade),
        secrets=tuple(secrets),
        push=push,
        config=None if config is None else Path(config),
        progress=say or (lambda _stage, _text: None),
    )
    return build_image(Path(libs), tag=tag, options=options)


def write_dockerfile(libs: str | Path = "libs.yaml", *, folder: str | Path, locked: bool = False,
                     upgrade: Sequence[str] = (), secrets: Sequence[str] = (),
                     say: Callable[[str, str], None] | None = None) -> Sequence[Path]:  # fmt: skip
    """Write a Dockerfile and its context that `docker build FOLDER` alone turns into the same image. See docs/eject.md.

    Raises:
        SpecError, BuildError, ConflictError, UnavailableError: nothing of an earlier one was touched.
    """
    from runner.builder import Options
    from runner.builder import write_dockerfile as write

    progress = say or (lambda _stage, _text: None)
    options = Options(locked=locked, upgrade=frozenset(upgrade), secrets=tuple(secrets), progress=progress)
    return write(Path(libs), Path(folder), options=options)


def push(image: str | None = None, target: str | None = None, *, libs: str | Path | None = None,
         config: str | Path | None = None, say: Callable[[str, str], None] | None = None) -> Pushed:  # fmt: skip
    """Push an image, or the one built of a libs file (default: `libs.yaml`), to a registry. See docs/registry.md.

    Args:
        image: its name or id on the engine.
        target: HOST/REPOSITORY[:TAG]; default: the registry that libs.yaml, RUNNER_REGISTRY or runner.yaml names.
        config: the file to take instead of the project's runner.yaml.

    Raises:
        UsageError, SpecError, ImageError, UnavailableError: it was not pushed.
    """
    from runner.builder.registry.publish import publish

    return publish(
        image, target, libs=None if libs is None else Path(libs), config=None if config is None else Path(config),
        progress=say or (lambda _stage, _text: None),
    )  # fmt: skip


def get(reference: str, home: Path | None = None) -> Run:
    """The run of that name, unique beginning of a name, or `@last`.

    Raises:
        NotFoundError: none, or more than one.
    """
    store = Store(home)
    return Run(store, store.resolve(reference).name)


def _outputs(outputs: Mapping[str, str | None] | Sequence[str]) -> dict[str, str | None]:
    from collections.abc import Mapping as Map

    named: dict[str, str | None] = dict(outputs) if isinstance(outputs, Map) else dict.fromkeys(outputs)
    return {values.identifier(name, "outputs"): folder for name, folder in named.items()}
