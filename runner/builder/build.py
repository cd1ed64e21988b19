"""`build`: from a libs file to a lock, and from the lock to a verified image, by the shortest way there is."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.assets import asset
from runner.builder.recipe import Content, content, content_tag, lock_path
from runner.errors import BuildError, SpecError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.builder.locking import Start
    from runner.builder.registry.push import Pushed
    from runner.builder.session import Session
    from runner.builder.verify import Library
    from runner.docker_api.images import Engine, Image
    from runner.spec.libs import Libs


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A verified image. id: `sha256:…`. added_bytes: beyond the layers that were there before. built: False when nothing
    had to be done. log: the full build log, None when nothing was built. lock: the file that says exactly what is in it."""

    id: str
    tag: str
    name: str
    size_bytes: int
    added_bytes: int
    built: bool
    libraries: tuple[Library, ...]
    seconds: float
    log: Path | None
    lock: Path
    pushed: Pushed | None = None
    """Where it is in a registry, when it was pushed."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to build.

    no_cache: every layer anew (downloads are still cached). locked: exactly the lock, or fail.
    upgrade: names of packages to resolve anew, `*` for all.
    secrets: variables of the environment whose values `run` commands find in files.
    platform: that the image must have, `linux/amd64`; None: the engine's, or what the registry that it goes to wants.
    push: where to, HOST/REPOSITORY[:TAG]; "" for the registry that is set; None: only if one is set.
    publish: False never pushes. config: the runner.yaml to take.
    """

    no_cache: bool = False
    locked: bool = False
    upgrade: frozenset[str] = frozenset()
    secrets: tuple[str, ...] = ()
    platform: str | None = None
    push: str | None = None
    publish: bool = True
    config: Path | None = None
    log: Path | None = None
    progress: Callable[[str, str], None] = field(default=lambda _stage, _text: None)


def default_libs() -> Path:
    """The libs file of the image for scripts that have none."""
    return asset("images") / "python-r" / "libs.yaml"


def build(libs: Path, *, tag: str | None = None, options: Options | None = None) -> BuiltImage:
    """Make the image of a libs file, or find it: the same content and lock build nothing.

    Args:
        libs: the file; requirements.txt, environment.yml and renv.lock are taken as they are.
        tag: a further name for the image.
        options: `progress` is called with a stage (base, resolve, python, r, apt, conda, pip, run, verify) and a text. One
            that ends in `…` is movement, to be overwritten by what follows; any other is a thing that happened.

    Raises:
        UsageError: a secret that is not set, a package to upgrade that there is not, a tag that is none.
        SpecError: the file, or a package that it names, is wrong; or it has moved on from its lock, under `locked`.
        BuildError: the image could not be built; nothing was tagged, no container is left.
        UnavailableError: no container engine.
    """
    started = time.monotonic()
    options = options or Options()
    _check_secrets(options.secrets)
    if tag is not None:
        _check_tag(tag)
    if options.locked and options.upgrade:
        raise UsageError("--locked builds exactly the lock, and --upgrade changes it", "leave one of them out")
    from runner.builder.registry.publish import destination_of
    from runner.builder.registry.push import push
    from runner.docker_api.images import connect, look_up

    name = content_tag(libs)
    where = destination_of(libs, name, options.push, options.config) if options.publish else None
    if where is not None and options.platform is None:
        options = replace(options, platform=where.platform)
    image = None if options.no_cache or options.upgrade or not lock_path(libs).exists() else look_up(name)
    found = _Found(image, name) if image is not None and image.fits(options.platform) else None
    pushed = None
    if found is None or tag is not None or where is not None:
        engine = connect()
        try:
            found = found or _build(engine, libs, options)
            if tag is not None:
                engine.tag(found.image.id, tag)
            if where is not None:
                # The lock may be new, and with it the name.
                where = destination_of(libs, found.tag, options.push, options.config) or where
                pushed = push(engine, found.image, where.target, auth=where.auth, progress=options.progress)
        finally:
            engine.close()
    return replace(_result(found, libs, tag, time.monotonic() - started), pushed=pushed)


def write_dockerfile(libs: Path, folder: Path, *, options: Options | None = None) -> tuple[Path, ...]:
    """Write a Dockerfile and its context that `docker build` alone turns into the same image; the paths of both. Resolves,
    but builds no more than the layer with Python.

    Raises:
        SpecError, BuildError, UnavailableError: as `build`; also what a Dockerfile cannot say.
        ConflictError: the folder holds files that are not of an earlier call.
    """
    from runner.builder.eject.eject import System, eject
    from runner.builder.layers import Layers
    from runner.builder.locking import settle
    from runner.builder.stages import stages
    from runner.builder.verify import named
    from runner.docker_api.images import connect

    options = options or Options()
    _check_secrets(options.secrets)
    engine = connect()
    try:
        with _opened(engine, libs, options) as (place, found, _):
            start = settle(place, found, options)
            first = [stage for stage in stages(found, start.lock) if stage.name == "python"]
            labels = Layers(place, found, start.image, start.lock).build(first)[1].labels
            declared = [named(each, found, start.lock) for each in found.declared]
            return eject(
                found, start.lock, folder, system=System.of(labels), declared=declared, secrets=options.secrets,
                ca_bundle=place.ca_bundle,
            )  # fmt: skip
    finally:
        engine.close()


