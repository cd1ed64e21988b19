"""Takes the user's code folder along: what belongs to it, whether it may be taken, and a copy that can be written to.

The user's folder is only ever read. Links are never followed: one that leads out of the folder is left out and named.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from runner.errors import CodeFolderError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pathspec import GitIgnoreSpec

MAX_BYTES = 100 * 1024 * 1024
MAX_FILES = 10_000

_NEVER = frozenset({".git", ".hg", ".svn", ".venv", ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker"})
NOISE = frozenset({"__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".Rproj.user"})
COLLECTED = ("outputs", "logs")
"""Folders of the working directory that are always collected. Each run starts with empty ones, or it would claim files as
its own that an earlier run left in the code folder."""
_KEYS = (".env", ".env.*", ".netrc", ".pgpass", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key",
         "*.pfx", "*.p12", "*.ppk", "*.kdbx")  # fmt: skip
_KEYS_ALLOWED = (".env.example", ".env.sample", ".env.template", "*.pub")


@dataclass(slots=True)
class Snapshot:
    """What was found in a code folder: relative paths, and what was left out on purpose.

    `links` maps a link's path to its target. `secret` are key files, `outside` links that lead out.
    """

    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    secret: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    size: int = 0

    @property
    def notes(self) -> list[str]:
        """One line for each kind of thing that was left out and that the user may miss."""
        lines = []
        if self.secret:
            lines.append(f"left out, as it may hold a secret: {_some(self.secret)} (pass values with --secret)")
        if self.stale:
            lines.append(f"left out, as every run starts with an empty one: {_some(self.stale)}")
        if self.outside:
            lines.append(f"left out, as the link leads out of the folder: {_some(self.outside)} (pass it with --input)")
        return lines


def scan(folder: Path, *, named: bool, without: Path | None = None) -> Snapshot:
    """List what belongs to the code folder.

    Args:
        folder: absolute path, no link in it.
        named: the user named it with --code, so its size and place are meant.
        without: a folder that is left out wherever it is: the run store, which may be inside.

    Raises:
        CodeFolderError: it is / or the home folder, or too large, and was not named; or it cannot be read.
    """
    if not named:
        _refuse_place(folder)
    snapshot = Snapshot()
    amlignore = folder / ".amlignore"
    own = amlignore.is_file()
    specs = (("", _spec(amlignore)),) if own else ()
    skip = None if without is None else without.resolve()
    for path, entry in _walk(folder, "", specs, snapshot, nested=not own, without=skip):
        try:
            _take(folder, path, entry, snapshot)
        except OSError as error:
            raise CodeFolderError(f"cannot read {entry.path}: {error.strerror}") from error
        if not named:
            _refuse_size(folder, snapshot)
    return snapshot


def single(script: Path) -> Snapshot:
    """The snapshot of a script alone."""
    return Snapshot(files=[script.name], size=script.stat().st_size)


def copy(source: Path, snapshot: Snapshot, target: Path) -> None:
    """Copy the snapshot into `target` (made). Modes are kept, owners are the caller's; contents become independent.

    Raises:
        CodeFolderError: a file cannot be read, or vanished meanwhile.
        OSError: the target cannot be written (disk full).
    """
    target.mkdir(parents=True, exist_ok=True)
    for folder in snapshot.folders:
        (target / folder).mkdir(exist_ok=True)
    for name in snapshot.files:
        _copy_file(f"{source}/{name}", f"{target}/{name}")
    for name, link in snapshot.links.items():
        (target / name).symlink_to(link)


def _walk(
    root: Path, base: str, specs: tuple[tuple[str, GitIgnoreSpec], ...], snapshot: Snapshot, *, nested: bool,
    without: Path | None,
) -> Iterator[tuple[str, os.DirEntry[str]]]:  # fmt: skip
    """Entries below `base` in a fixed order, ignored ones left out, folders before their content."""
    try:
        entries = sorted(os.scandir(root / base), key=lambda entry: entry.name)
    except OSError as error:
        raise CodeFolderError(f"cannot read the folder {root / base}: {error.strerror}") from error
    if nested and any(entry.name == ".gitignore" and entry.is_file() for entry in entries):
        specs = (*specs, (base, _spec(root / base / ".gitignore")))
    for entry in entries:
        path = f"{base}/{entry.name}" if base else entry.name
        folder = entry.is_dir(follow_symlinks=False)
        if entry.name in _NEVER or entry.name in NOISE or _ignored(path, specs, folder=folder):
            continue
        if folder and path in COLLECTED:
            snapshot.stale.append(path)
            continue
        if not folder and _is_key(entry.name):
            snapshot.secret.append(path)
            continue
        if folder and without is not None and root / path == without:
            continue
        yield path, entry
        if folder:
            yield from _walk(root, path, specs, snapshot, nested=nested, without=without)


def _take(root: Path, path: str, entry: os.DirEntry[str], snapshot: Snapshot) -> None:
    if entry.is_symlink():
        target = str(Path(entry.path).readlink())
        if stays_inside(root, path, target):
            snapshot.links[path] = target
        else:
            snapshot.outside.append(path)
    elif entry.is_dir():
        snapshot.folders.append(path)
    elif entry.is_file():
        snapshot.files.append(path)
        snapshot.size += entry.stat().st_size


def stays_inside(root: Path, path: str, target: str) -> bool:
    """Whether a link at relative `path` with text `target` stays inside the folder `root`.

    By its text, wherever the folder is moved to; and as it is now, by way of other links.
    """
    if target.startswith("/"):
        return False
    depth = len(PurePosixPath(path).parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    real = os.path.realpath(root)
    return Path(os.path.realpath(root / path)).is_relative_to(real)


def _copy_file(source: str, target: str) -> None:
    try:
        read = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise CodeFolderError(
            f"cannot read {source}: {error.strerror}", "list it in .amlignore to leave it out"
        ) from error
    try:
        mode = stat.S_IMODE(os.fstat(read).st_mode) | stat.S_IRUSR | stat.S_IWUSR
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            # In-kernel copy: shares blocks on file systems that can (XFS, Btrfs).
            while os.sendfile(write, read, None, 1 << 30):
                pass
        finally:
            os.close(write)
    finally:
        os.close(read)


def too_wide(folder: Path) -> str | None:
    """What a folder is that nobody can mean as a whole, a place of keys and of everything: the root or the home folder."""
    if folder == Path("/"):
        return "the root folder /"
    if folder in {Path.home(), Path.home().resolve()}:
        return f"your home folder {folder}"
    return None


def _refuse_place(folder: Path) -> None:
    what = too_wide(folder)
    if what is None:
        return
    raise CodeFolderError(
        f"the code folder would be {what}, and all of it would be taken along",
        "put the script into a folder of its own, or name the folder with --code DIR",
        "or take the script alone: --code SCRIPT",
    )


def _refuse_size(folder: Path, snapshot: Snapshot) -> None:
    if snapshot.size <= MAX_BYTES and len(snapshot.files) <= MAX_FILES:
        return
    what = "100 MB" if snapshot.size > MAX_BYTES else f"{MAX_FILES:,} files"
    raise CodeFolderError(
        f"the code folder {folder} holds more than {what}",
        "list data and results in .amlignore, and pass data with --input NAME=PATH",
        "or name the folder to say that all of it is meant: --code DIR (--code SCRIPT takes the script alone)",
    )


def _spec(file: Path) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # 15 ms, only where there is an ignore file

    try:
        return GitIgnoreSpec.from_lines(file.read_text("utf-8", "replace").splitlines())
    except OSError as error:
        raise CodeFolderError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # a pattern that means nothing, such as a lone !
        raise CodeFolderError(f"{file}: {error}", "see gitignore(5) for what a line may be") from error


def _ignored(path: str, specs: tuple[tuple[str, GitIgnoreSpec], ...], *, folder: bool) -> bool:
    """The innermost file that says something about the path decides, as in git."""
    for base, spec in reversed(specs):
        relative = path[len(base) + 1 :] if base else path
        verdict = spec.check_file(relative + "/" if folder else relative).include
        if verdict is not None:
            return verdict
    return False


def _is_key(name: str) -> bool:
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in _KEYS_ALLOWED):
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _KEYS)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
