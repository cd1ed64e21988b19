"""Environments as a backend elsewhere takes them: names untouched, images as they are called, libraries built here, pushed,
and named by digest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import environments
from runner.errors import SpecError, UnavailableError, UsageError
from runner.snapshot import too_wide
from runner.spec import names
from runner.submission.choices import ENGINES_OWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.backends.base import Backend
    from runner.builder.registry.publish import Destination
    from runner.docker_api.images import Engine
    from runner.docker_api.images import Image as EngineImage
    from runner.job import Environment
    from runner.spec.config import Config
    from runner.submission.accepting import Say

PLATFORM = "linux/amd64"
"""What computes of Azure ML are."""
_WORKSPACE = "REGISTRY-OF-THE-WORKSPACE"
"""Stands for it in a preview, which asks nobody."""


@dataclass(frozen=True, slots=True)
class Environs:
    """member: as `Remote.environment`. shown: what names it, in a few words."""

    member: str | Mapping[str, Any]
    shown: str


@dataclass(frozen=True, slots=True)
class Pushing:
    """Where images go, and whether anything is built and sent at all.

    registry: HOST[/PATH] that was asked for; else libs.yaml, RUNNER_REGISTRY, runner.yaml, and what `default` tells.
    config: the settings that hold where the job is. contexts: where Dockerfiles are written that the service is to build
    itself, when there is no engine here. build: False: nothing is built, sent, or asked over a network.
    """

    registry: str | None
    default: Callable[[], str | None]
    config: Config
    contexts: Path
    say: Say
    build: bool


def registry_of(backend: Backend) -> Callable[[], str | None]:
    """What tells the registry that belongs to where the backend runs, asked only when nothing else says one."""
    return getattr(backend, "registry", lambda: None)


def reference(environs: Environs) -> str:
    """The image by its reference where there is one; else what names the environment."""
    if isinstance(environs.member, str):
        return environs.member
    return str(environs.member["image"]) if set(environs.member) == {"image"} else environs.shown


def stays(environment: Environment | None, config: Config, say: Say) -> Environment | None:
    """An environment that is named, with what runner.yaml says of it where that is a libs file: everything else there is
    for local backends, and the name means the service's own."""
    name = environment.reference if environment is not None else None
    found = names.environment(config, name) if name is not None else None
    if environment is None or found is None:
        return environment
    if found.libs is not None:
        return replace(environment, reference=None, libs=found.libs)
    say("note", f"{name} is the workspace's own here; what runner.yaml maps it to is for local backends")
    return environment


def resolve_all(wanted: Sequence[Environment | None], pushing: Pushing) -> list[Environs]:
    """These as the service takes them, in their order; equal ones are made once.

    Raises:
        SpecError: a file is missing, or wrong.
        UsageError: nothing says where an image is pushed to.
        BuildError, ImageError: it cannot be built, or pushed. UnavailableError: no engine.
    """
    distinct: list[Environment | None] = []
    for each in wanted:
        if each not in distinct:  # an inline conda file cannot be hashed
            distinct.append(each)
    for each in distinct:
        _check(each)
    made = [_one(each, pushing) for each in distinct]
    return [made[distinct.index(each)] for each in wanted]


def _check(environment: Environment | None) -> None:
    if environment is None:
        return
    where = environment.where
    if environment.libs is not None and not environment.libs.is_file():
        raise where.error(f"no such libs file: {environment.libs}")
    if isinstance(environment.conda, Path) and not environment.conda.is_file():
        raise where.error(f"no such conda file: {environment.conda}")
    if environment.conda is not None and environment.image is None:
        raise where.error("conda_file without an image", "add the image that it goes on top of: image: …")
    if environment.context is not None:
        if wide := too_wide(environment.context.resolve()):
            raise where.error(f"the build context is {wide}, and all of it would be sent", "name a folder in it")
        if not (environment.context / (environment.dockerfile or "Dockerfile")).is_file():
            raise where.error(f"{environment.context} holds no {environment.dockerfile or 'Dockerfile'}")


def named_there(environment: Environment | None) -> str | None:
    """The service's own name of an environment, `--image azureml:…` of a script too; None: it is no such."""
    if environment is None or environment.reference is not None:
        return environment.reference if environment is not None else None
    return environment.image if (environment.image or "").startswith("azureml:") else None


