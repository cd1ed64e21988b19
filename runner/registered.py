"""Registered pipelines: a job under a name and a version, with its code, to be submitted when its files are gone.

Code is taken along by content, images become those that they are now, data stays where it is. What cannot be taken along is
said. The same content again is the same version.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from runner import job_json, snapshot
from runner.digests import Digests
from runner.errors import NotFoundError, UsageError
from runner.job import Code, Data, DataType, Environment, Job
from runner.spec.yamldoc import nearest
from runner.store import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from runner.job import Input, Value
    from runner.store import PipelineRow, Store

    Pin = Callable[[Environment], Environment]

PREFIX = "pipeline:"
"""How a reference begins where a file's name could stand too: `pipeline:churn@3`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


@dataclass(frozen=True, slots=True)
class Registration:
    """What `register` did. new: False: the newest version was the same already. notes: what was not taken along."""

    row: PipelineRow
    new: bool
    notes: tuple[str, ...]


def register(
    store: Store, job: Job, name: str, *, description: str = "", pin: Pin = lambda found: found
) -> Registration:
    """Keep a job as the next version of a registered pipeline.

    Args:
        pin: an environment → the same by its image's id; what it leaves as it is stays a reference, and is said.

    Raises:
        UsageError: the name cannot be one.
        CodeFolderError: code cannot be taken along.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a pipeline's name", "expected letters, digits, `-`, `_` and `.`: churn-model"
        )
    taking = _Taking(store, pin)
    with store.errors():
        kept = replace(taking.of(job), name=None, file=None, warnings=())
    text = json.dumps(job_json.to_json(kept), sort_keys=True)
    row, new = store.add_pipeline(name, description=description or job.description, job=text)
    return Registration(row, new, tuple(dict.fromkeys(taking.notes)))


def load(store: Store, reference: str, sets: Sequence[tuple[str, str]] = ()) -> Job:
    """The job of `NAME`, `NAME@VERSION`, with or without `pipeline:` before it.

    Args:
        sets: (`inputs.NAME`, the value as typed); a relative path is one of the current folder.

    Raises:
        NotFoundError: there is no such pipeline or version.
        UsageError: something else than an input is set, or a value is of the wrong kind.
        StoreError: it is damaged.
    """
    row = find(store, reference)
    job = job_json.from_json(json.loads(row.job))
    declared = job.component.inputs
    inputs: dict[str, Value] = dict(job.inputs)
    for path, text in sets:
        kind, _, name = path.partition(".")
        if kind != "inputs" or not name:
            raise UsageError(
                f"--set {path}: of a registered pipeline only inputs can be set",
                "change its file and register it again",
            )
        if name not in declared:
            near = nearest(name, declared)
            hint = f"did you mean {near}?" if near else f"there are: {', '.join(declared) or 'none'}"
            raise UsageError(f"--set {path}: {row.name} has no input {name!r}", hint)
        inputs[name] = _value(path, text, declared[name])
    experiment = job.experiment or row.name
    return replace(job, inputs=inputs, display_name=job.display_name or row.name, experiment=experiment)


def find(store: Store, reference: str) -> PipelineRow:
    """The row that a reference means; without a version the newest.

    Raises:
        NotFoundError: there is none.
    """
    name, at, version = reference.removeprefix(PREFIX).partition("@")
    versions = store.pipelines(name)
    if not versions:
        near = nearest(name, {row.name for row in store.pipelines()})
        hints = [f"did you mean {near}?"] if near else []
        raise NotFoundError(f"no pipeline is registered as {name!r}", *hints, "see them: runner pipeline list")
    if not at or version == "latest":
        return versions[0]
    for row in versions:
        if str(row.version) == version:
            return row
    raise NotFoundError(f"{name} has no version {version!r}", f"there are: {_versions(versions)}")


def _versions(rows: Sequence[PipelineRow]) -> str:
    newest, oldest = rows[0].version, rows[-1].version
    return str(newest) if newest == oldest else f"{oldest} to {newest}"


def _value(path: str, text: str, declared: Input) -> Value:
    """What was typed, as the type that the input has; its range and choices are checked where a job is composed."""
    try:
        match declared.type:
            case DataType.INTEGER:
                return int(text)
            case DataType.NUMBER:
                return float(text)
            case DataType.STRING:
                return text
            case DataType.BOOLEAN:
                return {"true": True, "false": False}[text.lower()]
            case _:
                pass
    except (ValueError, KeyError):
        raise UsageError(f"--set {path}={text}: expected a value of type {declared.type}") from None
    place = text if _URI.match(text) else os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - `~` may be unknown
    return Data(place, declared.type)


# -- taking along -----------------------------------------------------------------------------------------------------


class _Taking:
    """Rebuilds a job with its code in the store."""

    def __init__(self, store: Store, pin: Pin) -> None:
        self.notes: list[str] = []
        self._store, self._pin = store, pin
        self._kept: dict[Path, Path] = {}

    def of(self, value: Any) -> Any:
        """The value with every code, environment and reference to data in it looked at."""
        if isinstance(value, Code):
            return self._code(value)
        if isinstance(value, Environment):
            return self._environment(value)
        if isinstance(value, Data):
            self.notes.append(f"data stays where it is: {value.uri}")
            return value
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{each.name: self.of(getattr(value, each.name)) for each in fields(value)})
        if isinstance(value, tuple):
            return tuple(self.of(each) for each in value)
        if isinstance(value, dict):
            return {name: self.of(each) for name, each in value.items()}
        return value

    def _code(self, code: Code) -> Code:
        if code.git is not None:
            self.notes.append(f"code stays where it is: {code.git}")
        path = code.path if code.path is None or code.git is not None else self._keep(code.path)
        return replace(code, path=path, includes=tuple(self._keep(each) for each in code.includes))

    def _environment(self, environment: Environment) -> Environment:
        pinned = self._pin(environment)
        if not (pinned.image or "").startswith("sha256:"):
            named = pinned.reference or pinned.image or pinned.libs or pinned.context
            self.notes.append(f"the environment stays a reference: {named}")
        return pinned

    def _keep(self, path: Path) -> Path:
        """A copy of a code folder or file, under the digest of its content, made aside and renamed."""
        if path not in self._kept:
            folder = self._store.pipeline_files
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside = folder / f".{os.getpid()}-{os.urandom(6).hex()}"
            try:
                found = self._copied(path, aside / path.name)
                place = folder / Digests(None).of(aside)
                if not place.exists():
                    _renamed(aside, place)
                self._kept[path] = place / found
            finally:
                remove_tree(aside)
        return self._kept[path]

    def _copied(self, path: Path, target: Path) -> str:
        if path.is_dir():
            taken = snapshot.scan(path, named=True, without=self._store.home)
            self.notes += taken.notes
            snapshot.copy(path, taken, target)
        else:
            if not path.exists():
                raise NotFoundError(f"there is no code at {path}")
            snapshot.copy(path.parent, snapshot.single(path), target.parent)
        return target.name


def _renamed(aside: Path, place: Path) -> None:
    try:
        aside.rename(place)
    except OSError:
        if not place.is_dir():  # another registration of the same content was quicker, otherwise
            raise
