"""The JSON Schema of job files: as the shapes give it, shipped, and of one mind with what load() takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.errors import SpecError
from runner.spec.job import load
from runner.spec.job.kinds import COMPONENTS, JOBS, NODES
from runner.spec.job.schema import schema
from runner.spec.schemas import schema_path
from runner.spec.yamldoc import parse

ROOT = Path(__file__).resolve().parents[2]
SCHEMA: dict[str, Any] = json.loads(schema_path("job").read_text("utf-8"))
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "number": (int, float), "integer": (int,), "boolean": (bool,),
    "null": (type(None),),
}  # fmt: skip


def valid(value: Any, part: dict[str, Any]) -> bool:
    """What a validator says. Knows the words that our schema uses, and fails on any other."""
    return all(WORDS[word](value, part) for word in part.keys() - {"title", "description", "$schema", "$defs"})


def _type(value: Any, part: dict[str, Any]) -> bool:
    types = part["type"] if isinstance(part["type"], list) else [part["type"]]
    return any(isinstance(value, TYPES[name]) for name in types) and (type(value) is not bool or "boolean" in types)


def _properties(value: Any, part: dict[str, Any]) -> bool:
    known = part["properties"]
    return not isinstance(value, dict) or all(valid(value[key], known[key]) for key in value.keys() & known.keys())


def _others(value: Any, part: dict[str, Any]) -> bool:
    rest = value.keys() - part.get("properties", {}).keys() if isinstance(value, dict) else set()
    wanted = part["additionalProperties"]
    return not rest if wanted is False else all(valid(value[key], wanted) for key in rest)


WORDS: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "$ref": lambda value, part: valid(value, SCHEMA["$defs"][part["$ref"].removeprefix("#/$defs/")]),
    "anyOf": lambda value, part: any(valid(value, one) for one in part["anyOf"]),
    "type": _type,
    "enum": lambda value, part: value in part["enum"],
    "required": lambda value, part: not isinstance(value, dict) or value.keys() >= set(part["required"]),
    "items": lambda value, part: all(valid(item, part["items"]) for item in value) if isinstance(value, list) else True,
    "properties": _properties,
    "additionalProperties": _others,
}


def test_the_file_is_what_the_shapes_give() -> None:
    """Where this fails: python -c 'from runner.spec.job.schema import schema; print(schema(), end="")' > the file."""
    assert schema_path("job").read_text("utf-8") == schema()


def test_every_reference_leads_somewhere_and_every_kind_is_there() -> None:
    named = set(re.findall(r'"#/\$defs/(\w+)"', schema()))
    assert named <= SCHEMA["$defs"].keys()
    for record in (*JOBS.values(), *COMPONENTS.values(), *NODES.values()):
        assert record.name in SCHEMA["$defs"]


def test_every_member_has_a_text_for_editors() -> None:
    for name, part in SCHEMA["$defs"].items():
        for key, value in part["properties"].items():
            assert value["description"].endswith((".", "…")), (name, key)


def test_the_example_of_the_documentation_is_valid() -> None:
    block = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "jobs.md").read_text("utf-8"), re.DOTALL)
    assert block is not None
    assert valid(parse(block[1], "job.yml").data, SCHEMA)  # PyYAML takes the key `on` for True, editors do not


@pytest.mark.parametrize(
    "text",
    [
        "type: command\ncommand: echo\ncomand: x\n",
        "type: command\ncommand: [a]\n",
        "type: command\ncommand: echo\nlimits: {timout: 3}\n",
        "type: pipeline\njobs: {a: {type: command, command: echo, inptus: {}}}\n",
        "type: nothing\n",
        (
            "type: sweep\ntrial: {command: echo}\nsearch_space: {x: {type: choise}}\n"
            "objective: {goal: minimize, primary_metric: m}\n"
        ),
        "type: command\ncommand: echo\ninputs: {x: {type: uri_fole, path: a}}\n",
        "type: command\ncommand: echo\noutputs: {x: {mode: up}}\n",
    ],
)
def test_what_the_schema_refuses_load_refuses(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yml").write_text(text)
    assert not valid(yaml.safe_load(text), SCHEMA)
    with pytest.raises(SpecError):
        load(tmp_path / "job.yml")
