"""`runner push`."""

from __future__ import annotations

import time
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from runner import console
from runner.cli.stopping import stop_cleanly
from runner.errors import UsageError
from runner.spec.values import human_size, human_time


def push(
    image: Annotated[str | None, typer.Argument(metavar="[IMAGE]", help="An image on the engine.")] = None,
    target: Annotated[
        str | None, typer.Argument(metavar="[REGISTRY/REPO[:TAG]]", help="Where to; default: the registry that is set.")
    ] = None,
    libs: Annotated[
        Path | None,
        typer.Option(
            "--libs", metavar="FILE", help="The image built of this file (default: libs.yaml, without IMAGE)."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Settings (default: runner.yaml, upward from the file)."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Push an image to a registry. Prints its name by digest; unchanged, nothing is sent."""
    from runner.images import push as push_image

    if libs is not None and image is not None:
        if target is not None:
            raise UsageError("either IMAGE or --libs FILE, not both", "see: runner push --help")
        image, target = None, image  # with --libs, what stands alone is where to
    began = time.monotonic()
    stop_cleanly()
    pushed = push_image(image, target, libs=libs, config=config, say=console.say)
    if json:
        console.result_json(
            {
                "reference": pushed.reference, "digest": pushed.digest, "by_digest": pushed.by_digest,
                "size_bytes": pushed.size_bytes, "already_there": pushed.already_there,
                "seconds": round(time.monotonic() - began, 3),
            }
        )  # fmt: skip
        return
    unchanged = "  (unchanged, nothing was sent)" if pushed.already_there else ""
    console.result(f"{pushed.by_digest}  {human_size(pushed.size_bytes)}{unchanged}")
    console.say("", f"done in {human_time(time.monotonic() - began)}")