def _one(environment: Environment | None, pushing: Pushing) -> Environs:
    if environment is None or environment.libs is not None:
        return _of_libs(environment.libs if environment is not None else None, pushing)
    shown = environments.shown(environment)
    if (named := named_there(environment)) is not None:
        return Environs(named, shown)
    if environment.context is not None:
        build = {"path": str(environment.context.resolve()), "dockerfile_path": environment.dockerfile or "Dockerfile"}
        return Environs({"build": build}, shown)
    if environment.image is None:
        raise environment.where.error("the environment names no image", "expected image, build, conda_file or libs")
    if environment.conda is not None:
        conda = str(environment.conda) if isinstance(environment.conda, Path) else dict(environment.conda)
        return Environs({"image": environment.image, "conda_file": conda}, f"conda packages on {shown}")
    if environment.image.startswith(ENGINES_OWN):
        return _of_engine(environment.image, pushing)
    return Environs({"image": environment.image}, shown)


# -- built here -----------------------------------------------------------------------------------------------------


def _of_libs(libs: Path | None, pushing: Pushing) -> Environs:
    from runner.builder import content_tag, default_libs

    path = libs or default_libs()
    shown = "default image" if libs is None else path.name
    tag = content_tag(path)
    if not pushing.build:
        return _preview(tag, path if libs is not None else None, shown, pushing)
    where = _destination(tag, libs, pushing)
    from runner.builder import Options
    from runner.builder import build as build_image
    from runner.docker_api.images import connect

    try:
        engine = connect()
    except UnavailableError as error:
        return _built_there(path, tag, shown, pushing, error)
    try:
        built = build_image(path, options=Options(progress=pushing.say, publish=False, platform=PLATFORM))
        # The lock may be new, and with it the name.
        where = where if built.tag == tag else _destination(built.tag, libs, pushing)
        there = engine.inspect(built.id)
        assert there is not None  # noqa: S101 - it has just been built
        return Environs({"image": _pushed(engine, there, where, pushing)}, shown)
    finally:
        engine.close()


def _built_there(libs: Path, tag: str, shown: str, pushing: Pushing, missing: UnavailableError) -> Environs:
    """Without an engine: the lock as a Dockerfile with its context, which the service builds."""
    from runner.builder import write_locked

    folder = pushing.contexts / tag.rpartition(":")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_locked(libs, folder)
    except (SpecError, OSError) as error:
        raise UnavailableError(
            f"the image of {shown} is built by an engine of this machine, and none answers: {missing.message}",
            "start Docker; or name an image that is in a registry: --image REF, environment: {image: REF}",
            "or an environment of the workspace: environment: azureml:NAME@latest",
            f"nor can the service build it: {error}",
        ) from None
    pushing.say("image", f"no engine here: the service itself builds the image of {shown} ({folder})")
    return Environs({"build": {"path": str(folder), "dockerfile_path": "Dockerfile"}}, shown)


def _of_engine(reference: str, pushing: Pushing) -> Environs:
    """An image that only this machine's engine has."""
    if not pushing.build:
        return _preview(reference, None, reference, pushing)
    from runner.docker_api.images import connect
    from runner.errors import ImageError

    engine = connect()
    try:
        there = engine.inspect(reference)
        if there is None:
            raise ImageError(f"the engine has no image {reference}", "see: runner image list")
        name = next((each for each in there.names if each.startswith("localhost/")), reference)
        where = _destination(name, None, pushing)
        return Environs({"image": _pushed(engine, there, where, pushing)}, reference)
    finally:
        engine.close()


def _pushed(engine: Engine, image: EngineImage, where: Destination, pushing: Pushing) -> str:
    from runner.builder.registry.push import push

    return push(engine, image, where.target, auth=where.auth, progress=pushing.say).by_digest


def _preview(tag: str, libs: Path | None, shown: str, pushing: Pushing) -> Environs:
    where = _settings(tag, libs, pushing, pushing.registry)
    reference = where.target.reference if where else f"{_WORKSPACE}/{tag.removeprefix('localhost/')}"
    pushing.say("image", f"{reference}: not pushed, as nothing is started; it will be named by its digest")
    return Environs({"image": reference}, shown)


def _destination(tag: str, libs: Path | None, pushing: Pushing) -> Destination:
    """Where an image goes, by all settings.

    Raises:
        UsageError: nothing says so.
    """
    found = _settings(tag, libs, pushing, pushing.registry)
    if found is None and (own := pushing.default()) is not None:
        found = _settings(tag, libs, pushing, own)
    if found is None:
        raise UsageError(
            "nothing says which registry the image is pushed to, and the workspace has none of its own",
            "name it: --registry HOST/PATH, RUNNER_REGISTRY=HOST/PATH, or `registry: HOST/PATH` in runner.yaml",
        )
    return found


def _settings(tag: str, libs: Path | None, pushing: Pushing, registry: str | None) -> Destination | None:
    from runner.builder.registry.publish import destination_for

    return destination_for(tag, libs, pushing.config, registry=registry)
