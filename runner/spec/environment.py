"""environment.yml as conda knows it. What cannot be had in an image is an error; only `prefix` means nothing there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.spec import items
from runner.spec.places import Asked, asked, inside, listed
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from runner.spec.yamldoc import Document

_KEYS = ("name", "channels", "dependencies", "variables", "prefix")
DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
"""What conda means by the channel `defaults`."""
USUAL = "conda-forge"
"""The channel where none is named."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What an environment.yml asks for; channels as written, checked; the paths in `pip` count from its folder."""

    name: str | None
    channels: tuple[Asked, ...]
    packages: tuple[Asked, ...]
    pip: tuple[Asked, ...]
    env: Mapping[str, str]


def read_environment(document: Document) -> Environment:
    """The environment that a document describes.

    Raises:
        SpecError: it is none, or asks for what cannot be had.
    """
    data = document.data
    for key in data:
        if key not in _KEYS:
            near = nearest(key, _KEYS)
            hints = [f"did you mean {near}?"] if near else []
            raise document.error((key,), "unknown key of an environment.yml", *hints, f"known: {', '.join(_KEYS)}")
    name = data.get("name")
    if name is not None and isinstance(name, dict | list):
        raise document.error(("name",), "expected text")
    packages, pip = _dependencies(document)
    return Environment(
        name=document.text(("name",)) or None if name is not None else None,
        channels=tuple(item.checked(items.channel) for item in _texts(document, "channels")),
        packages=tuple(item.checked(items.conda_item) for item in packages),
        pip=tuple(pip),
        env=_variables(document),
    )


def channels(asked: Iterable[Asked], folder: Path) -> Iterator[str]:
    """Channels as the builder takes them: folders as absolute `file://` addresses, `defaults` spelled out.

    `nodefaults` goes: no channel is ever added to those named.

    Raises:
        SpecError: a folder is not there.
    """
    for item in asked:
        text = item.checked(items.channel).text
        if text in {"nodefaults", "defaults"}:
            yield from DEFAULTS if text == "defaults" else ()
            continue
        if text.startswith(("./", "../", "/")) or text in {".", ".."}:
            text = (folder / text).absolute().as_uri()
        if text.startswith("file://"):
            yield _folder(item, text)
        else:
            yield text


def _folder(item: Asked, address: str) -> str:
    from pathlib import Path
    from urllib.parse import unquote

    root = Path("/")
    path = inside(item, root, root, unquote(address.removeprefix("file://")))
    if not path.is_dir():
        raise item.error(f"{item.text} is not a folder", "a local channel is a folder with noarch/ and linux-64/ in it")
    return path.as_uri()


def _texts(document: Document, key: str) -> list[Asked]:
    value = document.data.get(key)
    if value is not None and not isinstance(value, list):
        raise document.error((key,), "expected a list (`- item` lines)")
    for index, item in enumerate(value or ()):
        if not isinstance(item, str):
            raise document.error((key, index), "expected text")
    return listed(document, (key,))


def _dependencies(document: Document) -> tuple[list[Asked], list[Asked]]:
    """(conda's, pip's)."""
    value: Any = document.data.get("dependencies")
    if not isinstance(value, list):
        raise document.error(("dependencies",), "expected a list (`- item` lines)")
    pip: list[Asked] = []
    for index, item in enumerate(value):
        path = ("dependencies", index)
        if isinstance(item, str):
            continue
        if not isinstance(item, dict):
            raise document.error(path, "expected text, or `pip:` with a list")
        for key, lines in item.items():
            if key != "pip":
                raise document.error((*path, key), "cannot be honoured", "the only section that is known here: pip")
            if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
                raise document.error((*path, key), "expected a list of texts (`- item` lines)")
            pip += [
                asked(document, (*path, key, number), line.strip()).checked(items.pip_item)
                for number, line in enumerate(lines)
            ]
    return _without_bare(listed(document, ("dependencies",))), pip


def _without_bare(asked: list[Asked]) -> list[Asked]:
    """A bare name beside a spec of that name asks for nothing more: many files have `pip=20.3.4`, and `pip` further down."""
    names = [items.conda_name(each.text) for each in asked]
    specific = {name for name, each in zip(names, asked, strict=True) if each.text.strip().lower() != name}
    return [
        each
        for name, each in zip(names, asked, strict=True)
        if name not in specific or each.text.strip().lower() != name
    ]


def _variables(document: Document) -> dict[str, str]:
    value = document.data.get("variables")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise document.error(("variables",), "expected a mapping (`NAME: value` lines)")
    for name, content in value.items():
        if not items.ENV_NAME.fullmatch(name):
            raise document.error(("variables", name), f"{name!r} is not a name of an environment variable")
        if isinstance(content, dict | list) or content is None:
            raise document.error(("variables", name), "expected text")
    return {name: document.text(("variables", name)) for name in value}
