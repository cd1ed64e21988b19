"""`runner schema`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from runner import console


def schema(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Which one; without it, the list of all.")] = None,
) -> None:
    """Print the JSON Schema of a file that runner reads. Editors complete and check the file by it."""
    from runner.spec.schemas import SCHEMAS, schema_path

    if name is None:
        for each, described in SCHEMAS.items():
            console.result(f"{each}  {described}")
        return
    # Through JSON, so that a terminal without UTF-8 gets escapes.
    console.result_json(json.loads(schema_path(name).read_text(encoding="utf-8")))
