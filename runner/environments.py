"""From what names an environment to an image on the engine: nothing that is named is guessed, nothing is ignored."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from runner.errors import CapabilityError, ImageError, RunnerError, SpecError
from runner.job import Environment
from runner.snapshot import too_wide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from runner.docker_api.containers import Engine

    Say = Callable[[str, str], None]
    Lookup = Callable[[str], "Meant | None"]


@dataclass(frozen=True, slots=True)
class Image:
    """An image on the engine. id: `sha256:…`. name: what to show."""

    id: str
    name: str


class Meant(Protocol):
    """What runner.yaml maps a name to, one of the three."""

    @property
    def image(self) -> str | None:
        """An image's name."""

    @property
    def libs(self) -> Path | None:
        """A libs file."""

    @property
    def local(self) -> bool:
        """What the machine has."""


def beside(script: Path, image: str | None, libs: Path | None, say: Say) -> Environment | None:
    """The environment of a script alone: the image or libs file named, else libs.yaml beside it, which is said."""
    if image is not None:
        return Environment(image=image)
    if libs is None and (found := script.parent / "libs.yaml").is_file():
        libs = found
        say("libs", f"{found.name} beside the script  (--libs or --image to choose)")
    return Environment(libs=libs) if libs is not None else None


def mapped(environment: Environment | None, lookup: Lookup, *, images: bool = True) -> Environment | None:
    """The environment with what runner.yaml says for its name, or for its image, in the place of that name or image.

    Args:
        lookup: from a name to what `environments:` maps it to; None: to nothing.
        images: whether the backend runs in images; decides what the error shows to add.

    Raises:
        SpecError: a name that only Azure ML knows is not mapped; shows the line to add.
    """
    if environment is None or environment.local:
        return environment
    name = environment.reference or environment.image
    found = lookup(name) if name is not None else None
    if found is None:
        if environment.reference is not None:
            raise _unmapped(environment, images=images)
        return environment
    if environment.conda is None or found.local:
        return Environment(image=found.image, libs=found.libs, local=found.local, where=environment.where)
    if found.image is None:
        raise environment.where.error(
            f"{name} is mapped to a libs file, and conda_file goes on top of an image",
            f"map it to an image: environments: {{{json.dumps(name, ensure_ascii=False)}: {{image: …}}}}",
        )
    return replace(environment, image=found.image)


def check_local(environment: Environment | None) -> None:
    """Refuse what a backend without images cannot give: an environment that is named and not mapped to `local: true`.

    Raises:
        SpecError: with the line of runner.yaml that has it run on this machine as it is.
    """
    if environment is not None and not environment.local:
        raise environment.where.error(f"{shown(environment)}: backend process runs in no image", _way_out(environment))


def _way_out(environment: Environment) -> str:
    name = environment.reference or environment.image
    if name is None:
        return "--backend docker, or install what it holds on this machine and leave it out"
    return f"--backend docker, or in runner.yaml: environments: {{{json.dumps(name, ensure_ascii=False)}: {{local: true}}}}"


def shown(environment: Environment) -> str:
    """What names it, in a few words."""
    named = environment.reference or environment.image or environment.libs or environment.context
    return str(named) if named is not None else "the environment"


def resolve(environment: Environment | None, say: Say, *, build: bool) -> Image:
    """The image of one environment: there, or pulled or built now. None: the default image with Python and R.

    Args:
        say: receives (kind, text) for what was found and done; a text that ends in `…` is movement.
        build: False only looks: what is not on the engine is an error.

    Raises:
        SpecError: what is named is not there or wrong.
        CapabilityError, ImageError: it is not on the engine, and `build` is False; or it cannot be pulled.
        BuildError: it cannot be built.
        UnavailableError: no engine answers.
    """
    return resolve_all([environment], say, build=build)[0]


def resolve_all(environments: Sequence[Environment | None], say: Say, *, build: bool) -> list[Image]:
    """The images of these, in their order; equal ones are looked at once. All are checked before the first is built.

    Raises:
        RunnerError: as `resolve`. Of several problems that can be told at once: one SpecError that lists them.
    """
    from runner.docker_api.containers import Engine

    distinct: list[Environment | None] = []
    for environment in environments:
        if environment not in distinct:  # an inline conda file cannot be hashed
            distinct.append(environment)
    _check(distinct)
    engine = Engine()
    try:
        images = [_image(engine, environment, say, build=build) for environment in distinct]
    finally:
        engine.close()
    return [images[distinct.index(environment)] for environment in environments]


# -- checks ---------------------------------------------------------------------------------------------------------


