"""What an image is made of, as hashes: the content tag of a libs file with its lock. No engine, no pydantic.

Only what decides the content counts: not proxies, CA bundles or mirrors, and no clock.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from runner.assets import asset
from runner.builder.cache import cache_dir
from runner.spec.lock import lock_name
from runner.spec.named import named

if TYPE_CHECKING:
    from collections.abc import Iterable

STEPS = Path(__file__).parent / "steps"
"""The scripts that run inside build containers."""

_CONTRACT = re.compile(r"^CONTRACT(?:\s*:\s*[\w.\[\]]+)?\s*=\s*(\d+)", re.MULTILINE)


LAYER_NAME = "localhost/runner-layer:"


def layer_tag(key: str) -> str:
    """The name under which the engine keeps the layer of that key."""
    return f"{LAYER_NAME}{key[:24]}"


@dataclass(frozen=True, slots=True)
class Content:
    """What a libs file, all files that it names, and the scripts that build it are at one moment. name: the image's."""

    name: str
    digest: str

    def tag(self, lock: bytes) -> str:
        """The name of the image of this content and that lock."""
        return f"localhost/{self.name}:{hashlib.sha256(self.digest.encode() + lock).hexdigest()[:16]}"


def content(libs: Path) -> Content:
    """Of the files as they are now.

    Raises:
        SpecError: the file, or one that it names, cannot be read.
    """
    found = named(libs)
    digest = hashlib.sha256(f"{steps_hash()} {bootstrap_hash()}\n".encode())
    digest.update(found.raw)
    for name, raw in named_files(found.files, found.folder).items():
        digest.update(f"\n{name} {len(raw)}\n".encode())
        digest.update(raw)
    return Content(found.name, digest.hexdigest())


def content_tag(libs: Path) -> str:
    """The name that the image of this libs file and its lock has: `localhost/NAME:HASH`. The same bytes, the same name.

    Cheap on purpose (no pydantic, no engine): every `submit` asks. It checks no more than it must to find the files.

    Raises:
        SpecError: the file, or one that it names, cannot be read.
    """
    lock = lock_path(libs)
    return content(libs).tag(lock.read_bytes() if lock.exists() else b"")


def lock_path(libs: Path) -> Path:
    """Where the lock of a libs file is: beside it; in the cache folder for a file of runner itself, and where there is none
    beside it and its folder cannot be written to."""
    libs = libs.resolve()
    beside = libs.with_name(lock_name(libs))
    if libs.is_relative_to(asset("images")) or not (beside.exists() or os.access(libs.parent, os.W_OK)):
        key = hashlib.sha256(str(libs).encode()).hexdigest()[:16]
        return cache_dir() / "locks" / f"{libs.stem}-{key}.lock"
    return beside


def named_files(files: Iterable[Path], folder: Path) -> dict[str, bytes]:
    """path relative to the folder → bytes. Local wheels may be large, so the limit of spec files does not hold."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@cache
def steps_hash() -> str:
    """The hash of the scripts that build."""
    return _folder_hash(STEPS)


@cache
def bootstrap_hash() -> str:
    """The hash of what is copied to /opt/runner."""
    return _folder_hash(asset("bootstrap"))


def bootstrap_files() -> dict[str, bytes]:
    """What is copied to /opt/runner: relative path → bytes."""
    folder = asset("bootstrap")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files_in(folder)}


def contract() -> int:
    """The version of the contract that the installed bootstrapper keeps, read from its text: it is never imported."""
    match = _CONTRACT.search((asset("bootstrap") / "bootstrap.py").read_text(encoding="utf-8"))
    return int(match[1]) if match else 1


def _files_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in {".py", ".R", ".sh", ".conf"} and "__pycache__" not in path.parts
    )


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _files_in(folder):
        raw = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(raw)}\n".encode())
        digest.update(raw)
    return digest.hexdigest()
