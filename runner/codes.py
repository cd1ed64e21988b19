"""From what names a step's code to a folder and what of it is taken along; and the digest that tells code apart.

What is put together of several places (includes) or comes from far (git) lies in the cache, by its content or commit.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import snapshot
from runner.errors import CodeFolderError, RunnerError, SpecError
from runner.gitcode import aside, fetch, settle
from runner.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from runner.job import Code


@dataclass(frozen=True, slots=True)
class Taken:
    """Code as it is taken along. folder: absolute, what the paths of the snapshot count from. notes: what was left out
    and may be missed, a line each."""

    folder: Path
    snapshot: Snapshot
    notes: tuple[str, ...] = ()


def take(code: Code, cache: Path, *, without: Path | None = None) -> Taken:
    """Find a step's code, and decide what of it is taken along.

    Args:
        cache: the folder for what comes from git, or is put together of several parts.
        without: a folder that is left out wherever it is: the run store.

    Raises:
        SpecError: what is named is not there; two parts have the same name.
        CodeFolderError: it cannot be read or fetched.
    """
    taken = _main(code, cache, without)
    return _joined(code, taken, cache, without) if code.includes else taken


def take_all(codes: Sequence[Code], cache: Path, *, without: Path | None = None) -> list[Taken]:
    """The same for several, in their order: equal ones are looked at once.

    Raises:
        RunnerError: as `take`. Of several problems: one SpecError that lists them.
    """
    found: dict[Code, Taken | RunnerError] = {}
    for code in codes:
        if code not in found:
            try:
                found[code] = take(code, cache, without=without)
            except RunnerError as error:
                found[code] = error
    problems = [each for each in found.values() if isinstance(each, RunnerError)]
    if len(problems) > 1:
        raise SpecError("code cannot be taken along", *(line for each in problems for line in str(each).splitlines()))
    if problems:
        raise problems[0]
    return [each for code in codes if isinstance(each := found[code], Taken)]


def digest(taken: Snapshot, folder: Path, *, of_file: Callable[[str], str] | None = None) -> str:
    """sha256 of what is taken along: relative paths, whether each may be executed, link targets, contents.

    Args:
        of_file: from an absolute path to the sha256 of its content, where a faster way than reading is known.

    Raises:
        CodeFolderError: a file cannot be read, or vanished meanwhile.
    """
    whole = hashlib.sha256()
    of_file = of_file or file_digest
    for name in sorted(taken.folders):
        whole.update(b"d\0%b\0" % os.fsencode(name))
    for name, target in sorted(taken.links.items()):
        whole.update(b"l\0%b\0%b\0" % (os.fsencode(name), os.fsencode(target)))
    for name in sorted(taken.files):
        path = f"{folder}/{name}"
        try:
            executable = os.stat(path, follow_symlinks=False).st_mode & 0o100  # noqa: PTH116 - 10,000 times
            whole.update(b"%b\0%b\0%b\n" % (b"x" if executable else b"f", os.fsencode(name), of_file(path).encode()))
        except OSError as error:
            raise CodeFolderError(f"cannot read {path}: {error.strerror}") from error
    return whole.hexdigest()


def file_digest(path: str) -> str:
    """sha256 of a file's content.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - 10,000 times
        return hashlib.file_digest(stream, "sha256").hexdigest()


# -- parts ----------------------------------------------------------------------------------------------------------


def _main(code: Code, cache: Path, without: Path | None) -> Taken:
    if code.git is not None:
        folder, notes = fetch(code.git, cache / "git", code.where)
        taken = snapshot.scan(folder, named=True)
        return Taken(folder, taken, (*notes, *taken.notes))
    if code.path is None:
        return Taken(_empty(cache), Snapshot())
    return _local(code, code.path, "code", without)


def _local(code: Code, path: Path, what: str, without: Path | None) -> Taken:
    """A folder, or one file: then it alone, in its folder."""
    if path.is_dir():
        folder = path.resolve()
        if wide := snapshot.too_wide(folder):
            raise code.where.error(
                f"{what}: {path} is {wide}, and all of it would be taken along", "name a folder in it"
            )
        taken = snapshot.scan(folder, named=True, without=without)
        return Taken(folder, taken, tuple(taken.notes))
    if path.is_symlink():
        raise code.where.error(f"{what}: {path} is a link", f"name what it points to: {os.path.realpath(path)}")
    if not path.is_file():
        raise code.where.error(f"{what}: no such file or folder: {path}", *_near(path))
    return Taken(path.parent.resolve(), snapshot.single(path))


def _near(path: Path) -> list[str]:
    from runner.spec.yamldoc import nearest

    with suppress(OSError):
        near = nearest(path.name, (each.name for each in path.parent.iterdir()))
        return [f"did you mean {path.parent / near}?"] if near else []
    return []


def _empty(cache: Path) -> Path:
    folder = cache / "code" / "empty"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _joined(code: Code, taken: Taken, cache: Path, without: Path | None) -> Taken:
    """One folder with the code and each include at its top, by content: equal parts make the same folder."""
    parts = [("", taken)]
    owners = {name.partition("/")[0]: "the code itself" for name in (*taken.snapshot.files, *taken.snapshot.folders)}
    owners |= {name.partition("/")[0]: "the code itself" for name in taken.snapshot.links}
    for path in code.includes:
        part = _local(code, path, "additional_includes", without)
        name = path.resolve().name
        if name in owners:
            raise code.where.error(
                f"additional_includes: {path} would be laid over {name} of {owners[name]}", "rename one of them"
            )
        owners[name] = str(path)
        parts.append((name if path.is_dir() else "", part))
    whole = _merged([(name, part.snapshot) for name, part in parts])
    with aside(cache / "code") as made:
        for name, part in parts:
            snapshot.copy(part.folder, part.snapshot, made / name if name else made)
        folder = settle(made, cache / "code" / digest(whole, made)[:32])
    return Taken(folder, whole, tuple(note for _, part in parts for note in part.notes))


def _merged(parts: Sequence[tuple[str, Snapshot]]) -> Snapshot:
    whole = Snapshot()
    for top, part in parts:
        prefix = f"{top}/" if top else ""
        whole.folders += ([top] if top else []) + [prefix + name for name in part.folders]
        whole.files += [prefix + name for name in part.files]
        whole.links |= {prefix + name: target for name, target in part.links.items()}
        whole.secret += [prefix + name for name in part.secret]
        whole.outside += [prefix + name for name in part.outside]
        whole.stale += [prefix + name for name in part.stale]
        whole.size += part.size
    return whole