def write_locked(libs: Path, folder: Path) -> tuple[Path, ...]:
    """As `write_dockerfile`, by the lock alone and without an engine, for an image on Debian's own base.

    Raises:
        SpecError: there is no lock, the libs file has moved on from it, or it names a base of its own, which only an engine
            could look into.
        BuildError, ConflictError: as `write_dockerfile`.
    """
    from runner.builder import base, resolve
    from runner.builder.eject.eject import System, eject
    from runner.builder.session import ca_bundle
    from runner.builder.verify import named
    from runner.spec import lock as locks
    from runner.spec.libs import load

    found, path = load(libs), lock_path(libs)
    raw = locks.read_bytes(path)
    if raw is None:
        raise SpecError(
            "there is no lock yet, and only an engine can make it", "build it once where Docker is", file=str(path)
        )
    lock = locks.parse(raw, str(path))
    if moved := resolve.moved_on(lock, found):
        raise SpecError(f"{libs.name} has moved on from it", *moved, "build it once where Docker is", file=str(path))
    if lock.base.reference not in {base.DEFAULT, base.MADE} or not lock.python:
        raise SpecError(f"{lock.base.reference} is a base that only an engine can look into", file=str(path))
    declared = [named(each, found, lock) for each in found.declared]
    system = System(base.USER, base.PYTHON, lock.python)
    return eject(found, lock, folder, system=system, declared=declared, ca_bundle=ca_bundle(found.ca_bundle))


def _check_tag(tag: str) -> None:
    """
    Raises:
        UsageError: no engine takes it; told before anything is built.
    """
    from runner.spec.reference import local_name

    try:
        local_name(tag)
    except SpecError as error:
        raise UsageError(f"--tag {error.message}", *error.hints) from None


def _check_secrets(names: tuple[str, ...]) -> None:
    """
    Raises:
        UsageError: one is no name of a variable, or not set.
    """
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(f"--secret {name!r}: not a name of a variable", "export it, and name it: --secret TOKEN")
        if name not in os.environ:
            raise UsageError(f"--secret {name}: the variable is not set", f"first: export {name}=…")


@dataclass(frozen=True, slots=True)
class _Found:
    """An image after `_build`, and its name. log: None when nothing was built."""

    image: Image
    tag: str
    added_bytes: int = 0
    log: Path | None = None


@contextmanager
def _opened(engine: Engine, path: Path, options: Options) -> Iterator[tuple[Session, Libs, Content]]:
    """A session, the libs file, and what its files are, so that a later change of them is seen; one build at a time."""
    from runner.builder import cache, session
    from runner.docker_api.images import is_local
    from runner.docker_api.wire import docker_host
    from runner.spec.libs import load

    before = content(path)
    libs = load(path)
    if not is_local(docker_host()):
        raise BuildError(
            f"images are built by an engine of this machine only; this one is at {docker_host()}",
            "build where that engine runs, or unset DOCKER_HOST",
        )
    with cache.building(lambda: options.progress("base", "waiting for another build …")):
        engine.remove_stale()
        with session.opened(
            engine,
            options.progress,
            libs.name,
            log=options.log,
            ca_bundle=session.ca_bundle(libs.ca_bundle),
            no_cache=options.no_cache,
            fresh=options.no_cache or bool(options.upgrade),
            variables=libs.pip_variables,
            secrets=options.secrets,
        ) as place:
            yield place, libs, before


def _build(engine: Engine, path: Path, options: Options) -> _Found:
    from runner.builder.failures import GoneError
    from runner.builder.locking import settle

    with _opened(engine, path, options) as (place, libs, before):
        start = settle(place, libs, options)
        tag = before.tag(start.raw)
        image = None if options.no_cache else engine.inspect(tag)
        if image is not None and image.fits(options.platform) and content(path) == before:
            return _Found(image, tag)
        try:
            return _made(place, libs, start, before)
        except GoneError as gone:
            if options.locked:
                raise
            place.report("resolve", f"{gone.package} cannot be had any more, resolving anew")
        return _made(place, libs, settle(place, libs, options, again=True), before)


def _made(session: Session, libs: Libs, start: Start, before: Content) -> _Found:
    from runner.builder.layers import Layers
    from runner.builder.stages import stages
    from runner.builder.verify import finish

    def unchanged() -> None:
        if content(libs.path) != before:
            raise BuildError(
                f"{libs.path.name}, or a file that it names, was changed while it was built", "build again"
            )

    parent, last = Layers(session, libs, start.image, start.lock).build(stages(libs, start.lock))
    tag = before.tag(start.raw)
    final = finish(session, libs, start.lock, last, tag, before_commit=unchanged)
    return _Found(final, tag, final.size_bytes - parent.size_bytes, session.log_path)


def _result(found: _Found, libs: Path, alias: str | None, seconds: float) -> BuiltImage:
    from runner.builder.verify import libraries_of

    return BuiltImage(
        id=found.image.id,
        tag=alias or found.tag,
        name=found.tag.removeprefix("localhost/").rsplit(":", 1)[0],
        size_bytes=found.image.size_bytes,
        added_bytes=found.added_bytes,
        built=found.log is not None,
        libraries=libraries_of(found.image),
        seconds=seconds,
        log=found.log,
        lock=lock_path(libs),
    )
