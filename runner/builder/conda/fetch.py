"""Conda packages that a lock names: had into the cache folder, and laid out for the step that installs them.

On this machine, as they are resolved (see solve.py). The step gets files, and has neither network nor credentials.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from runner.builder.cache import cache_dir
from runner.builder.conda.client import NETWORK, bare, client, need_rattler, own_channels, resolve, without_secrets
from runner.builder.failures import GoneError
from runner.docker_api.images import Mount
from runner.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rattler import Client

    from runner.spec.libs import Libs, Package
    from runner.spec.lock import Locked

PREFIX = "/opt/conda"
"""Where the packages are in the image."""
SCRIPT = "conda.sh"
"""The step that installs them, with conda_install.py beside it."""

_AT_ONCE = 8


def fetch(
    locked: Sequence[Locked], channels: Sequence[str], ca_bundle: Path | None, report: Callable[[str], None]
) -> dict[str, Path]:
    """Have the packages in the cache folder: name → file. Each is what was locked, by its checksum.

    Args:
        locked: what `solve` found.
        channels: as for `solve`: their credentials are needed here again.
        ca_bundle: PEM file to trust for https, or None.
        report: gets a text for each package that is downloaded.

    Raises:
        GoneError: a package is not there any more, or has changed.
        BuildError: py-rattler is missing, a channel cannot be reached.
    """
    need_rattler()
    reach = client(resolve(channels), ca_bundle)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(package: Locked) -> tuple[str, Path]:
        path = _cached(package)
        good = await asyncio.to_thread(_fits, path, package)
        if not (good and package.hashes):
            async with gate:
                report(f"{package.name} {package.version} …")
                await _download(package, path, reach)
        return package.name, path

    async def every() -> list[tuple[str, Path]]:
        return await asyncio.gather(*map(one, locked))

    return dict(asyncio.run(every()))


def channels(libs: Libs) -> tuple[str, ...]:
    """Every channel of a libs file: those of all packages, and those that single ones name."""
    return (*libs.conda_channels, *own_channels(libs.conda))


def inputs(
    locked: Sequence[Locked], files: Mapping[str, Path], packages: Sequence[Package], folder: Path
) -> tuple[dict[str, bytes], tuple[Mount, ...]]:
    """What the step `conda.sh` needs: (files below /mnt/in, further mounts).

    Args:
        locked: all packages that the image is to have; those that it has already stay as they are.
        files: of at least those that it has not, from `fetch`.
        packages: the declared ones, for the record in the image.
        folder: an empty folder beside the cache, for as long as the step runs.

    Raises:
        BuildError: py-rattler cannot run in a Linux container.
    """
    need_rattler()
    import rattler

    if sys.platform != "linux":
        raise BuildError("images can be built on Linux only", "run runner inside a Linux machine or WSL")
    folder.mkdir(parents=True, exist_ok=True)
    for path in files.values():
        try:
            (folder / path.name).hardlink_to(path)
        except OSError:  # another file system
            shutil.copyfile(path, folder / path.name)
    entries = [{"file": _file_name(each), "url": each.source} for each in sorted(locked, key=lambda each: each.name)]
    plan = {"packages": entries, "specs": {package.name.lower(): bare(package) for package in packages}}
    library = str(Path(rattler.__file__).resolve().parent)
    mounts = (Mount(str(folder), "/mnt/conda"), Mount(library, "/mnt/rattler/rattler"))
    return {"conda.json": json.dumps(plan).encode()}, mounts


def environment(path: str, activated: str = "{}") -> dict[str, str]:
    """The image's variables with conda in it. path: its PATH until now. activated: the step's answer `conda.env`.

    Behind a virtual environment and in front of the system: what pip installed wins over conda, conda over Debian.
    """
    parts = [part for part in path.split(":") if part and part != f"{PREFIX}/bin"]
    front = [part for part in parts if part.startswith("/opt/venv/")]
    rest = [part for part in parts if part not in front]
    known: dict[str, str] = json.loads(activated)
    return {**known, "PATH": ":".join([*front, f"{PREFIX}/bin", *rest]), "CONDA_PREFIX": PREFIX}


def _file_name(package: Locked) -> str:
    return unquote(urlsplit(package.source).path).rpartition("/")[2]


def _cached(package: Locked) -> Path:
    key = hashlib.sha256(package.source.encode()).hexdigest()[:16]
    return cache_dir() / "conda" / "packages" / key / _file_name(package)


def _fits(path: Path, package: Locked) -> bool:
    """Whether a file is there and is what was locked."""
    kind, _, digest = (*package.hashes, "")[0].partition(":")
    try:
        with path.open("rb") as stream:
            if not kind:
                return True
            return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest() == digest
    except OSError:
        return False


async def _download(package: Locked, path: Path, reach: Client) -> None:
    from rattler.package_streaming import download_to_path

    what = f"{package.name} {package.version}"
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if package.source.startswith("file:"):
            await asyncio.to_thread(shutil.copyfile, unquote(urlsplit(package.source).path), aside)
        else:
            await download_to_path(reach, package.source, aside)
        if not await asyncio.to_thread(_fits, aside, package):
            raise GoneError(
                what,
                f"{what} has changed: {package.source} has not the checksum that was locked",
                f"take what is there now: runner build --upgrade {package.name}",
            )
        aside.rename(path)
    except (OSError, RuntimeError) as error:
        why = without_secrets(str(error)).splitlines()
        gone = any(sign in why[0] for sign in ("error (404", "No such file"))
        if gone:
            hint = f"take another version: runner build --upgrade {package.name}"
            raise GoneError(what, f"{what} cannot be had from {package.source}", *why, hint) from None
        raise BuildError(f"{what} cannot be had from {package.source}", *why, NETWORK) from None
    finally:
        with suppress(OSError):
            aside.unlink()
