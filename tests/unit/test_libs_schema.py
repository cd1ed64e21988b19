"""The JSON Schema of libs.yaml: as the models give it, shipped, printed cheaply, and saying of files what load() says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.errors import NotFoundError
from runner.spec.libs_file import schema
from runner.spec.schemas import SCHEMAS, schema_path

ROOT = Path(__file__).resolve().parents[2]
SCHEMA: dict[str, Any] = json.loads(schema_path("libs").read_text("utf-8"))
SAMPLES = sorted([*ROOT.glob("pipelines/*/libs.yaml"), *ROOT.glob("images/*/libs.yaml")])
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
ANNOTATIONS = {"title", "description", "examples", "default", "$schema", "$defs"}


def faults(value: Any, part: dict[str, Any], where: str = "") -> list[str]:
    """What a validator finds wrong. Knows the words that our schema uses, and fails on any other."""
    found: list[str] = []
    for word in part.keys() - ANNOTATIONS:
        assert word in WORDS, f"the schema uses {word!r}, which this check does not know"
        found += WORDS[word](value, part, where)
    return found


def _of_type(value: Any, part: dict[str, Any], where: str) -> list[str]:
    types = part["type"] if isinstance(part["type"], list) else [part["type"]]
    fits = any(isinstance(value, TYPES[name]) for name in types) and (type(value) is not bool or "boolean" in types)
    return [] if fits else [f"{where}: type"]


def _texts(value: Any, part: dict[str, Any], where: str) -> list[str]:
    if not isinstance(value, str):
        return []
    short = [f"{where}: minLength"] if len(value) < part.get("minLength", 0) else []
    return short + ([] if re.search(part.get("pattern", ""), value) else [f"{where}: pattern"])


def _items(value: Any, part: dict[str, Any], where: str) -> list[str]:
    items = value if isinstance(value, list) else []
    return [fault for item in items for fault in faults(item, part["items"], f"{where}[]")]


def _properties(value: Any, part: dict[str, Any], where: str) -> list[str]:
    known = part["properties"]
    keys = value.keys() & known.keys() if isinstance(value, dict) else set()
    return [fault for key in keys for fault in faults(value[key], known[key], f"{where}.{key}")]


def _others(value: Any, part: dict[str, Any], where: str) -> list[str]:
    wanted = part["additionalProperties"]
    keys = value.keys() - part.get("properties", {}).keys() if isinstance(value, dict) else set()
    if wanted is False:
        return [f"{where}.{key}: unknown" for key in keys]
    return [fault for key in keys for fault in faults(value[key], wanted, f"{where}.{key}")]


WORDS: dict[str, Callable[[Any, dict[str, Any], str], list[str]]] = {
    "$ref": lambda value, part, where: faults(value, SCHEMA["$defs"][part["$ref"].removeprefix("#/$defs/")], where),
    "anyOf": lambda value, part, where: (
        [] if any(not faults(value, one) for one in part["anyOf"]) else [f"{where}: no branch"]
    ),
    "type": _of_type,
    "enum": lambda value, part, where: [] if value in part["enum"] else [f"{where}: enum"],
    "pattern": _texts,
    "minLength": _texts,
    "items": _items,
    "properties": _properties,
    "additionalProperties": _others,
}


def test_the_file_is_what_the_models_give() -> None:
    """Where this fails: python -c 'from runner.spec.libs_file import schema; print(schema(), end="")' > the file."""
    assert schema_path("libs").read_text("utf-8") == schema()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.parent.name)
def test_samples_are_valid(sample: Path) -> None:
    assert faults(yaml.safe_load(sample.read_text("utf-8")), SCHEMA) == []


def test_there_are_samples() -> None:
    assert len(SAMPLES) >= 2


def test_the_example_of_the_documentation_is_valid_and_has_every_key() -> None:
    block = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "libs.md").read_text("utf-8"), re.DOTALL)
    assert block is not None
    data = yaml.load(block[1], yaml.BaseLoader)
    assert faults(data, SCHEMA) == []
    assert data.keys() == SCHEMA["properties"].keys()
    assert data["r"].keys() == SCHEMA["$defs"]["R"]["properties"].keys()
    assert data["conda"].keys() == SCHEMA["$defs"]["Conda"]["properties"].keys()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("zzz: 1", ".zzz: unknown"),
        ("r: {crn: []}", ".r: no branch"),
        ("apt: libpq5", ".apt: type"),
        ("apt: [1]", ".apt[]: type"),
        ("python: 3.11", ".python: type"),
        ("python: '2'", ".python: pattern"),
        ("name: A B", ".name: pattern"),
        ("registry: https://x", ".registry: pattern"),
        ("r: {sysreqs: maybe}", ".r: no branch"),
        ("conda: {file: ''}", ".conda: no branch"),
        ("run: [[a]]", ".run[]: type"),
        ("env: {A: [b]}", ".env.A: type"),
    ],
)
def test_slips_are_seen(text: str, fault: str) -> None:
    assert faults(yaml.safe_load(text), SCHEMA) == [fault]


@pytest.mark.parametrize(
    "text",
    [
        "r:",
        "apt:\nconda:\nrun:\n",
        "env: {A: 1, B: yes, C: x}",
        "user: 1000",
        "r: {sysreqs: }",
        "imports: {a: [b], c: d}",
    ],
)
def test_what_load_takes_is_valid(text: str) -> None:
    assert faults(yaml.safe_load(text), SCHEMA) == []


def test_every_key_has_a_text_and_an_example_for_editors() -> None:
    for part in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, value in part["properties"].items():
            assert value["description"].endswith("."), key
            assert value.get("title", key) == key
            assert "examples" in value or "anyOf" in value, key
            for example in value.get("examples", ()):
                assert faults(example, value) == [], key


def test_the_command_prints_it_without_pydantic_or_yaml() -> None:
    code = "import sys; from runner.cli.command import execute; code = execute(sys.argv[1:]); "
    code += "print([name for name in ('pydantic', 'yaml', 'docker') if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, "schema", "libs"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == SCHEMA
    assert done.stderr == "[]\n"
    done = subprocess.run([sys.executable, "-c", code, "schema"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(SCHEMAS)


def test_a_schema_that_is_not_there() -> None:
    with pytest.raises(NotFoundError, match=r"no schema named 'lib'\n  did you mean libs\?"):
        schema_path("lib")
