"""`runner build`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner import console
from runner.cli.stopping import stop_cleanly
from runner.errors import UsageError
from runner.spec.values import human_size, human_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.builder import BuiltImage

OPTIONAL_VALUES = {"--upgrade": "*", "--push": ""}
"""Options that may stand without a value: what they mean then. The parser knows none such; see command.py."""


def build(  # noqa: PLR0917 - the signature is the command line
    libs: Annotated[
        Path,
        typer.Option("--libs", metavar="FILE", help="libs.yaml, requirements.txt, environment.yml or renv.lock."),
    ] = Path("libs.yaml"),
    tag: Annotated[str | None, typer.Option("--tag", metavar="T", help="A further name for the image.")] = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Build exactly the lock; fail when the file has moved on from it.")
    ] = False,
    upgrade: Annotated[
        list[str] | None,
        typer.Option("--upgrade", metavar="[PKG]", help="Resolve this package anew; without a name, all. Repeatable."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME", help="A variable that `run` commands find in /run/secrets/NAME."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="[REGISTRY/REPO[:TAG]]", help="Push it; without a value, to the registry set."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Settings (default: runner.yaml, upward from the file)."),
    ] = None,
    dockerfile: Annotated[
        Path | None,
        typer.Option("--dockerfile", metavar="DIR", help="Write a Dockerfile that makes the same image, instead."),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Build every layer anew.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the image as JSON.")] = False,
) -> None:
    """Build an image with your libraries, all verified.

    What it will hold is found out first and kept in a lock beside the libs file. Every library is loaded before the image is
    tagged. Unchanged, nothing is built.
    """
    from runner.images import build as build_image

    began = time.monotonic()
    stop_cleanly()
    if dockerfile is not None:
        if push is not None or tag is not None or no_cache or config is not None:
            raise UsageError("--dockerfile builds no image, so there is nothing to tag, push or build anew",
                             "leave --tag, --push, --config and --no-cache out")  # fmt: skip
        _eject(libs, dockerfile, locked=locked, upgrade=upgrade or (), secrets=secret or (), json=json)
        return
    image = build_image(
        libs, tag=tag, no_cache=no_cache, locked=locked, upgrade=upgrade or (), secrets=secret or (), push=push,
        config=config, say=console.say,
    )  # fmt: skip
    if json:
        console.result_json(_as_json(image, time.monotonic() - began))
        return
    added = f"  (+{human_size(image.added_bytes)})" if image.built else "  (unchanged, nothing was built)"
    console.result(f"{image.tag}  {image.id[:19]}…  {human_size(image.size_bytes)}{added}")
    if image.pushed is not None:
        console.result(image.pushed.by_digest)
    console.say("", f"done in {human_time(time.monotonic() - began)}")


def _eject(
    libs: Path, folder: Path, *, locked: bool, upgrade: Sequence[str], secrets: Sequence[str], json: bool
) -> None:
    from runner.images import write_dockerfile

    written = write_dockerfile(libs, folder=folder, locked=locked, upgrade=upgrade, secrets=secrets, say=console.say)
    if json:
        console.result_json({"folder": str(folder), "files": [str(path) for path in written]})
        return
    console.result(str(folder / "Dockerfile"))
    console.say("", f"{len(written)} files; docker build {shlex.quote(str(folder))}")


def _as_json(image: BuiltImage, seconds: float) -> dict[str, object]:
    return {
        "id": image.id, "tag": image.tag, "name": image.name, "size_bytes": image.size_bytes,
        "added_bytes": image.added_bytes, "built": image.built, "libraries": [each._asdict() for each in image.libraries],
        "seconds": round(seconds, 3), "log": str(image.log) if image.log else None, "lock": str(image.lock),
        "pushed": None if image.pushed is None else {
            "reference": image.pushed.reference, "digest": image.pushed.digest, "by_digest": image.pushed.by_digest,
        },
    }  # fmt: skip
