"""A step's output → its place: a folder of this machine, or a container. Nothing follows a link or leaves its folder."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.artifacts import copy_out
from runner.data.place import without_login
from runner.data.source import lasting
from runner.errors import CapabilityError, SpecError
from runner.spec.values import human_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.data.place import Place
    from runner.data.source import Target


def publish(local: Path, place: Place, say: Callable[[str], None]) -> None:
    """Copy an output to where it is to go. Files that are there are replaced one by one, others stay.

    Args:
        local: the file or folder. Links in it are copied as links to a local place, and left out of an upload.
        place: from `resolve`. A URL or path that ends with `/` takes a file under its own name.
        say: gets a line when something moves.

    Raises:
        SpecError: it leads out of its folder, or a project's file that was only found maps it outside the project.
        CapabilityError: no kind of place that can be written to. Further: as `fetch`. OSError: the disk.
    """
    if place.path is None:
        _upload(local, place, say)
        return
    _refuse_foreign(place, place.path)
    target = (
        place.path / local.name if local.is_file() and (place.path.is_dir() or place.uri.endswith("/")) else place.path
    )
    _refuse_outside(place, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if local.is_file():
        _whole(local, target)
    elif target.is_dir() and not target.is_symlink():
        copy_out(local, target)
    else:
        _whole(local, target)
    say(f"{place}  {human_size(sum(path.lstat().st_size for path in _files(local)))}")


def check_publish(place: Place) -> None:
    """Refuse a place that `publish` would refuse, before anything starts.

    Raises:
        SpecError: as `publish`.
    """
    if place.path is not None:
        _refuse_foreign(place, place.path)
        _refuse_outside(place, place.path)


def _refuse_foreign(place: Place, target: Path) -> None:
    """A checkout's runner.yaml must not decide that files of the user's are written over."""
    origin = place.origin
    if origin is None or origin.named or target.resolve().is_relative_to(origin.folder.resolve()):
        return
    raise origin.where.error(
        f"a project's file may not have outputs written outside its own folder ({target})",
        "if you trust it, put this into your own ~/.config/runner/runner.yaml, or name the file: --config, RUNNER_CONFIG",
    )


def _refuse_outside(place: Place, target: Path) -> None:
    if place.root is not None and not target.resolve().is_relative_to(place.root.resolve()):
        raise SpecError(f"{place.uri}: a link leads out of {place.root}")


def _whole(local: Path, target: Path) -> None:
    """Under a name that nobody can have foreseen, then renamed; a link in the way is replaced, never followed."""
    aside = target.parent / f".runner-{secrets.token_hex(8)}"
    try:
        if local.is_file():
            with local.open("rb") as source, aside.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
                os.fsync(file.fileno())
        else:
            copy_out(local, aside)
            if target.is_symlink():
                target.unlink()
        aside.replace(target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        aside.unlink(missing_ok=True)
        raise


def _upload(local: Path, place: Place, say: Callable[[str], None]) -> None:
    target, files = _target(place), _files(local)
    size = sum(path.stat().st_size for path in files)
    say(f"{place}  sending {human_size(size)}")
    with lasting(str(place)):
        if local.is_file():
            target.upload(local, local.name if urlsplit(place.url).path.endswith("/") else "")
            return
        for path in files:
            target.upload(path, path.relative_to(local).as_posix())


def _files(local: Path) -> list[Path]:
    """The file itself, or the regular files below a folder, sorted."""
    if local.is_file():
        return [local]
    found = (Path(top, name) for top, _, files in os.walk(local) for name in files)
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _target(place: Place) -> Target:
    scheme = urlsplit(place.url).scheme.lower()
    if scheme in {"s3", "gs"}:
        from runner.data.others import Bucket

        return Bucket.open(place.url)
    from runner.data import azure

    if scheme in {"wasb", "wasbs", "abfs", "abfss"} or (scheme == "https" and azure.known_host(place.url)):
        return azure.Blobs(place.url)
    raise CapabilityError(
        f"{without_login(place.url)}: nothing can be written to addresses of the kind {scheme}:",
        "expected a folder of this machine, abfss://…, wasbs://…, s3://… or gs://…",
    )
