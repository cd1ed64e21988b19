"""Every path of a run, and what is done with whole folders: written aside and renamed, removed whatever is in them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.names import file_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALWAYS_KEPT = frozenset({"outputs", "logs", "mlflow"})
"""Collected from every script, beside the outputs that it names."""

DEEPEST = 200
"""Folders nested more than this are a script's mistake (a copy into itself); no tool could walk them to their end."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Every path of one run. Written aside, then renamed; nothing else invents a path in here."""

    root: Path

    @property
    def code(self) -> Path:
        """The snapshot of the user's code, never written to after acceptance."""
        return self.root / "code"

    @property
    def lock(self) -> Path:
        """Held (flock) by the run's supervisor for as long as it lives."""
        return self.root / "lock"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor itself had to say; empty when all went well."""
        return self.root / "supervisor.log"

    @property
    def plan(self) -> Path:
        """Of a pipeline or a sweep: its `runner.plan.Plan` as JSON."""
        return self.root / "plan.json"

    @property
    def target(self) -> Path:
        """Of a run elsewhere: the workspace and how to sign in there, as JSON (see `open_backend`); no secret."""
        return self.root / "target.json"

    def read_target(self) -> dict[str, str] | None:
        """What `target` holds; None: there is none."""
        try:
            found: dict[str, str] = json.loads(self.target.read_bytes())
        except FileNotFoundError:
            return None
        return found

    def code_of(self, key: str | None) -> Path | None:
        """Of a pipeline: one of its code folders, by its key in `Plan.code`; None (no code) stays None."""
        return None if key is None else self.code / file_name(key)

    def step(self, path: str) -> RunFolder:
        """Of a pipeline: the folder of one of its steps."""
        return RunFolder(self.root / "steps" / file_name(path))

    def attempt(self, number: int) -> AttemptFolder:
        """The folder of attempt `number` (from 1)."""
        return AttemptFolder(self.root / "attempts" / str(number))


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """Every path of one attempt."""

    root: Path

    @property
    def box(self) -> Path:
        """What the script sees while it runs; removed once outputs and record are safe."""
        return self.root / "box"

    @property
    def log(self) -> Path:
        """The script's stdout and stderr, byte for byte."""
        return self.root / "log"

    @property
    def log_index(self) -> Path:
        """(time, size) pairs of the log, for `--since`."""
        return self.root / "log.index"

    @property
    def record(self) -> Path:
        """The bootstrapper's record, as it was at the end."""
        return self.root / "status.json"

    @property
    def artifacts(self) -> Path:
        """What the script left: `outputs/`, `logs/`, `mlflow/` and one folder per named output."""
        return self.root / "artifacts"

    def output(self, name: str) -> Path:
        """The folder of a named output."""
        return self.artifacts / output_folder(name)

    @property
    def tracking(self) -> Path:
        """What the script logged; see `runner.tracking`. There only if it logged something."""
        return self.root / "tracking"

    @property
    def listing(self) -> Path:
        """Of a step of a pipeline: all that lay in `artifacts` when it completed, by which a later change is told."""
        return self.root / "artifacts.json"


def output_folder(name: str) -> str:
    """What a named output's folder is called among what a script left: other people's jobs have outputs called `logs`."""
    return f"{name}.output" if name in _ALWAYS_KEPT else name


def remove_tree(root: Path) -> None:
    """Remove a folder with all that a script may have left in it: folders without permissions, or a thousand deep.

    Missing is a no-op, and what cannot be removed is left.
    """
    try:
        try:
            shutil.rmtree(root)
        except OSError:
            with suppress(OSError):
                open_up(root)
            shutil.rmtree(root, ignore_errors=True)
    except RecursionError:
        with suppress(OSError):
            _remove_flat(root)


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """An empty folder within `folder`, for one process at a time; what one that was killed left in it is removed."""
    place = folder / "bringing"
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        remove_tree(place)
        place.mkdir()
        try:
            yield place
        finally:
            remove_tree(place)
    finally:
        os.close(held)


def _remove_flat(root: Path) -> None:
    """Bring every folder up to the top and remove it there: no path gets too long, and no stack too deep."""
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(top, 0o700)
        while names := _folders(top):
            for name in names:
                os.chmod(name, 0o700, dir_fd=top)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
                try:
                    for each in _folders(inner):
                        os.chmod(each, 0o700, dir_fd=inner)  # a folder that cannot be written to cannot be moved
                        os.rename(each, f".{os.urandom(8).hex()}", src_dir_fd=inner, dst_dir_fd=top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    root.rmdir()


def _folders(fd: int) -> list[str]:
    """The folders in a folder, whose files are removed."""
    with os.scandir(fd) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, folder in entries:
        if not folder:
            os.unlink(name, dir_fd=fd)
    return [name for name, folder in entries if folder]


def open_up(root: Path) -> None:
    """Give the owner access to a folder and everything below it; links are not followed.

    Raises:
        OSError: its folders are nested more than `DEEPEST` times (ENAMETOOLONG).
    """
    with suppress(OSError):
        if not root.is_symlink():
            root.chmod(root.stat().st_mode | 0o700)
    for folder, names, files in os.walk(root):
        if folder.count(os.sep) - str(root).count(os.sep) > DEEPEST:
            raise OSError(errno.ENAMETOOLONG, f"its folders are nested more than {DEEPEST} times", str(root))
        for name in (*names, *files):
            with suppress(OSError):
                mode = os.lstat(f"{folder}/{name}").st_mode
                wanted = 0o700 if stat.S_ISDIR(mode) else 0o400
                if mode & wanted != wanted and not stat.S_ISLNK(mode):
                    Path(folder, name).chmod(stat.S_IMODE(mode) | wanted)


def write_aside(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that readers see the old or the new content, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
