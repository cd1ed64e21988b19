"""`build`: from a libs file to a lock, and from the lock to a verified image, by the shortest way there is."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.assets import asset
from runner.builder.recipe import content_tag, lock_path
from runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.builder.registry.push import Pushed
    from runner.builder.session import Session
    from runner.builder.verify import Library
    from runner.docker_api.images import Engine, Image
    from runner.spec.libs import Libs
    from runner.spec.lock import Lock


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


def fits(image: Image, platform: str | None) -> bool:
    """Whether an image is for a platform; any is for None."""
    return platform is None or f"linux/{image.architecture}" == platform


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
        UsageError: a secret that is not set, a package to upgrade that there is not.
        SpecError: the file, or a package that it names, is wrong; or it has moved on from its lock, under `locked`.
        BuildError: the image could not be built; nothing was tagged, no container is left.
        UnavailableError: no container engine.
    """
    started = time.monotonic()
    options = options or Options()
    _check_secrets(options.secrets)
    from runner.builder.registry.publish import destination_of
    from runner.builder.registry.push import push
    from runner.docker_api.images import connect, look_up

    where = destination_of(libs, options.push, options.config) if options.publish else None
    if where is not None and options.platform is None:
        options = replace(options, platform=where.platform)
    image = None if options.no_cache or options.upgrade or not lock_path(libs).exists() else look_up(content_tag(libs))
    if image is not None and not fits(image, options.platform):
        image = None
    found = pushed = None
    if image is None or tag is not None or where is not None:
        engine = connect()
        try:
            if image is None:
                found = _build(engine, libs, options)
                image = found.image
            if tag is not None:
                engine.tag(image.id, tag)
            if where is not None:
                # The lock is new, so the content and with it the tag may be others than before the build.
                where = destination_of(libs, options.push, options.config) or where
                pushed = push(engine, image, where.target, auth=where.auth, progress=options.progress)
        finally:
            engine.close()
    return replace(_result(image, libs, tag, found, time.monotonic() - started), pushed=pushed)


def write_dockerfile(libs: Path, folder: Path, *, options: Options | None = None) -> tuple[Path, ...]:
    """Write a Dockerfile and its context that `docker build` alone turns into the same image; the paths of both. Resolves,
    but builds no more than the layer with Python.

    Raises:
        SpecError, BuildError, UnavailableError: as `build`; also what a Dockerfile cannot say.
        ConflictError: the folder holds files that are not of an earlier call.
    """
    from runner.builder.eject.eject import System, eject
    from runner.builder.layers import Layers
    from runner.builder.stages import stages
    from runner.builder.verify import named
    from runner.docker_api.images import connect

    options = options or Options()
    _check_secrets(options.secrets)
    engine = connect()
    try:
        with _opened(engine, libs, options) as (place, found):
            start, lock = _lock(place, found, options)
            first = [stage for stage in stages(found, lock) if stage.name == "python"]
            labels = Layers(place, found, start, lock).build(first)[1].labels
            declared = [named(each, found, lock) for each in found.declared]
            return eject(
                found, lock, folder, system=System.of(labels), declared=declared, secrets=options.secrets,
                ca_bundle=place.ca_bundle,
            )  # fmt: skip
    finally:
        engine.close()


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
    """An image after `_build`. log: None when nothing was built."""

    image: Image
    added_bytes: int = 0
    log: Path | None = None


@contextmanager
def _opened(engine: Engine, path: Path, options: Options) -> Iterator[tuple[Session, Libs]]:
    """The libs file, read, and a session for it; one at a time."""
    from runner.builder import cache, session
    from runner.docker_api.images import is_local
    from runner.docker_api.wire import docker_host
    from runner.errors import BuildError
    from runner.spec.libs import load

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
            yield place, libs


def _build(engine: Engine, path: Path, options: Options) -> _Found:
    from runner.builder.failures import GoneError

    with _opened(engine, path, options) as (place, libs):
        start, lock = _lock(place, libs, options)
        image = None if options.no_cache else engine.inspect(content_tag(path))
        if image is not None and fits(image, options.platform):
            return _Found(image)
        try:
            return _made(place, libs, start, lock)
        except GoneError as gone:
            if options.locked:
                raise
            place.report("resolve", f"{gone.package} cannot be had any more, resolving anew")
        start, lock = _lock(place, libs, options, again=True)
        return _made(place, libs, start, lock)


