"""A `Job` as plain JSON and back, for what outlives the files that it came from.

Every object in the JSON has one key, which says what it is: a class of `runner.job`, an enum, `path`, `list`, `map`. So no
mapping of the user's can be taken for one of ours. Where something stood in a file is not kept: two jobs that mean the
same are the same text.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import job as nouns
from runner.errors import StoreError
from runner.job import DataType, Job, Mode, Where
from runner.model import Limits, Reason, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CLASSES: Mapping[str, type[Any]] = {
    each.__name__: each
    for each in (*vars(nouns).values(), Limits, RetryPolicy)
    if isinstance(each, type) and is_dataclass(each) and each is not Where
}
_ENUMS: Mapping[str, type[Enum]] = {each.__name__: each for each in (DataType, Mode, Reason)}


def to_json(job: Job) -> Any:
    """Plain data, complete but for the places in files; `from_json` is its inverse."""
    return _encode(job)


def from_json(data: Any) -> Job:
    """The inverse of `to_json`.

    Raises:
        StoreError: it is nothing that this runner wrote.
    """
    try:
        found = _decode(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = error
    if isinstance(found, Job):
        return found
    raise StoreError(
        "a stored pipeline cannot be read, since it is damaged or of a newer runner",
        "upgrade runner, or register it again",
    )


def _encode(value: Any) -> Any:
    if isinstance(value, Enum):
        return {type(value).__name__: value.value}
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, datetime | date):  # YAML reads 2026-06-01 so
        return {type(value).__name__: value.isoformat()}
    if isinstance(value, tuple):
        return [_encode(each) for each in value]
    if isinstance(value, list):
        return {"list": [_encode(each) for each in value]}
    if is_dataclass(value):
        members = {each.name: getattr(value, each.name) for each in fields(value) if each.type != "Where"}
        members.pop("file", None)
        kept = {name: _encode(each) for name, each in members.items() if not _is_default(value, name, each)}
        return {type(value).__name__: kept}
    return {"map": {str(name): _encode(each) for name, each in value.items()}}


def _is_default(owner: Any, name: str, value: Any) -> bool:
    found: Field[Any] = type(owner).__dataclass_fields__[name]
    default = found.default_factory() if found.default_factory is not MISSING else found.default
    return default is not MISSING and type(default) is type(value) and bool(default == value)


def _decode(data: Any) -> Any:
    if isinstance(data, list):
        return tuple(_decode(each) for each in data)
    if not isinstance(data, dict):
        return data
    ((kind, value),) = data.items()
    if kind in _PLAIN:
        return _PLAIN[kind](value)
    if kind in _ENUMS:
        return _ENUMS[kind](value)
    return _CLASSES[kind](**{name: _decode(each) for name, each in value.items()})


_PLAIN: Mapping[str, Callable[[Any], Any]] = {
    "path": Path,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "list": lambda value: [_decode(each) for each in value],
    "map": lambda value: {name: _decode(each) for name, each in value.items()},
}
