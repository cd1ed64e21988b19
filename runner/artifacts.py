"""Moves what a script left from its box into the run's folder, and out of it again on download.

A script can leave anything: links that lead out, device files, a link where a folder should be. Nothing here follows a
link, and nothing is ever written outside the target folder.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from runner import tracking
from runner.errors import SpecError
from runner.snapshot import COLLECTED, NOISE, stays_inside
from runner.store import DEEPEST, AttemptFolder, open_up, output_folder, remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.backends.base import Box


LOGGED = "mlflow"
"""The output that holds what the script logged as artifacts."""
_ALL = "artifacts"


def prepare(box: Box, code: Path | None, outputs: dict[str, str | None]) -> None:
    """Make the box of an attempt: a fresh copy of the code (None: there is none), and the folders that may be written to."""
    if box.root.exists():
        remove_tree(box.root)
    box.root.mkdir(parents=True, mode=0o755)
    if code is None:
        box.work.mkdir()
    else:
        _copy(code, box.work)
    for own in (box.home, box.outputs, box.record.parent):
        own.mkdir()
    for name in outputs:
        (box.outputs / name).mkdir()
    for folder in (*COLLECTED, *filter(None, outputs.values())):
        try:
            (box.work / folder).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise SpecError(
                f"the code folder holds a file where the folder {folder} for the script's outputs has to be",
                "rename it, or list it in .amlignore",
            ) from None


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, links as links. Not shutil.copytree, which hides the number of an error (a full disk) in a text."""
    for folder, names, files in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir()
        links = [name for name in names if Path(folder, name).is_symlink()]
        for name in (*files, *links):
            shutil.copy2(Path(folder, name), place / name, follow_symlinks=False)


def collect(box: Box, code: Path | None, target: Path, outputs: dict[str, str | None], run: str = "") -> list[str]:
    """Move `./outputs`, `./logs`, the named outputs and what was logged into `target`; warnings, one for each kind of loss.

    May be called again after a kill at any moment: what was moved stays moved.

    Args:
        run: its name, by which the store of what it logged is known.

    Raises:
        OSError: the target cannot be written.
    """
    warnings: list[str] = []
    target.mkdir(exist_ok=True)
    sources = [(name, box.work / name) for name in COLLECTED]
    sources += [(output_folder(name), box.outputs / name) for name in outputs]
    for name, source in sources:
        # The script may put links in the place of the folders above too, which we would follow with our own rights.
        if plain_folder(source.parent) and plain_folder(source):
            if not (target / name).exists():
                open_up(source)  # a script may take its own permissions away; what it left is to be kept all the same
                source.rename(target / name)
        elif source.is_symlink() or source.exists() or not plain_folder(source.parent):
            warnings.append(f"{name} was not collected: the script replaced the folder by something else")
    if plain_folder(box.tracking):
        if not tracking.untouched(box.tracking, run):
            _keep_logged(box.tracking, target)
    elif os.path.lexists(box.tracking):
        warnings.append("metrics were not collected: the script replaced their folder by something else")
    warnings += _scrub(target)
    if _ALL in outputs and plain_folder(target / _ALL):
        _add_collected(target)
    if plain_folder(box.work) and (lost := list(_elsewhere(box.work, code))):
        shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        warnings.append(f"written outside ./outputs and not kept: {shown}")
    return warnings


def _add_collected(target: Path) -> None:
    """On Azure ML an output called `artifacts` is all that the run left: `./outputs` and `./logs` are in it too."""
    for name in COLLECTED:
        source, place = target / name, target / _ALL / name
        free = plain_folder(place) or not os.path.lexists(place)
        if free and plain_folder(source) and any(source.iterdir()):
            copy_out(source, place)


def _keep_logged(logged: Path, target: Path) -> None:
    """Artifacts become an output, the rest stands beside the outputs; nothing logged leaves nothing."""
    open_up(logged)
    _scrub(logged)
    source, place, kept = logged / tracking.ARTIFACTS, target / LOGGED, AttemptFolder(target.parent).tracking
    if plain_folder(source) and any(source.iterdir()) and not place.exists():
        source.rename(place)
    if tracking.used(logged) and not kept.exists():
        logged.rename(kept)


def plain_folder(path: Path) -> bool:
    """Whether it is a folder, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def _scrub(root: Path) -> list[str]:
    """Remove links that lead out of the folder, and everything that is neither file, folder nor link."""
    dropped = []
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            mode = os.lstat(f"{folder}/{name}").st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                continue
            path = Path(folder, name)
            relative = path.relative_to(root)
            inside = False
            if stat.S_ISLNK(mode):
                # Relative to the output's own folder: an output must not reach into another either.
                inside = stays_inside(root / relative.parts[0], str(Path(*relative.parts[1:])), str(path.readlink()))
            if not inside:
                path.unlink()
                dropped.append(str(relative))
    if not dropped:
        return []
    return [f"left out of the outputs, as links that lead out or special files: {', '.join(sorted(dropped)[:5])}"]


def _elsewhere(work: Path, code: Path | None) -> Iterator[str]:
    """Files that the script wrote into its working directory, which ends with the attempt."""
    for folder, names, files in os.walk(work):
        names[:] = sorted(name for name in names if name not in NOISE and not name.startswith("."))
        if folder.count(os.sep) - str(work).count(os.sep) >= DEEPEST:
            names.clear()
        for name in sorted(files):
            path = Path(folder, name)
            relative = path.relative_to(work)
            if not name.startswith(".") and not (code is not None and (code / relative).exists()):
                yield str(relative)


def listing(root: Path) -> list[tuple[str, int]]:
    """(relative path, bytes) of every file below `root`, sorted; links are listed, not followed."""
    found = []
    for folder, names, files in os.walk(root):
        for name in (*files, *(name for name in names if Path(folder, name).is_symlink())):
            path = Path(folder, name)
            found.append((str(path.relative_to(root)), path.lstat().st_size))
    return sorted(found)


def copy_out(source: Path, target: Path) -> list[str]:
    """Copy a folder's content into `target` (made), which may hold other files; the relative paths written.

    An existing link in the target is replaced, never followed: content cannot land outside of it.
    """
    written = []
    target.mkdir(parents=True, exist_ok=True)
    for folder, names, files in os.walk(source):
        relative = Path(folder).relative_to(source)
        for name in names:
            if not Path(folder, name).is_symlink():
                _plain_folder(target / relative / name)
        for name in (*files, *(name for name in names if Path(folder, name).is_symlink())):
            _copy_aside(Path(folder, name), target / relative / name)
            written.append(str(relative / name))
    return sorted(written)


def _plain_folder(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    path.mkdir(exist_ok=True)


def _copy_aside(origin: Path, place: Path) -> None:
    """Copy a file or link under a name that nobody can have foreseen, then rename it into place."""
    aside = place.parent / f".runner-{os.urandom(8).hex()}"
    try:
        if origin.is_symlink():
            aside.symlink_to(origin.readlink())
        else:
            with origin.open("rb") as source, aside.open("xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                # Never set-uid: the script chose the bits, and whoever downloads becomes the owner.
                os.fchmod(target.fileno(), stat.S_IMODE(origin.stat().st_mode) & 0o777 | stat.S_IRUSR | stat.S_IWUSR)
        aside.replace(place)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