def _lock(session: Session, libs: Libs, options: Options, *, again: bool = False) -> tuple[Image, Lock]:
    """The base, and the lock, which is written where it is new. again: trust nothing that is locked to be there still.

    Raises:
        SpecError: with `locked`, where there is no lock or the libs file has moved on from it.
        BuildError: the lock cannot be written; with `locked`, the base of the lock cannot be had.
    """
    from runner.builder import base, resolve
    from runner.errors import BuildError
    from runner.spec import lock as locks

    path = lock_path(libs.path)
    old = locks.read(path)
    if options.locked:
        return _exactly(session, libs, path, old)
    anew = resolve.EVERYTHING in options.upgrade
    image, of_base = base.ensure(session, libs, old.base if old and not anew else None, options.platform, newest=anew)
    new = resolve.resolve(session, libs, image, of_base, old=old, upgrade=options.upgrade, again=again)
    if new != old:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            locks.write(path, new)
        except OSError as error:
            raise BuildError(
                f"{path} cannot be written: {error.strerror}", "free some space, or mend the folder"
            ) from None
        session.report("lock", f"{path.name}  {_changes(old, new)}")
    return image, new


def _exactly(session: Session, libs: Libs, path: Path, lock: Lock | None) -> tuple[Image, Lock]:
    from runner.builder import apt, base, resolve
    from runner.errors import BuildError, SpecError

    if lock is None:
        raise SpecError("there is no lock yet", f"make it: runner build --libs {libs.path}", file=str(path))
    if moved := resolve.moved_on(lock, libs):
        raise SpecError(
            f"{libs.path.name} has moved on from it", *moved, "runner build without --locked", file=str(path)
        )
    image, of_base = base.ensure(session, libs, lock.base)
    if image.id == lock.base.id:
        return image, lock
    differs = [f"{lock.base.reference}: {lock.base.id[:19]} in the lock, {image.id[:19]} here"]
    if lock.base.recipe and of_base.recipe == lock.base.recipe:
        # Made on two machines, or twice: the same packages are the same base.
        differs = resolve.same_base(lock, apt.ask(session, libs, image.id, ()).installed)
    if differs:
        raise BuildError("the base of the lock cannot be had any more", *differs[:10], "runner build without --locked")
    return image, resolve.rebased(lock, of_base)


def _changes(old: Lock | None, new: Lock) -> str:
    """`written, 214 packages`, else what was added, changed and removed."""
    if old is None:
        return f"written: {len(new.packages)} packages"
    before = {(each.kind, each.name): each.version for each in old.packages}
    after = {(each.kind, each.name): each.version for each in new.packages}
    changed = [f"{name} {before[kind, name]} → {version}" for (kind, name), version in after.items()
               if (kind, name) in before and before[kind, name] != version]  # fmt: skip
    added, gone = len(after.keys() - before.keys()), len(before.keys() - after.keys())
    counts = [
        f"{count} {what}" for count, what in ((added, "added"), (len(changed), "changed"), (gone, "removed")) if count
    ]
    named = f" ({', '.join(changed[:4])}{' …' if len(changed) > 4 else ''})" if changed else ""
    return f"rewritten: {', '.join(counts) or 'what is asked for'}{named}"


def _made(session: Session, libs: Libs, start: Image, lock: Lock) -> _Found:
    from runner.builder.layers import Layers
    from runner.builder.stages import stages
    from runner.builder.verify import finish

    before, last = Layers(session, libs, start, lock).build(stages(libs, lock))
    final = finish(session, libs, lock, last, content_tag(libs.path))
    return _Found(final, final.size_bytes - before.size_bytes, session.log_path)


def _result(image: Image, libs: Path, tag: str | None, found: _Found | None, seconds: float) -> BuiltImage:
    from runner.builder.verify import libraries_of

    name = content_tag(libs)
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
        lock=lock_path(libs),
    )
