"""`build`: from a libs file to a verified image, by the shortest way there is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.assets import asset
from runner.builder.recipe import content_tag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.builder.verify import Library
    from runner.docker_api.images import Engine, Image


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A verified image. id: `sha256:…`. added_bytes: beyond the layers that were there before. built: False when nothing
    had to be done. log: the full build log, None when nothing was built."""

    id: str
    tag: str
    name: str
    size_bytes: int
    added_bytes: int
    built: bool
    libraries: tuple[Library, ...]
    seconds: float
    log: Path | None


def default_libs() -> Path:
    """The libs file of the image for scripts that have none."""
    return asset("images") / "python-r" / "libs.yaml"


def build(
    libs: Path,
    *,
    tag: str | None = None,
    no_cache: bool = False,
    progress: Callable[[str, str], None] = lambda _stage, _text: None,
    log: Path | None = None,
) -> BuiltImage:
    """Make the image of a libs file, or find it: the same content builds nothing.

    Args:
        libs: the file.
        tag: a further name for the image.
        no_cache: build every layer anew (downloads are still cached).
        progress: called with a stage (base, resolve, python, r, apt, pip, verify) and a text. A text that ends in `…` is
            movement, to be overwritten by what follows; any other is a thing that happened.
        log: where the full log goes; default: a new file in the cache folder.

    Raises:
        SpecError: the file, or a package that it names, is wrong.
        BuildError: the image could not be built; nothing was tagged, no container is left.
        UnavailableError: no container engine.
    """
    started = time.monotonic()
    name = content_tag(libs)
    from runner.docker_api.images import connect, look_up

    image = None if no_cache else look_up(name)
    found = None
    if image is None or tag is not None:
        engine = connect()
        try:
            if image is None:
                found = _build(engine, libs, name, no_cache=no_cache, progress=progress, log=log)
                image = found.image
            if tag is not None:
                engine.tag(image.id, tag)
        finally:
            engine.close()
    return _result(image, name, tag, found, time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Found:
    """An image after `_build`. log: None when another build had made it meanwhile."""

    image: Image
    added_bytes: int = 0
    log: Path | None = None


def _build(
    engine: Engine, libs: Path, name: str, *, no_cache: bool, progress: Callable[[str, str], None], log: Path | None
) -> _Found:
    from runner.builder import base, cache, session
    from runner.builder.layers import Chain
    from runner.builder.recipe import plan
    from runner.builder.verify import finish
    from runner.docker_api.images import is_local
    from runner.docker_api.wire import docker_host
    from runner.errors import BuildError
    from runner.spec.libs import load

    spec = load(libs)
    if not is_local(docker_host()):
        raise BuildError(
            f"images are built by an engine of this machine only; this one is at {docker_host()}",
            "build where that engine runs, or unset DOCKER_HOST",
        )
    with cache.building(lambda: progress("base", "waiting for another build …")):
        if not no_cache and (image := engine.inspect(name)):
            return _Found(image)
        engine.remove_stale()
        bundle = session.ca_bundle(spec.ca_bundle)
        with session.opened(engine, progress, spec.name, log=log, ca_bundle=bundle, no_cache=no_cache) as place:
            start = base.ensure(place, spec)
            before, last = Chain(place, spec, start, plan(spec, start.id)).build()
            final = finish(place, spec, last, name)
            return _Found(final, final.size_bytes - before.size_bytes, place.log_path)


def _result(image: Image, name: str, tag: str | None, found: _Found | None, seconds: float) -> BuiltImage:
    from runner.builder.verify import libraries_of

    return BuiltImage(
        id=image.id,
        tag=tag or name,
        name=name.removeprefix("localhost/").rsplit(":", 1)[0],
        size_bytes=image.size_bytes,
        added_bytes=found.added_bytes if found else 0,
        built=bool(found and found.log),
        libraries=libraries_of(image),
        seconds=seconds,
        log=found.log if found else None,
    )
