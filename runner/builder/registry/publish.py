"""`runner push`: which image, to where, with which login; then `push`."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.builder.registry.errors import Problem
from runner.builder.registry.http import ca_bundle as trusted
from runner.builder.registry.push import Pushed, cloud_platform, push, target_of
from runner.builder.registry.sign_in import SignIn
from runner.errors import ImageError, SpecError, UsageError
from runner.spec import config as settings
from runner.spec.reference import place
from runner.spec.yamldoc import nearest, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.docker_api.images import Engine
    from runner.spec.config import Config
    from runner.spec.reference import Target


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an image goes, and how to sign in there."""

    target: Target
    auth: SignIn

    @property
    def platform(self) -> str | None:
        """The platform that the image must be built for; None where any will do."""
        return cloud_platform(self.target.host)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The image that is meant. name, tag: what its repository and tag are called by default."""

    reference: str
    name: str
    tag: str
    registry: str | None = None
    ca_bundle: Path | None = None
    libs: Path | None = None


def publish(
    image: str | None,
    explicit: str | None,
    *,
    libs: Path | None = None,
    config: Path | None = None,
    progress: Callable[[str, str], None] = lambda _stage, _text: None,
    environ: Mapping[str, str] | None = None,
) -> Pushed:
    """Push an image that is on the engine, or the one that was built of a libs file (default: `libs.yaml`).

    Args:
        image: name or id on the engine.
        explicit: HOST/REPOSITORY[:TAG] or HOST; default: the image's own name where that begins with a registry, else
            see `target_of`.
        config: the file to take instead of the project's runner.yaml.

    Raises:
        UsageError: nothing says where to.
        SpecError: the libs file, runner.yaml or an address is wrong.
        ImageError: not on the engine, or not pushed; `problem` says why.
        UnavailableError: no engine.
    """
    if image is not None:
        image = _whole(image)
    asked = _of_image(image) if image is not None else _of_libs(libs or Path("libs.yaml"))
    if explicit is None and image is not None:
        explicit = _own_place(image)
    where = destination(
        asked.name, asked.tag, explicit=explicit, libs=asked.libs, registry=asked.registry, ca_bundle=asked.ca_bundle,
        config=config, environ=environ,
    )  # fmt: skip
    if where is None:
        raise _nowhere()
    from runner.docker_api.images import connect

    engine = connect()
    try:
        there = engine.inspect(asked.reference)
        if there is None:
            raise _not_there(engine, asked)
        return push(engine, there, where.target, auth=where.auth, progress=progress)
    finally:
        engine.close()


def destination_of(libs: Path, reference: str, explicit: str | None, config: Path | None = None) -> Destination | None:
    """Where the image of a libs file goes. reference: its name, `localhost/NAME:HASH`.

    explicit: HOST/REPOSITORY[:TAG], or "": where the settings say; None: the same,
    and nowhere when they say nothing.

    Raises:
        UsageError: `explicit` is "", and no setting says where to.
        SpecError: the libs file, an address or runner.yaml is wrong.
    """
    asked = _of_libs(libs, reference)
    where = destination(
        asked.name, asked.tag, explicit=explicit or None, libs=libs, registry=asked.registry, ca_bundle=asked.ca_bundle,
        config=config,
    )  # fmt: skip
    if where is None and explicit is not None:
        raise _nowhere()
    return where


def destination_for(
    reference: str,
    libs: Path | None,
    found: Config,
    *,
    registry: str | None = None,
) -> Destination | None:
    """Where the image of a job goes; None when nothing says where.

    Args:
        reference: `localhost/NAME:HASH`. libs: its libs file, None for the default image, or one that has none.
        found: the settings that hold where the job is. registry: HOST[/PATH] that the user named, before all settings.

    Raises:
        SpecError: the libs file or an address is wrong.
    """
    asked = _of_libs(libs, reference) if libs is not None else _of_image(reference)
    environ = {**os.environ, "RUNNER_REGISTRY": registry} if registry else os.environ
    own = None if registry else asked.registry
    target = target_of(asked.name, asked.tag, explicit=None, libs_registry=own, config=found, environ=environ)
    return None if target is None else _with_sign_in(target, found, asked.ca_bundle, environ)


def _nowhere() -> UsageError:
    return UsageError(
        "nothing says where to push to",
        "name it: HOST/REPOSITORY, or `registry: HOST/PATH` in libs.yaml or runner.yaml,",
        "or RUNNER_REGISTRY=HOST/PATH",
    )


def destination(
    name: str,
    tag: str,
    *,
    explicit: str | None = None,
    libs: Path | None = None,
    registry: str | None = None,
    ca_bundle: Path | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Destination | None:
    """Where an image goes and how to sign in there, by all settings; None when nothing says where. Asks nobody yet.

    Args:
        name, tag: of `localhost/NAME:HASH`.
        explicit: what the command line names. libs: the libs file, in whose folder the search for runner.yaml begins.
        registry, ca_bundle: of that libs file.

    Raises:
        SpecError: an address or runner.yaml is wrong.
    """
    environ = os.environ if environ is None else environ
    found = settings.load(libs.absolute().parent if libs else Path.cwd(), environ, config)
    target = target_of(name, tag, explicit=explicit, libs_registry=registry, config=found, environ=environ)
    return None if target is None else _with_sign_in(target, found, ca_bundle, environ, explicit)


def _with_sign_in(
    target: Target, found: Config, ca_bundle: Path | None, environ: Mapping[str, str], explicit: str | None = None
) -> Destination:
    named = found.named | _hosts(explicit, environ.get("RUNNER_REGISTRY"))
    return Destination(target, SignIn(found.registries, environ, trusted(ca_bundle, environ), named=named))


def _hosts(*places: str | None) -> frozenset[str]:
    """The hosts of what the user typed; a malformed one that is not used is nobody's."""
    hosts = set()
    for text in places:
        with suppress(SpecError):
            hosts |= {place(text).host} if text else set()
    return frozenset(hosts)


