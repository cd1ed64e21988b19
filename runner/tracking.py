"""What a script logs by MLflow, without a server: a file store that runner writes before the start and reads afterwards.

The store is MLflow's own format of plain files, which every version since 1.0 reads and writes:

    <folder>/main                                        id of the run that the script finds active
    <folder>/artifacts/                                  what is logged as an artifact
    <folder>/store/1/meta.yaml                           the experiment
    <folder>/store/1/<id>/meta.yaml, metrics/, params/, tags/

The script can leave anything there, so nothing here follows a link, and all that is read is bounded.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_STORE, _EXPERIMENT, _MAIN = "store", "1", "main"
_PARTS = ("metrics", "params", "tags", "artifacts")
"""Of a run; MLflow 3 knows one by having all four."""
_NAME = "mlflow.runName"
ARTIFACTS = "artifacts"
"""The part of the store that becomes outputs of the run."""

_FILES = 20_000
"""Files looked at in one store: an autologged run has fewer than a hundred."""
_HEAD, _TAIL = 4 << 20, 1 << 16
"""Bytes read of one metric: about 130,000 points from its beginning, and always its end, which holds the latest."""
_TEXT = 1 << 16
_ALL = 64 << 20
_ID = re.compile(r"[0-9a-f]{32}")
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Point:
    """One logged value. time: seconds since the epoch, as the script's clock had it."""

    value: float
    step: int
    time: float


@dataclass(frozen=True, slots=True)
class Tracked:
    """What one MLflow run logged. metrics: name → its points in the order of logging. tags: the user's own."""

    name: str = ""
    metrics: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.metrics or self.params or self.tags)


@dataclass(frozen=True, slots=True)
class Store:
    """All that a script logged. main: what it logged without starting runs of its own. others: nested and further runs."""

    main: Tracked = field(default_factory=Tracked)
    others: tuple[Tracked, ...] = ()


def latest(points: tuple[Point, ...]) -> Point:
    """The point of the highest step, and of these the one logged last: what MLflow shows as the metric's value."""
    return max(enumerate(points), key=lambda each: (each[1].step, each[0]))[1]


# -- before the start -----------------------------------------------------------------------------------------------


def run_id(run: str) -> str:
    """MLflow's id of a run of ours: 32 hexadecimal digits."""
    return hashlib.sha256(run.encode()).hexdigest()[:32]


def prepare(folder: Path, *, seen: str, run: str, experiment: str) -> None:
    """Write a store with one active run.

    Args:
        folder: made; its parent exists. seen: the same folder as the script sees it.
        run: its name; experiment: likewise.
    """
    ident, now = run_id(run), int(time.time() * 1000)
    here = folder / _STORE / _EXPERIMENT / ident
    here.mkdir(parents=True)
    for part in _PARTS:
        (here / part).mkdir()
    artifacts = f"file://{quote(seen)}/{ARTIFACTS}"
    _write(folder / _MAIN, ident)
    _write(here.parent / "meta.yaml", _yaml({
        "artifact_location": artifacts, "creation_time": now, "experiment_id": _EXPERIMENT, "last_update_time": now,
        "lifecycle_stage": "active", "name": experiment,
    }))  # fmt: skip
    _write(here / "meta.yaml", _yaml({
        "artifact_uri": artifacts, "end_time": None, "entry_point_name": "", "experiment_id": _EXPERIMENT,
        "lifecycle_stage": "active", "run_id": ident, "run_name": run, "run_uuid": ident, "source_name": "",
        "source_type": 4, "source_version": "", "start_time": now, "status": 1, "tags": [], "user_id": "runner",
    }))  # fmt: skip
    _write(here / "tags" / _NAME, run)


def variables(seen: str, *, run: str, experiment: str) -> dict[str, str]:
    """What makes MLflow log there. seen: the store's folder as the script sees it."""
    ident = run_id(run)
    return {
        "MLFLOW_TRACKING_URI": f"file://{quote(seen)}/{_STORE}",
        "MLFLOW_EXPERIMENT_ID": _EXPERIMENT,
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "MLFLOW_RUN_ID": ident,
        # Without it the newest MLflow refuses file stores (3.17 does, 3.1 does not); older ones do not know it.
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "RUNNER_TRACKING": f"{seen}/{_STORE}/{_EXPERIMENT}/{ident}",
    }


def _yaml(values: Mapping[str, object]) -> str:
    """A flat mapping; JSON's texts and numbers are YAML's too."""
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


# -- reading --------------------------------------------------------------------------------------------------------


def untouched(folder: Path, run: str) -> bool:
    """Whether nothing has been added to what `prepare` made. Far cheaper than `used`, and enough for most scripts."""
    ident = run_id(run)
    here = f"{folder}/{_STORE}/{_EXPERIMENT}/{ident}"
    wanted: dict[str, set[str]] = {
        str(folder): {_STORE, _MAIN}, f"{folder}/{_STORE}": {_EXPERIMENT},
        f"{folder}/{_STORE}/{_EXPERIMENT}": {"meta.yaml", ident}, here: {"meta.yaml", *_PARTS},
        **{f"{here}/{part}": {_NAME} if part == "tags" else set() for part in _PARTS},
    }  # fmt: skip
    try:
        return all(_names(path) == names for path, names in wanted.items())
    except OSError:
        return False


