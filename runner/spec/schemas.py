"""The JSON Schemas that are shipped for editors. Files, made from the models, so that printing one needs no pydantic."""

from __future__ import annotations

from pathlib import Path

from runner.errors import NotFoundError
from runner.spec.yamldoc import nearest

SCHEMAS = {"libs": "libs.yaml, the libraries of an image", "job": "job.yml, a job, pipeline, sweep or component"}
"""Name → which file it describes."""


def schema_path(name: str) -> Path:
    """The file of a schema.

    Raises:
        NotFoundError: no schema of that name.
    """
    if name not in SCHEMAS:
        near = nearest(name, SCHEMAS)
        hints = [f"did you mean {near}?"] if near else []
        raise NotFoundError(f"no schema named {name!r}", *hints, f"there is: {', '.join(SCHEMAS)}")
    return Path(__file__).with_name(f"{name}.schema.json")