def _check(environments: Sequence[Environment | None]) -> None:
    problems: list[RunnerError] = []
    for environment in environments:
        try:
            _check_one(environment)
        except RunnerError as error:
            problems.append(error)
    if len(problems) > 1:
        lines = [line for error in problems for line in str(error).splitlines()]
        raise SpecError(f"{len(problems)} environments cannot be used", *lines)
    if problems:
        raise problems[0]


def _check_one(environment: Environment | None) -> None:
    if environment is None:
        return
    where = environment.where
    if environment.local:
        raise CapabilityError(
            f"{where}: local: true is for the backend process"
            if str(where)
            else "local: true is for the backend process",
            "map the environment to an image or a libs file in runner.yaml, or run with --backend process",
        )
    if environment.reference is not None:
        raise _unmapped(environment, images=True)
    if environment.libs is not None and not environment.libs.is_file():
        raise where.error(f"no such libs file: {environment.libs}")
    if environment.conda is not None and environment.image is None:
        raise where.error("conda_file without an image", "add the image that it goes on top of: image: …")
    if environment.image is not None and environment.conda is not None:
        from runner.builder.onto import libs_of

        libs_of(environment.image, environment.conda, where)
    if environment.context is not None:
        from runner.docker_api.context import read

        if wide := too_wide(environment.context.resolve()):
            raise where.error(f"the build context is {wide}, and all of it would be sent", "name a folder in it")
        read(environment.context, environment.dockerfile, where)


def _unmapped(environment: Environment, *, images: bool) -> SpecError:
    name = environment.reference
    example = "{libs: libs.yaml}" if images else "{local: true}"
    return environment.where.error(
        f"{name} is not mapped",
        f"runner.yaml: environments: {{{json.dumps(name, ensure_ascii=False)}: {example}}}",
    )


# -- images ---------------------------------------------------------------------------------------------------------


def _image(engine: Engine, environment: Environment | None, say: Say, *, build: bool) -> Image:
    if environment is None:
        return _built(engine, None, say, build=build)
    if environment.libs is not None:
        return _built(engine, environment.libs, say, build=build)
    if environment.context is not None:
        return _of_context(engine, environment, environment.context, say, build=build)
    if environment.image is None:
        raise environment.where.error("the environment names no image", "expected image, build, conda_file or libs")
    if environment.conda is None:
        return _given(engine, environment.image, say, pull=build)
    from runner.builder.onto import libs_of, told_of

    libs = libs_of(environment.image, environment.conda, environment.where)
    with told_of(libs, environment.conda, environment.where):
        return _built(engine, libs, say, build=build, called=f"conda packages on {environment.image}")


def _given(engine: Engine, reference: str, say: Say, *, pull: bool) -> Image:
    found = engine.image(reference)
    if found is None and pull:
        from runner.docker_api.images import pull as pull_image

        pull_image(reference, progress=say)
        found = engine.image(reference)
    if found is None:
        raise ImageError(f"the image {reference} is not on this machine", "leave --dry-run out to have it pulled")
    return Image(found.id, reference)


def _built(engine: Engine, libs: Path | None, say: Say, *, build: bool, called: str | None = None) -> Image:
    """The image of a libs file. called: how to name one that the user has not written."""
    from runner.builder import content_tag, default_libs

    path = libs or default_libs()
    name = called or ("default image" if libs is None else path.name)
    tag = content_tag(path)
    found = engine.image(tag)
    if found is not None:
        say("image", f"{tag}  {found.id[:19]}…  ({name if libs is None else f'{name} unchanged'})")
        return Image(found.id, tag)
    if not build:
        hint = "leave --dry-run out to have it built" if called else f"runner build --libs {path}"
        raise CapabilityError(f"the image of {called or path} has not been built yet", hint)
    if libs is None:
        say("image", "building the default Python + R image, once")
    from runner.builder import Options
    from runner.builder import build as build_image

    image = build_image(path, options=Options(progress=say, publish=False))
    return Image(image.id, image.tag)


def _of_context(engine: Engine, environment: Environment, folder: Path, say: Say, *, build: bool) -> Image:
    from runner.builder.dockerfile import build_context, context_tag
    from runner.docker_api.context import read

    context = read(folder, environment.dockerfile, environment.where)
    tag = context_tag(context)
    found = engine.image(tag)
    if found is not None:
        say("image", f"{tag}  {found.id[:19]}…  ({folder.name}/{context.dockerfile} unchanged)")
        return Image(found.id, tag)
    if not build:
        raise CapabilityError(f"the image of {folder} has not been built yet", "leave --dry-run out to have it built")
    say("image", f"building {folder / context.dockerfile}")
    return Image(build_context(context, tag, say), tag)
