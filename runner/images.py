"""Images from Python: built, pushed, written as a Dockerfile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.builder import BuiltImage
    from runner.builder.registry.push import Pushed


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