def _names(path: str) -> set[str]:
    with os.scandir(path) as entries:
        return {entry.name for entry in entries}


def used(folder: Path) -> bool:
    """Whether anything was logged, artifacts aside; an untouched store need not be kept."""
    kinds = {"metrics", "params"}
    for parts, _ in _walk(folder):
        if len(parts) > 4 and (parts[3] in kinds or (parts[3] == "tags" and parts[4] != _NAME)):
            return True
    return False


def read(folder: Path) -> Store:
    """All that was logged; an empty answer where there is no store. Lines that are no points are left out."""
    main = _main(folder)
    budget = _ALL
    found: dict[str, dict[str, dict[str, bytes]]] = {}
    for parts, fd in _walk(folder):
        if len(parts) < 5 or parts[3] not in {"metrics", "params", "tags"}:
            continue
        raw = _read(fd, whole=parts[3] == "metrics")[:budget]
        budget -= len(raw)
        found.setdefault(parts[2], {}).setdefault(parts[3], {})["/".join(parts[4:])] = raw
    runs = {ident: _tracked(kinds) for ident, kinds in sorted(found.items())}
    others = tuple(run for ident, run in runs.items() if ident != main and run)
    return Store(runs.get(main, Tracked()), others)


def history(folder: Path, metric: str) -> tuple[Point, ...]:
    """The points of one metric of the main run, in the order of logging. Cheap enough to be asked many times a second."""
    path = PurePosixPath(_STORE, _EXPERIMENT, _main(folder), "metrics", metric)
    if path.is_absolute() or ".." in path.parts:
        return ()
    with suppress(OSError):
        fd = _open(folder, path.parts)
        try:
            return tuple(_points(_read(fd, whole=True)))
        finally:
            os.close(fd)
    return ()


def _main(folder: Path) -> str:
    try:
        fd = _open(folder, (_MAIN,))
    except OSError:
        return "none"
    try:
        text = _read(fd, whole=False).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    return text if _ID.fullmatch(text) else "none"


def _open(folder: Path, parts: tuple[str, ...]) -> int:
    """Open a regular file below the folder without following a link anywhere on the way."""
    fd = os.open(folder, _FLAGS | os.O_DIRECTORY)
    for number, part in enumerate(parts, 1):
        try:
            inner = os.open(part, _FLAGS | (os.O_DIRECTORY if number < len(parts) else 0), dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(parts)
    return fd


def _walk(folder: Path) -> Iterator[tuple[tuple[str, ...], int]]:
    """(path below the folder, descriptor) of each regular file, artifacts aside; bounded, and past what cannot be read."""
    left = _FILES
    try:
        top = os.open(folder, _FLAGS | os.O_DIRECTORY)
    except OSError:
        return
    try:
        for base, names, files, inside in os.fwalk(".", dir_fd=top, follow_symlinks=False):
            parts = PurePosixPath(base).parts
            names[:] = sorted(name for name in names if (*parts, name) != (ARTIFACTS,)) if len(parts) < 12 else []
            for name in sorted(files):
                left -= 1
                if left < 0:
                    return
                with suppress(OSError):
                    fd = os.open(name, _FLAGS, dir_fd=inside)
                    try:
                        if stat.S_ISREG(os.fstat(fd).st_mode):
                            yield (*parts, name), fd
                    finally:
                        os.close(fd)
    finally:
        os.close(top)


def _read(fd: int, *, whole: bool) -> bytes:
    """A metric's beginning and end; of everything else the beginning."""
    if not whole:
        return os.pread(fd, _TEXT, 0)
    size = os.fstat(fd).st_size
    head = os.pread(fd, _HEAD, 0)
    if size <= _HEAD:
        return head
    tail = os.pread(fd, _TAIL, max(_HEAD, size - _TAIL))
    # Each part begins and ends in the middle of a line.
    return head[: head.rfind(b"\n") + 1] + tail[tail.find(b"\n") + 1 :]


def _tracked(kinds: Mapping[str, Mapping[str, bytes]]) -> Tracked:
    points = {name: tuple(_points(raw)) for name, raw in kinds.get("metrics", {}).items()}
    tags = {name: _text(raw) for name, raw in kinds.get("tags", {}).items()}
    return Tracked(
        name=tags.get("mlflow.runName", ""),
        metrics={name: values for name, values in points.items() if values},
        params={name: _text(raw) for name, raw in kinds.get("params", {}).items()},
        tags={name: text for name, text in tags.items() if not name.startswith("mlflow.")},
    )


def _points(raw: bytes) -> Iterator[Point]:
    """`<milliseconds> <value> [<step>]` a line. The last line counts once it has its end: a half-written 10 reads as 1."""
    for line in raw[: raw.rfind(b"\n") + 1].split(b"\n"):
        words = line.split()
        if len(words) not in {2, 3, 5}:  # MLflow 3 may add a data set's name and digest
            continue
        with suppress(ValueError, OverflowError):
            moment, step = float(words[0]) / 1000, int(words[2]) if len(words) > 2 else 0
            if math.isfinite(moment):
                yield Point(float(words[1]), step, moment)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").removesuffix("\n")
