"""`runner build`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from runner import console
from runner.spec.values import human_size, human_time


def build(
    libs: Annotated[Path, typer.Option("--libs", metavar="FILE", help="The file that lists the libraries.")] = Path(
        "libs.yaml"
    ),
    tag: Annotated[str | None, typer.Option("--tag", metavar="T", help="A further name for the image.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Build every layer anew.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the image as JSON.")] = False,
) -> None:
    """Build the image of a libs.yaml. Every library is loaded before it is tagged; unchanged, nothing is built."""
    from runner.api import build as build_image

    began = time.monotonic()
    image = build_image(libs, tag=tag, no_cache=no_cache, say=console.say)
    if json:
        console.result_json(
            {
                "id": image.id, "tag": image.tag, "name": image.name, "size_bytes": image.size_bytes,
                "added_bytes": image.added_bytes, "built": image.built, "libraries": list(image.libraries),
                "seconds": round(time.monotonic() - began, 3), "log": str(image.log) if image.log else None,
            }
        )  # fmt: skip
        return
    added = f"  (+{human_size(image.added_bytes)})" if image.built else "  (unchanged, nothing was built)"
    console.result(f"{image.tag}  {image.id[:19]}…  {human_size(image.size_bytes)}{added}")
    console.say("", f"done in {human_time(time.monotonic() - began)}")
