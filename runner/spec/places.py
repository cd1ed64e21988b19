"""Entries of files and the local files that they name: where each stands, and that it lies in the libs file's folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.spec.yamldoc import Document, KeyPath


@dataclass(frozen=True, slots=True)
class Asked:
    """One entry: its text (of a requirement line without comment and hashes), and where it stands."""

    text: str
    file: str
    line: int
    key: str | None

    def error(self, message: str, *hints: str) -> SpecError:
        """A SpecError at this place."""
        return SpecError(message, *hints, file=self.file, line=self.line, key=self.key)

    def checked(self, check: Callable[[str], str]) -> Asked:
        """The entry as a check of `runner.spec.items` returns it.

        Raises:
            SpecError: the check's ValueError, at this place.
        """
        try:
            return replace(self, text=check(self.text))
        except ValueError as error:
            message, *hints = str(error).split("\n")
            raise self.error(message, *hints) from None


def listed(document: Document, path: KeyPath) -> list[Asked]:
    """The texts of the list at `path`; nothing where there is no list."""
    value: object = document.data
    for part in path:
        value = value.get(part) if isinstance(value, dict) and isinstance(part, str) else None
    items = value if isinstance(value, list) else []
    return [asked(document, (*path, index), text) for index, text in enumerate(items) if isinstance(text, str)]


def asked(document: Document, path: KeyPath, text: str) -> Asked:
    """A text of the document as an entry."""
    key = ".".join(part for part in path if isinstance(part, str)) or None
    return Asked(text, document.file, document.line(path) or 1, key)


def inside(item: Asked, folder: Path, base: Path, name: str) -> Path:
    """The file or folder that an entry names, resolved.

    Args:
        folder: resolved; what is outside cannot be taken into a build.
        base: the folder from which `name` counts.

    Raises:
        SpecError: outside `folder`, not there, or no path at all.
    """
    try:
        resolved = (base / name).resolve()
        found = resolved.exists()
    except (OSError, ValueError, RuntimeError):  # a NUL, longer than the file system allows, a loop of symbolic links
        raise item.error(f"no such file: {name}") from None
    if not resolved.is_relative_to(folder):
        raise item.error(f"{name} is outside the folder of libs.yaml", "move or copy it there")
    if not found:
        raise item.error(f"no such file: {name}", f"looked in {(base / name).parent}")
    return resolved


def files_below(path: Path) -> list[Path]:
    """The file itself, or all files below a folder in the order of their names, `.git` left out."""
    if not path.is_dir():
        return [path]
    found: list[Path] = []
    for top, folders, files in os.walk(path):
        folders[:] = [name for name in folders if name != ".git"]
        found += [Path(top, name) for name in files if name != ".git"]
    return sorted(file for file in found if file.is_file())
