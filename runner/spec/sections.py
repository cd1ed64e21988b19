"""The mapping sections of a runner.yaml, checked: each entry with its line, all that is wrong of them together."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from runner.errors import SpecError
from runner.job import DataType, Where
from runner.spec import values
from runner.spec.credentials import login_in
from runner.spec.mappings import AzureAuth, BackendName, ComponentFile, Compute, Location, Mapped, Origin, Workspace
from runner.spec.yamldoc import dotted, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.spec.yamldoc import Document, KeyPath

_T = TypeVar("_T")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_SIGNED = re.compile(r"[?&](sig|x-amz-signature|x-goog-signature)=", re.IGNORECASE)
_ENVIRONMENT = ("image", "libs", "local")
_COMPUTE = ("backend", "cpus", "memory", "instances")
_WORKSPACE = ("subscription", "resource_group", "name")
_AUTHS = get_args(AzureAuth)
_DATA_TYPES = tuple(str(kind) for kind in DataType if not kind.literal)


@dataclass(frozen=True, slots=True)
class Sections:
    """The mapping sections of one file."""

    environments: Mapping[str, Mapped] = field(default_factory=dict)
    datastores: Mapping[str, Location] = field(default_factory=dict)
    data: Mapping[str, Location] = field(default_factory=dict)
    urls: Mapping[str, Location] = field(default_factory=dict)
    components: Mapping[str, ComponentFile] = field(default_factory=dict)
    computes: Mapping[str, Compute] = field(default_factory=dict)
    workspace: Workspace | None = None


SECTIONS = tuple(Sections.__dataclass_fields__)
"""Their keys in runner.yaml."""


def sections(document: Document, *, folder: Path, named: bool) -> tuple[Sections, list[SpecError]]:
    """The sections of one file, and all that is wrong in them.

    Args:
        folder: absolute, the file's; relative paths count from it.
        named: the file is of the user's own choice.
    """
    reader = _Reader(document, folder, named)
    found = Sections(
        environments=reader.section("environments", reader.environment, "NAME: {image: … | libs: … | local: true}"),
        datastores=reader.section("datastores", reader.location, "NAME: FOLDER or URL"),
        data=reader.section("data", reader.asset, "NAME: PATH or URL"),
        urls=reader.section("urls", reader.mirror, "URL: FOLDER or URL"),
        components=reader.section("components", reader.component, "NAME: FILE"),
        computes=reader.section("computes", reader.compute, "NAME: {backend: …, cpus: …, memory: …}"),
        workspace=reader.workspace(),
    )
    return found, reader.errors


class _Reader:
    def __init__(self, document: Document, folder: Path, named: bool) -> None:
        self.document, self.folder, self.named = document, folder, named
        self.errors: list[SpecError] = []

    def section(self, key: str, read: Callable[[KeyPath, str, Any], _T], wanted: str) -> dict[str, _T]:
        """One mapping section: name → what `read` makes of its value. Errors are kept and the entry left out."""
        given = self.document.data.get(key)
        if given is None:
            return {}
        if not isinstance(given, dict):
            self.errors.append(self.document.error((key,), f"expected {wanted} lines, found {shown(given)}"))
            return {}
        found = {}
        for name, value in given.items():
            try:
                found[name] = read((key, name), name, value)
            except SpecError as error:
                self.errors.append(error)
        return found

    def environment(self, path: KeyPath, _name: str, value: Any) -> Mapped:
        settings = self._mapping(path, value, _ENVIRONMENT, "{image: …}, {libs: …} or {local: true}")
        if len(settings) != 1:
            raise self.document.error(path, f"expected one of {', '.join(_ENVIRONMENT)}, found {len(settings)}")
        origin = self._origin(path)
        if "local" in settings:
            if settings["local"] is not True:
                raise self.document.error((*path, "local"), f"expected true, found {shown(settings['local'])}")
            return Mapped(local=True, origin=origin)
        if "image" in settings:
            return Mapped(image=self._text((*path, "image"), settings["image"]), origin=origin)
        return Mapped(libs=self._file((*path, "libs"), settings["libs"]), origin=origin)

    def location(self, path: KeyPath, _name: str, value: Any) -> Location:
        return Location(self._target(path, self._text(path, value)), origin=self._origin(path))

    def asset(self, path: KeyPath, name: str, value: Any) -> Location:
        if not isinstance(value, dict):
            return self.location(path, name, value)
        settings = self._mapping(path, value, ("path", "type"), "a path, a URL or {path: …, type: …}")
        if "path" not in settings:
            raise self.document.error(path, "no path", "expected {path: …, type: …}")
        target = self._target((*path, "path"), self._text((*path, "path"), settings["path"]))
        kind = settings.get("type")
        if kind is not None and kind not in _DATA_TYPES:
            raise self._choice((*path, "type"), kind, _DATA_TYPES)
        return Location(target, DataType(kind) if kind else None, self._origin(path))

    def mirror(self, path: KeyPath, name: str, value: Any) -> Location:
        if "://" not in name:
            raise self.document.error(path, "expected the beginning of a URL", "such as https://data.example.com/sets/")
        self._no_login(path, name)
        return self.location(path, name, value)

    def component(self, path: KeyPath, _name: str, value: Any) -> ComponentFile:
        return ComponentFile(self._file(path, value), self._origin(path))

    def compute(self, path: KeyPath, _name: str, value: Any) -> Compute:
        settings = self._mapping(path, value, _COMPUTE, "{backend: …, cpus: …, memory: …, instances: …}")
        backend = settings.get("backend")
        if backend is not None and backend not in get_args(BackendName):
            raise self._choice((*path, "backend"), backend, get_args(BackendName))
        instances = settings.get("instances")
        if instances is not None and (type(instances) is not int or instances < 1):
            raise self.document.error((*path, "instances"), f"expected 1 or more, found {shown(instances)}")
        return Compute(
            backend=backend,
            cpus=self._value((*path, "cpus"), settings, values.cpus),
            memory_bytes=self._value((*path, "memory"), settings, values.size),
            instances=instances,
            origin=self._origin(path),
        )

    def workspace(self) -> Workspace | None:
        given = self.document.data.get("workspace")
        if given is None:
            return None
        path = ("workspace",)
        try:
            settings = self._mapping(
                path, given, (*_WORKSPACE, "auth"), "{subscription: …, resource_group: …, name: …}"
            )
            if missing := [key for key in _WORKSPACE if key not in settings]:
                raise self.document.error(path, f"no {' and no '.join(missing)}")
            subscription, group, name = (self._text((*path, key), settings[key]) for key in _WORKSPACE)
            if (auth := settings.get("auth")) is not None and auth not in _AUTHS:
                raise self._choice((*path, "auth"), auth, _AUTHS)
        except SpecError as error:
            self.errors.append(error)
            return None
        return Workspace(subscription, group, name, auth, self._origin(path))

    def _origin(self, path: KeyPath) -> Origin:
        where = Where(self.document.file, self.document.line(path), dotted(path))
        return Origin(where, self.folder, self.named)

    def _mapping(self, path: KeyPath, value: Any, known: tuple[str, ...], wanted: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.document.error(path, f"expected {wanted}, found {shown(value)}")
        for key in value:
            if key not in known:
                raise unknown_key(self.document, (*path, key), key, known)
        return value

    def _text(self, path: KeyPath, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.document.error(path, f"expected text, found {shown(value)}")
        return value.strip()

    def _value(self, path: KeyPath, settings: Mapping[str, Any], check: Callable[[str, str], _T]) -> _T | None:
        if settings.get(str(path[-1])) is None:
            return None
        try:
            return check(self.document.text(path), "")
        except SpecError as error:
            raise self.document.error(path, error.message, *error.hints) from None

    def _choice(self, path: KeyPath, given: object, known: tuple[str, ...]) -> SpecError:
        near = nearest(str(given), known)
        hints = [f"did you mean {near}?"] if near else []
        return self.document.error(path, f"expected one of {', '.join(known)}, found {shown(given)}", *hints)

    def _target(self, path: KeyPath, text: str) -> str:
        """A URL as it is, or the absolute path that a text means."""
        if _URL.match(text):
            self._no_login(path, text)
            return text
        return self._path(path, text)

    def _path(self, path: KeyPath, text: str) -> str:
        if "\0" in text:
            raise self.document.error(path, "a path holds no NUL character")
        full = str(Path(text).expanduser()) if text == "~" or text.startswith("~/") else text
        return os.path.normpath(self.folder / full)

    def _file(self, path: KeyPath, value: Any) -> Path:
        text = self._text(path, value)
        if _URL.match(text):
            raise self.document.error(path, f"expected a file of this machine, found {text.partition('?')[0]}")
        found = Path(self._path(path, text))
        if not found.is_file():
            raise self.document.error(path, f"no such file: {text}", f"looked in {found.parent}")
        return found

    def _no_login(self, path: KeyPath, text: str) -> None:
        """Files are kept in git: no password in front of a host, no signature behind a path."""
        plain = text.startswith(("http:", "https:")) and login_in(text) is not None
        if plain or _SIGNED.search(text):
            key = tuple(part for part in path if part != text)  # the login may stand in the key itself
            raise SpecError(
                "a login stands in this URL, where everyone who has the file can read it",
                "leave it out and sign in: az login, AZURE_STORAGE_CONNECTION_STRING, AWS_…",
                file=self.document.file,
                line=self.document.line(path),
                key=dotted(key),
            )


def unknown_key(document: Document, path: KeyPath, key: str, known: tuple[str, ...]) -> SpecError:
    """The error for a key that is not one of `known`."""
    near = nearest(key, known)
    hints = [f"did you mean {near}?"] if near else []
    return document.error(path, "unknown key", *hints, f"known: {', '.join(known)}")


def shown(value: object) -> str:
    """What was found, as an error says it."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return repr(value)
