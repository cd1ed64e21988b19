"""Inputs and outputs: what is declared, and what is given."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from runner.job import Data, DataType, Input, Mode, Output, Reference
from runner.spec.job import expressions
from runner.spec.job.members import LEGACY_MODES, LEGACY_TYPES
from runner.spec.job.source import has_scheme, stripped

if TYPE_CHECKING:
    from runner.job import Scalar, Value
    from runner.spec.job.source import Source
    from runner.spec.yamldoc import KeyPath

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*")


def data_type(text: Any) -> DataType | None:
    """A type as it is written; None where it is left out or not one (told by the check of forms)."""
    word = str(text).lower()
    return LEGACY_TYPES.get(word) or (DataType(word) if word in set(DataType) else None)


def mode(text: Any) -> Mode | None:
    """A mode as it is written."""
    word = str(text).lower()
    return LEGACY_MODES.get(word) or (Mode(word) if word in set(Mode) else None)


def literal_type(value: Any) -> DataType:
    """What YAML makes of a bare value."""
    if isinstance(value, bool):
        return DataType.BOOLEAN
    if isinstance(value, int):
        return DataType.INTEGER
    return DataType.NUMBER if isinstance(value, float) else DataType.STRING


def _written_type(value: Any, text: str) -> DataType:
    """As `literal_type`; what YAML takes for a number in base 60 (`12:30:45`) is the text that it looks like."""
    return DataType.STRING if ":" in text else literal_type(value)


def check_names(source: Source, names: dict[str, Any], path: KeyPath) -> None:
    """Refuse names that no expression could name."""
    for name in names:
        if not NAME.fullmatch(name):
            source.wrong(
                (*path, name), f"{name!r} is not a name", "expected letters, digits, _ and - (a letter or _ first)"
            )


def data(source: Source, path: KeyPath, text: str, value: dict[str, Any]) -> Data:
    """A file or folder. Relative paths are resolved against the file they stand in."""
    store = value.get("datastore")
    return Data(
        _uri(source, path, text), data_type(value.get("type")), mode(value.get("mode")), source.where(path),
        stripped(str(store)) if store is not None else None,
    )  # fmt: skip


def _uri(source: Source, path: KeyPath, text: str) -> str:
    relative_file = text.startswith("file:") and not text.startswith("file:/")
    if has_scheme(text) and not relative_file:
        return text
    local = source.local(path, text)
    return str(local) if local else text


def given(source: Source, path: KeyPath, value: Any) -> tuple[Value | None, DataType | None]:
    """What is given to an input, and its type where it can be told. None: nothing is given."""
    if value is None:
        return None, None
    if not isinstance(value, dict):
        text = source.text(path, value)
        return _text(source, path, text, {}), None if "${{" in text else _written_type(value, text)
    kind = data_type(value.get("type"))
    key = next((key for key in ("path", "value", "default") if value.get(key) is not None), None)
    if key is None:
        return None, kind
    inner = value[key]
    text = source.text((*path, key), inner)
    if key == "path" or (kind is not None and not kind.literal):
        if "${{" in text:
            return _text(source, path, text, value), kind
        if kind is not None and kind.literal:
            source.wrong((*path, key), f"a {kind} has no path", "write `value:` or `default:`, or the value alone")
        return data(source, (*path, key), text, value), kind or DataType.URI_FOLDER
    return _text(source, (*path, key), text, value), kind or (None if "${{" in text else literal_type(inner))


def _text(source: Source, path: KeyPath, text: str, value: dict[str, Any]) -> Value:
    """A text, or the reference that it is."""
    body = expressions.alone(text)
    where = source.where(path)
    kind, way = data_type(value.get("type")), mode(value.get("mode"))
    if body is not None and (name := expressions.parent_input(body)):
        return Reference(name, None, kind, way, where)
    if body is not None and (job := expressions.parent_job(body)):
        return Reference(job[1], job[0], kind, way, where)
    return text


def declared(source: Source, path: KeyPath, value: Any) -> Input:
    """An input of a component. A bare value is a literal with this default."""
    where = source.where(path)
    if not isinstance(value, dict):
        return Input(literal_type(value), default=source.text(path, value), where=where)
    kind = data_type(value.get("type")) or DataType.URI_FOLDER
    if value.get("type") is None:
        source.wrong(path, "type is missing", f"expected one of {', '.join(DataType)}")
    made = Input(
        kind,
        optional=bool(source.flag(value.get("optional"))),
        minimum=source.number((*path, "min"), value.get("min")),
        maximum=source.number((*path, "max"), value.get("max")),
        choices=_choices(source, (*path, "enum"), value.get("enum")),
        mode=mode(value.get("mode")),
        description=str(value.get("description") or ""),
        where=where,
    )
    default = _default(source, path, value, kind)
    if isinstance(default, str):
        at = source.where((*path, "default"))
        for message in faults(default, made):
            source.findings.wrong(at, message)
    return _replaced(made, default)


def _replaced(made: Input, default: Scalar | Data | None) -> Input:
    from dataclasses import replace

    return made if default is None else replace(made, default=default)


def _choices(source: Source, path: KeyPath, values: list[Any] | None) -> tuple[str, ...]:
    return tuple(source.text((*path, index), value) for index, value in enumerate(values or ()))


def _default(source: Source, path: KeyPath, value: dict[str, Any], kind: DataType) -> Scalar | Data | None:
    for key in ("default", "value", "path"):
        if value.get(key) is not None:
            written = source.text((*path, key), value[key])
            return written if kind.literal else data(source, (*path, key), written, value)
    return None


def faults(text: str, wanted: Input) -> list[str]:
    """What is wrong with a text as the value of a literal input."""
    kind = wanted.type
    if wanted.choices and text not in wanted.choices:
        return [f"{text!r} is none of {', '.join(map(str, wanted.choices))}"]
    if kind is DataType.BOOLEAN and text.lower() not in {"true", "false"}:
        return [f"expected true or false, found {text!r}"]
    if kind not in {DataType.INTEGER, DataType.NUMBER}:
        return []
    try:
        number = float(text)
        whole = math.isfinite(number) and number == int(number)
    except (ValueError, OverflowError):
        return [f"expected {_article(kind)}, found {text!r}"]
    if kind is DataType.INTEGER and not whole:
        return [f"expected an integer, found {text!r}"]
    if wanted.minimum is not None and number < wanted.minimum:
        return [f"expected {wanted.minimum:g} or more, found {text}"]
    if wanted.maximum is not None and number > wanted.maximum:
        return [f"expected {wanted.maximum:g} or less, found {text}"]
    return []


def _article(kind: DataType) -> str:
    return f"an {kind}" if kind is DataType.INTEGER else f"a {kind}"


def output(source: Source, path: KeyPath, value: Any, fallback: DataType = DataType.URI_FOLDER) -> Output:
    """An output that is declared, or a setting of one. `${{parent.outputs.NAME}}` is what it becomes in the pipeline."""
    where = source.where(path)
    if value is None:
        return Output(fallback, where=where)
    if not isinstance(value, dict):
        text = source.text(path, value)
        return Output(fallback, parent=_parent(source, path, text), where=where)
    kind = data_type(value.get("type")) or fallback
    if kind.literal:
        source.cannot("outputs.literal", path)
    place = None if value.get("path") is None else source.text((*path, "path"), value["path"])
    parent = _parent(source, (*path, "path"), place) if place and "${{parent." in place else None
    for wrong in expressions.check_place(place) if place and not parent else ():
        source.wrong((*path, "path"), wrong.message, *wrong.hints)
    name, version = value.get("name"), value.get("version")
    return Output(
        kind,
        _output_mode(value.get("mode")),
        _place(source, (*path, "path"), place) if parent is None else None,
        parent,
        (str(name), None if version is None else source.text((*path, "version"), version)) if name else None,
        str(value.get("description") or ""),
        where,
    )


def _output_mode(text: Any) -> Mode | None:
    return Mode.RW_MOUNT if str(text).lower() == "mount" else mode(text)


def _place(source: Source, path: KeyPath, text: str | None) -> str | None:
    """Where it goes. A relative path is one of the file's folder."""
    if text is None or has_scheme(text) or text.startswith("${{"):
        return text
    return _uri(source, path, text)


def _parent(source: Source, path: KeyPath, text: str) -> str | None:
    body = expressions.alone(text)
    name = expressions.parent_output(body) if body is not None else None
    if name is None:
        source.wrong(path, f"{text!r} is no output of the pipeline", "expected ${{parent.outputs.NAME}}")
    return name
