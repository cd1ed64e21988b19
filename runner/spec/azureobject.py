"""Jobs that were made with azure-ai-ml (`command()`, `@dsl.pipeline`, `.sweep()`), read by way of their own YAML.

azure-ai-ml is never imported here: whoever has such an object has it, and the object writes itself.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError, UsageError
from runner.job import Where

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.job import Job

_PACKAGE = "azure.ai.ml."
_EMPTY = ("parameters", "properties", "tags")
_GIVEN = ("name", "version", "tags", "properties")
"""What azure-ai-ml adds to an environment that has no name."""


def is_one(thing: object) -> bool:
    """Whether it is an object of azure-ai-ml."""
    return type(thing).__module__.startswith(_PACKAGE)


def read(
    thing: Any,
    sets: Sequence[tuple[str, str]] = (),
    components: Callable[[str], Path | None] = lambda _: None,
) -> Job:
    """The job that an object of azure-ai-ml is. Relative paths in it count from where azure-ai-ml has them count from.

    Args:
        sets, components: as of `runner.spec.job.load`.

    Raises:
        UsageError: it is no job. SpecError: it is one that runner does not know.
    """
    import yaml

    from runner.spec.job import load

    kind = f"{type(thing).__module__}.{type(thing).__name__}"
    entity = thing._to_job() if hasattr(thing, "_to_job") else thing  # noqa: SLF001 - what its own client does with it
    if not hasattr(entity, "dump") or not hasattr(entity, "experiment_name"):
        raise UsageError(f"{kind} is no job", "give what command() or a function with @dsl.pipeline returns")
    base = Path(getattr(entity, "base_path", None) or Path.cwd())
    with tempfile.TemporaryDirectory(prefix="runner-") as folder:
        file = Path(folder) / "job.yml"
        entity.dump(str(file))
        data = yaml.safe_load(file.read_text("utf-8"))
        _restore_truths(data, entity)
        data = _cleaned(data, base)
        file.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), "utf-8")
        try:
            job = load(file, sets, components=components)
        except SpecError as error:
            place = re.compile(rf"{re.escape(str(file))}(:\d+)?: ")
            raise SpecError(*(place.sub("", text) for text in (error.message, *error.hints))) from None
    unplaced: Job = _unplaced(job, str(file))
    return replace(unplaced, file=None)


def _unplaced(value: Any, file: str) -> Any:
    """The same without that file in its places: it was written by us, and is gone."""
    match value:
        case Where():
            return replace(value, file=None, line=None) if value.file == file else value
        case dict():
            return {key: _unplaced(each, file) for key, each in value.items()}
        case tuple() | list():
            return type(value)(_unplaced(each, file) for each in value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{each.name: _unplaced(getattr(value, each.name), file) for each in fields(value)})
        case _:
            return value


def _restore_truths(data: dict[str, Any], entity: Any) -> None:
    """It writes True as 1 and False as 0, but submits them as `True` and `False`.

    data: a job, or what a step is made of, as it was written, which is changed; entity: the object that it is of.
    """
    inputs = data.get("inputs") or {}
    for name, given in dict(getattr(entity, "inputs", None) or {}).items():
        value = getattr(given, "_data", given)
        if isinstance(value, bool) and name in inputs:
            inputs[name] = value
    searched = data.get("search_space") or {}
    for name, drawn in dict(getattr(entity, "search_space", None) or {}).items():
        values = getattr(drawn, "values", None)
        if name in searched and isinstance(values, list) and any(isinstance(each, bool) for each in values):
            searched[name]["values"] = values
    steps = dict(getattr(entity, "jobs", None) or {})
    for name, step in (data.get("jobs") or {}).items():
        _restore_truths(step, steps.get(name))
        if isinstance(step.get("component"), dict):
            _restore_truths(step["component"], getattr(steps.get(name), "component", None))


def _cleaned(value: Any, base: Path, key: str = "") -> Any:
    """The same with absolute paths, and without what azure-ai-ml adds of itself."""
    if isinstance(value, list):
        return [_cleaned(each, base) for each in value]
    if isinstance(value, dict):
        dropped = _dropped(key, value)
        return {name: _cleaned(each, base, str(name)) for name, each in value.items() if name not in dropped}
    if isinstance(value, str) and key in {"path", "code"}:
        return _absolute(value, base)
    return value


def _dropped(key: str, value: Mapping[str, Any]) -> set[str]:
    empty = {name for name in _EMPTY if not value.get(name)}
    anonymous = key == "environment" and str(value.get("name", "")).startswith("CliV2Anonymous")
    return empty | set(_GIVEN) if anonymous else empty


def _absolute(text: str, base: Path) -> str:
    """A place of this machine as an absolute path. It writes a relative one as `azureml:./data`, like a name without a
    version, which is none."""
    name = text.removeprefix("azureml:")
    if "${{" in text or "://" in text or name.startswith("/subscriptions/"):
        return text
    local = name if text == name or "./" in name[:3] or not set(name) & {":", "@"} else None
    return text if local is None else os.path.normpath(base / local)
