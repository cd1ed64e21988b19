"""MLTable: a folder with a file `MLTable` whose `paths:` name the files of a table.

`eval_mount` and `eval_download` give a step a folder with just these files, from wherever they are (`evaluated`). The other
modes give it the folder as it is: the `mltable` library in the step reads the file itself, relative paths beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.cache import link, plain_relative
from runner.data.fetch import fetch, matches
from runner.data.resolve import resolve
from runner.job import Where
from runner.spec.yamldoc import dotted, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.errors import SpecError
    from runner.spec.config import Config
    from runner.spec.yamldoc import Document, KeyPath

FILE = "MLTable"
_KINDS = ("file", "folder", "pattern")
_WILD = re.compile(r"[*?\[]")


def evaluated(folder: Path, config: Config, cache: Path, say: Callable[[str], None]) -> Path:
    """The files of a table in a folder of their own, read-only: those beside the MLTable at their relative path, a remote
    file under its name, a remote folder's below the folder's name.

    Args:
        folder: that of the MLTable, on this machine.
        cache: of `fetch`.

    Raises:
        SpecError: no MLTable there, or anything wrong in it, by its line. Further: as `resolve` and `fetch`.
    """
    document = read(folder / FILE)
    files: dict[str, Path] = {}
    for path, kind, uri in _paths(document):
        reach = _Reach(folder, document, path, kind)
        found = (
            reach.remote(uri, config, cache, say) if "://" in uri or uri.startswith("azureml:") else reach.local(uri)
        )
        for name, file in found.items():
            if files.setdefault(name, file) != file:
                raise document.error(path, f"two paths give a file {name}")
    return _laid_out(files, cache)


def _paths(document: Document) -> Iterator[tuple[KeyPath, str, str]]:
    """(where it stands, file|folder|pattern, what is said) of each entry of `paths:`.

    Raises:
        SpecError: no list, or an entry that is none of these.
    """
    given = document.data.get("paths")
    if not isinstance(given, list) or not given:
        raise document.error(("paths",), "expected a list of {file: …}, {folder: …} or {pattern: …}")
    for index, entry in enumerate(given):
        path = ("paths", index)
        kind = next(iter(entry)) if isinstance(entry, dict) and len(entry) == 1 else ""
        text = document.text((*path, kind))  # `2024` and `no` are names too
        if kind not in _KINDS or not text:
            raise document.error(path, "expected {file: …}, {folder: …} or {pattern: …}")
        yield path, kind, text


class _Reach:
    """One entry of `paths:`, followed."""

    def __init__(self, folder: Path, document: Document, path: KeyPath, kind: str) -> None:
        self.folder, self.document, self.path, self.kind = folder, document, path, kind

    def remote(self, uri: str, config: Config, cache: Path, say: Callable[[str], None]) -> Mapping[str, Path]:
        if uri.lower().startswith("file:"):
            raise self._error("expected a path beside the MLTable, or a URL", "a table may come from anywhere")
        base, pattern = _split(uri) if self.kind == "pattern" else (uri, None)
        where = Where(self.document.file, self.document.line(self.path), dotted(self.path))
        place = resolve(base, config, where=where)
        found = fetch(place, cache, say, folder=self.kind != "file", pattern=pattern)
        if self.kind == "file":
            return {place.name: found}
        files = _below(found)
        if pattern is not None:
            return self._some({name: file for name, file in files.items() if matches(name, pattern)})
        return {f"{place.name}/{name}": file for name, file in files.items()}

    def local(self, text: str) -> Mapping[str, Path]:
        name = text.removeprefix("./").rstrip("/")
        if name in {"", "."} and self.kind == "folder":
            return self._some({path: file for path, file in _below(self.folder).items() if path != FILE})
        if not plain_relative(name):
            raise self._error(f"{text} leads out of the MLTable's folder", "put the data beside it, or give its URL")
        if self.kind == "pattern":
            return self._some({path: file for path, file in _below(self.folder).items() if matches(path, name)})
        found = self.folder / name
        if not found.resolve().is_relative_to(self.folder.resolve()):
            raise self._error(f"{text}: a link leads out of the MLTable's folder")
        if self.kind == "folder":
            return self._some({f"{name}/{path}": file for path, file in _below(found).items()})
        if not found.is_file():
            raise self._error(f"no such file: {text}", f"looked in {self.folder}")
        return {name: found}

    def _some(self, files: dict[str, Path]) -> Mapping[str, Path]:
        if not files:
            raise self._error(f"no file is meant by this {self.kind}")
        return files

    def _error(self, message: str, *hints: str) -> SpecError:
        return self.document.error(self.path, message, *hints)


def _split(uri: str) -> tuple[str, str]:
    """The folder before the first part with a wildcard, and the pattern below it."""
    scheme, rest = uri.split("://", 1) if "://" in uri else ("", uri)
    parts = rest.split("/")
    first = next((index for index, part in enumerate(parts) if _WILD.search(part)), len(parts) - 1)
    base = "/".join(parts[:first]) + "/"
    return (f"{scheme}://{base}" if scheme else base), "/".join(parts[first:])


def _below(folder: Path) -> dict[str, Path]:
    """Relative path → regular file below a folder; links are left out."""
    found = (Path(top, name) for top, _, files in os.walk(folder) for name in files)
    return {
        file.relative_to(folder).as_posix(): file for file in sorted(found) if file.is_file() and not file.is_symlink()
    }


def _laid_out(files: Mapping[str, Path], cache: Path) -> Path:
    """A folder with these files, made once for what they are now; aside, then renamed."""
    listed = [(name, str(file), file.stat().st_size, file.stat().st_mtime_ns) for name, file in sorted(files.items())]
    target = cache / "tables" / hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32]
    if target.is_dir():
        return target
    aside = target.with_name(f".{secrets.token_hex(6)}")
    aside.mkdir(mode=0o755, parents=True)
    try:
        for name, file in files.items():
            place = aside / name
            place.parent.mkdir(parents=True, exist_ok=True)
            _put(file, place, owned=file.is_relative_to(cache))
        aside.rename(target)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not target.is_dir():  # else another process was faster
            raise
    return target


def _put(file: Path, place: Path, *, owned: bool) -> None:
    """The user's own files are copied: through a second name, a step could write to them."""
    if owned:
        link(file, place)
        return
    shutil.copy2(file, place)
    place.chmod(0o444)
