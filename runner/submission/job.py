"""From a job to a prepared run: every name in it resolved, everything that cannot be done told at once, then images, code
and data brought into place. Nothing starts before all of that has succeeded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner import codes, data, environments, registered
from runner.data.mltable import evaluated
from runner.drafts import drafts
from runner.errors import SpecError, UsageError
from runner.job import DataType, Graph, Job, Mode, Sweep
from runner.model import Step
from runner.plan import Plan, PlanStep, Pool
from runner.spec import azureobject, names
from runner.spec import config as configuration
from runner.submission import elsewhere, images, refusing
from runner.submission.accepting import WHOLE, CodeFolder, Prepared
from runner.submission.choices import (
    Asked,
    check_arguments,
    check_limits,
    check_registry,
    check_vaulted,
    choose_backend,
    opened,
)
from runner.submission.resuming import begun_at
from runner.submission.settling import Settled, settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.backends.base import Backend
    from runner.data import Place
    from runner.drafts import Drafts
    from runner.job import Code, Component
    from runner.spec.config import Config
    from runner.spec.mappings import Compute
    from runner.store import Store
    from runner.submission.accepting import Say


_NOT_FETCHED = Path("/not-fetched")
"""Where a preview shows data that would be fetched: its path in the cache depends on its content."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job, what its names mean, and what the user said beside it.

    compute: where all of it is to run. begin_at: the step before which everything is taken over from the last run.
    vaulted, target, registry: as of `runner.submission.script.Request`.
    """

    job: Job
    config: Config
    backend: str | None = None
    compute: str | None = None
    name: str | None = None
    experiment: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    force_rerun: bool = False
    begin_at: str | None = None
    vaulted: Mapping[str, str] = field(default_factory=dict)
    target: Mapping[str, str] | None = None
    registry: str | None = None


def loaded(
    job: Job | str | Path | object,
    sets: Sequence[tuple[str, str]],
    store: Store,
    environ: Mapping[str, str],
    config: Path | None = None,
) -> tuple[Job, Config]:
    """A job with other values, and the settings that hold where it is.

    Args:
        job: one that is there already; a file; `pipeline:NAME[@VERSION]`, which was registered; or one that was made
            with azure-ai-ml.
        sets: dotted key → value as typed.
        config: the file to take instead of the project's runner.yaml.

    Raises:
        SpecError: anything wrong in a file, with line and key. NotFoundError, UsageError: as `runner.registered.load`.
    """
    if isinstance(job, Job):
        if sets:
            raise UsageError("a job made in Python takes no --set", "give the values where it is made")
        return job, configuration.load(job.file.parent if job.file else Path.cwd(), environ, config)
    if azureobject.is_one(job):
        settings = configuration.load(Path.cwd(), environ, config)
        return azureobject.read(job, sets, lambda reference: names.component(settings, reference)), settings
    if str(job).startswith(registered.PREFIX):
        return registered.load(store, str(job), sets), configuration.load(Path.cwd(), environ, config)
    from runner.spec.job import load

    path = Path(str(job))
    settings = configuration.load(path.absolute().parent, environ, config)
    return load(path, sets, components=lambda reference: names.component(settings, reference)), settings


def prepare(request: JobRequest, store: Store, say: Say, *, build: bool = True) -> Prepared:
    """Take every decision, and refuse what cannot be done. Fetches data, and pulls or builds images, if `build`.

    Raises:
        CapabilityError: the backend cannot do something of it; all of that is listed.
        RunnerError: of the family that fits; nothing was started, nothing recorded.
    """
    job = request.job
    name = _backend(request, say)
    start = job.file.parent if job.file else Path.cwd()
    backend, target = opened(Asked(name, request.target, lambda: request.config, start), store, say)
    try:
        remote = backend.capabilities.remote
        for warning in job.warnings:
            if not remote or "has no effect" not in warning:
                say("note", warning)
        for text in elsewhere.notes(job) if remote else ():
            say("note", text)
        check_vaulted(request.vaulted, backend)
        check_registry(request.registry, backend)
        found, settled = _settled(request, backend)
        make = _steps_elsewhere if remote else _steps
        steps = make(request, settled, backend, store, say, build=build)
    finally:
        backend.close()
    prepared = replace(_prepared(request, found, settled, steps, name), target=target)
    if remote and prepared.plan is not None and isinstance(job.component, Graph):
        shown = None if request.name else job.display_name
        native = elsewhere.around(job, shown, prepared.description, prepared.tags)
        prepared = replace(prepared, plan=replace(prepared.plan, native=native))
    if request.begin_at is None:
        return prepared
    if prepared.plan is None:
        raise UsageError("--from belongs to a pipeline, and this job is one step")
    plan = begun_at(
        store, prepared.plan, experiment=prepared.experiment, title=prepared.title, from_step=request.begin_at
    )
    return replace(prepared, plan=plan)


def _settled(request: JobRequest, backend: Backend) -> tuple[Drafts, list[Settled]]:
    """The steps of the job, and what their names mean.

    Raises:
        CapabilityError: listing all that is in the way.
    """
    job, remote = request.job, backend.capabilities.remote
    faults = [refusing.of_problem(each) for each in (elsewhere.problems(job) if remote else job.problems)]
    if faults and not remote:
        raise refusing.refusal(job, backend.name, faults)
    try:
        found = drafts(job, foreign=remote)
    except SpecError:
        if faults:  # of which it is a consequence
            raise refusing.refusal(job, backend.name, faults) from None
        raise
    return found, settle(request, found, backend, faults)


@dataclass(frozen=True, slots=True)
class _Steps:
    """What the plan is made of. codes: by the digest of their content. image_names: image id → what to call it."""

    steps: tuple[PlanStep, ...]
    codes: Mapping[str, codes.Taken]
    image_names: Mapping[str, str]


# -- decisions ------------------------------------------------------------------------------------------------------


def _backend(request: JobRequest, say: Say) -> str:
    """--backend; else what runner.yaml says of the job's computes; else as for scripts.

    A `compute:` inside a file never by itself sends work to a cloud.
    """
    if request.backend is None and request.compute is None:
        known = {name: names.compute(request.config, name) for name in _computes(request.job)}
        chosen = {each.backend: name for name, each in known.items() if each is not None and each.backend is not None}
        if len(chosen) > 1:
            told = ", ".join(f"{name} on {backend}" for backend, name in chosen.items())
            raise UsageError(
                f"runner.yaml puts computes of this job on different backends: {told}", "choose one: --backend"
            )
        for backend, name in chosen.items():
            say("backend", f"{backend}   (runner.yaml: computes: {name}; --backend to choose)")
            return str(backend)
    return choose_backend(request.backend, request.compute, say)


def _computes(job: Job) -> set[str]:
    found = {job.compute} if job.compute else set()
    waiting: list[Component] = [job.component]
    while waiting:
        component = waiting.pop()
        if isinstance(component, Graph):
            found |= {each for each in (component.settings.default_compute,) if each}
            found |= {node.compute for node in component.nodes.values() if node.compute}
            waiting += [node.component for node in component.nodes.values()]
    return found


# -- bringing into place --------------------------------------------------------------------------------------------


def _steps(
    request: JobRequest, settled: Sequence[Settled], backend: Backend, store: Store, say: Say, *, build: bool
) -> _Steps:
    """Fetch, build, read: each thing once, however many steps use it."""
    taken = _codes(settled, store, say)
    images: Sequence[environments.Image | None] = [None] * len(settled)
    if backend.capabilities.images:
        images = environments.resolve_all([each.environment for each in settled], say, build=build)
    fetched = _fetched(request, settled, store, say, fetch=build)
    made = [
        _plan_step(request, each, fetched, taken, image.id if image else None)
        for each, image in zip(settled, images, strict=True)
    ]
    return _Steps(
        tuple(made),
        dict(taken.values()),
        {image.id: image.name for image in images if image is not None},
    )


def _steps_elsewhere(
    request: JobRequest, settled: Sequence[Settled], backend: Backend, store: Store, say: Say, *, build: bool
) -> _Steps:
    """Build, push, read: each thing once. Data stays where it is; what is of this machine is uploaded with the job."""
    taken = _codes(settled, store, say)
    pushing = images.Pushing(
        request.registry, images.registry_of(backend), request.config, store.cache / "contexts", say, build
    )
    ours = [each for each in settled if each.draft.foreign is None]
    wanted = [images.stays(each.environment, request.config, say) for each in ours]
    if build:
        environments_there = {each.draft.name: images.named_there(of) for each, of in zip(ours, wanted, strict=True)}
        elsewhere.check(backend, [
            Step(each.draft.name, (), remote=replace(each.remote, environment=environments_there.get(each.draft.name)))
            for each in settled if each.remote is not None
        ])  # fmt: skip
    named = dict(zip((each.draft.name for each in ours), images.resolve_all(wanted, pushing), strict=True))
    environs = [named.get(each.draft.name) for each in settled]
    made = [_step_elsewhere(request, each, taken, of) for each, of in zip(settled, environs, strict=True)]
    shown = {images.reference(each): each.shown for each in environs if each is not None}
    return _Steps(tuple(made), dict(taken.values()), shown)


def _step_elsewhere(
    request: JobRequest,
    each: Settled,
    taken: Mapping[Code, tuple[str, codes.Taken]],
    environs: images.Environs | None,
) -> PlanStep:
    draft, command, remote = each.draft, each.draft.command, each.remote
    assert remote is not None  # noqa: S101 - the backend is remote
    step = Step(
        name=draft.name.rpartition(".")[2],
        argv=draft.argv,
        image=images.reference(environs) if environs is not None else None,
        env=dict(command.variables),
        inputs={name: str(given["path"]) for name, given in remote.inputs.items() if "path" in given},
        outputs=dict.fromkeys(draft.outputs),
        secrets=tuple(request.secrets),
        limits=each.limits,
        retry=command.retry,
        parameters=draft.parameters,
        files=tuple(name for name, output in draft.outputs.items() if output.type is DataType.URI_FILE),
        remote=replace(remote, environment=environs.member) if environs is not None else remote,
    )
    check_limits(step)
    check_arguments(step)
    return PlanStep(
        name=draft.name,
        step=step,
        upstream=draft.upstream,
        code=taken[command.code][0] if command.code else None,
        compute=remote.compute,
        reusable=command.deterministic,
        sweep=draft.sweep,
        display_name=draft.display_name,
    )


def _codes(settled: Sequence[Settled], store: Store, say: Say) -> dict[Code, tuple[str, codes.Taken]]:
    """The code of all steps, each with the digest of its content."""
    wanted = list(dict.fromkeys(code for each in settled if (code := each.draft.command.code) is not None))
    found = codes.take_all(wanted, store.cache, without=store.home)
    for note in dict.fromkeys(note for each in found for note in each.notes):
        say("note", note)
    return {code: (codes.digest(each.snapshot, each.folder), each) for code, each in zip(wanted, found, strict=True)}


def _fetched(
    request: JobRequest, settled: Sequence[Settled], store: Store, say: Say, *, fetch: bool
) -> dict[tuple[str, Mode, bool | None], Path]:
    found: dict[tuple[str, Mode, bool | None], Path] = {}
    for each in settled:
        for name, place in each.places.items():
            key = _wanted(each, name)
            if key in found or _passed_on(place, key[1]):
                continue
            if not fetch and place.path is None:
                say("data", f"{place}: not fetched, as nothing is started")
                found[key] = _NOT_FETCHED / place.name
            else:
                path = data.fetch(place, store.cache / "data", lambda text: say("data", text), folder=key[2])
                if key[1] in {Mode.EVAL_MOUNT, Mode.EVAL_DOWNLOAD}:
                    path = evaluated(path, request.config, store.cache / "data", lambda text: say("data", text))
                found[key] = path
    return found


def _wanted(each: Settled, name: str) -> tuple[str, Mode, bool | None]:
    """What makes two inputs the same: the place, the mode, and whether a folder or a file is wanted (None: either)."""
    declared = each.draft.command.inputs.get(name)
    kind = each.draft.data[name].data.type or (declared.type if declared else None)
    folder = {DataType.URI_FILE: False, DataType.URI_FOLDER: True, DataType.MLTABLE: True}.get(kind) if kind else None
    return each.places[name].uri, each.draft.data[name].mode, folder


def _passed_on(place: Place, mode: Mode) -> bool:
    """A URL of mode direct: the script reads it itself."""
    return mode is Mode.DIRECT and place.path is None


def _plan_step(
    request: JobRequest,
    each: Settled,
    fetched: Mapping[tuple[str, Mode, bool | None], Path],
    taken: Mapping[Code, tuple[str, codes.Taken]],
    image: str | None,
) -> PlanStep:
    draft, command = each.draft, each.draft.command
    modes = {name: draft.data[name].mode for name in each.places}
    direct = {name: place.url for name, place in each.places.items() if _passed_on(place, modes[name])}
    inputs = {name: str(fetched[_wanted(each, name)]) for name in each.places if name not in direct}
    step = Step(
        name=draft.name.rpartition(".")[2],
        argv=draft.argv,
        image=image,
        env=dict(command.variables),
        inputs=inputs,
        outputs=dict.fromkeys(command.outputs),
        secrets=tuple(request.secrets),
        limits=each.limits,
        retry=command.retry,
        parameters={**draft.parameters, **direct},
        files=tuple(name for name, output in command.outputs.items() if output.type is DataType.URI_FILE),
        # What was fetched is shared with other runs through the cache, so nobody writes to it.
        writable=tuple(name for name in inputs if modes[name] is Mode.RW_MOUNT and each.places[name].path is not None),
        publish=each.publish,
    )
    check_limits(step)
    check_arguments(step)
    return PlanStep(
        name=draft.name,
        step=step,
        upstream=draft.upstream,
        code=taken[command.code][0] if command.code else None,
        compute=request.compute or draft.compute,
        reusable=command.deterministic,
        sweep=draft.sweep,
        display_name=draft.display_name,
    )


# -- the whole ------------------------------------------------------------------------------------------------------


def _prepared(request: JobRequest, found: Drafts, settled: Sequence[Settled], made: _Steps, backend: str) -> Prepared:
    job = request.job
    title = job.display_name or (job.file.name if job.file else "job")
    experiment = request.experiment or job.experiment or (job.file.parent.name if job.file else "") or "default"
    if not made.steps:
        raise SpecError("the pipeline has no steps", key="jobs", file=str(job.file or "the job"))
    first, single = made.steps[0], found.single
    code = {key: CodeFolder(each.folder, each.snapshot) for key, each in made.codes.items()}
    plan = None if single else Plan(
        made.steps, found.outputs, bool(found.settings.continue_on_step_failure),
        request.force_rerun or bool(found.settings.force_rerun), dict(_pools(request, settled)), {key: key for key in code},
    )  # fmt: skip
    return Prepared(
        title=title,
        step=first.step if single else Step(title, (title,), secrets=tuple(request.secrets)),
        backend=backend,
        image_names=made.image_names,
        codes={WHOLE: code[first.code]} if single and first.code is not None else code,
        experiment=experiment,
        plan=plan,
        kind="script" if single else ("sweep" if isinstance(job.component, Sweep) else "pipeline"),
        name=request.name or job.name,
        description=request.description or job.description,
        tags={**job.tags, **request.tags},
        secrets=request.secrets,
    )


def _pools(request: JobRequest, settled: Sequence[Settled]) -> Iterator[tuple[str, Pool]]:
    for each in settled:
        name = request.compute or each.draft.compute
        if name is not None and each.compute is not None:
            yield name, _pool(each.compute)


def _pool(compute: Compute) -> Pool:
    """A compute is so many machines of its size, each of which runs one step at a time; without a size it is this one."""
    if compute.cpus is None and compute.memory_bytes is None:
        return Pool(instances=compute.instances)
    count = compute.instances or 1
    return Pool(
        cpus=None if compute.cpus is None else compute.cpus * count,
        memory_bytes=None if compute.memory_bytes is None else compute.memory_bytes * count,
        instances=count,
    )