def _own_place(image: str) -> str | None:
    """The name itself, where it names a registry (`localhost/…` is how runner calls what is on the engine only)."""
    try:
        found = place(image)
    except SpecError:
        return None
    return image if found.path and found.host != "localhost" else None


def _whole(image: str) -> str:
    """The tag of an image of runner's that `runner image show` would show: `churn` is the newest `localhost/churn:HASH`."""
    from runner.builder.stock import images
    from runner.docker_api import stock

    with stock.opened() as opened:
        made = images.find(opened, image)
    return made.tag if made is not None and made.tag is not None and "/" not in image else image


def _of_image(reference: str) -> _Asked:
    last = reference.rpartition("/")[2].partition("@")[0]
    name, _, tag = last.partition(":")
    return _Asked(reference, name, tag or "latest")


def _of_libs(libs: Path, reference: str | None = None) -> _Asked:
    """Read without pydantic (100 ms): a file whose image is on the engine was found right when that was built."""
    from runner.builder import content_tag

    reference = reference or content_tag(libs)
    name, _, tag = reference.removeprefix("localhost/").rpartition(":")
    if libs.suffix not in {".yaml", ".yml"}:
        return _Asked(reference, name, tag, libs=libs)
    document = read(libs)
    registry, bundle = document.data.get("registry"), document.data.get("ca_bundle")
    for key, value in (("registry", registry), ("ca_bundle", bundle)):
        if value is not None and not isinstance(value, str):
            raise document.error((key,), "expected text")
    if registry is not None:
        place(registry, file=document.file, line=document.line(("registry",)), key="registry")
    return _Asked(reference, name, tag, registry, libs.parent / bundle if bundle else None, libs)


def _not_there(engine: Engine, asked: _Asked) -> ImageError:
    if asked.libs is not None:
        return ImageError(
            f"the image of {asked.libs} as it is now is not on the engine ({asked.reference})",
            f"build it first: runner build --libs {asked.libs}",
            retryable=False,
            problem=Problem.NOT_ON_ENGINE,
        )
    near = nearest(asked.reference, engine.names())
    hints = [f"did you mean {near}?"] if near else []
    return ImageError(
        f"the engine has no image {asked.reference}",
        *hints,
        "see: docker images; or name a libs file: runner push --libs libs.yaml",
        retryable=False,
        problem=Problem.NOT_ON_ENGINE,
    )
