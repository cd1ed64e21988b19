"""The JSON Schema of job files, made from the shapes that check them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runner.spec.job.kinds import COMPONENTS, JOBS, NODES
from runner.spec.job.shapes import ListOf, MapOf, OneOf, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.spec.job.shapes import Shape


def schema() -> str:
    """The text of the schema as it is shipped (`runner/spec/job.schema.json`)."""
    roots = (*JOBS.values(), *COMPONENTS.values())
    found: dict[str, Record] = {}
    for root in (*roots, *NODES.values()):
        for record in _records(root):
            found.setdefault(record.name, record)
    whole: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "job file",
        "description": "A job or component of Azure ML (CLI v2), with runner's additions: libs, script and args, retry.",
        "anyOf": [record.schema() for record in roots],
        "$defs": {name: found[name].definition() for name in sorted(found)},
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _records(shape: Shape) -> Iterator[Record]:
    """Every record in a shape, itself too. A Pick names its records; they are roots."""
    match shape:
        case Record():
            yield shape
            for member in shape.members.values():
                yield from _records(member.shape)
        case OneOf():
            for one in shape.shapes:
                yield from _records(one)
        case ListOf() | MapOf():
            yield from _records(shape.item)
        case _:
            return
