"""The code as Azure ML uploads it: the user's files and the folder `.runner`, in a folder of their own.

What Azure keeps is files by name, and azure-ai-ml leaves out what an ignore file in the folder names. The user's ignore
files were obeyed when the code was taken along, so everything is to arrive: they go along in `.runner`, and a small script
there puts them back, and with them links, execute bits, empty folders, and what has a name that Azure's storage would
change. The same content makes the same snapshot, so Azure
has to be given it once.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from runner.assets import asset
from runner.errors import CodeFolderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.backends.base import Task

FOLDER = ".runner"
_BROUGHT = (
    "bootstrap.py", "launch.py", "launch.sh", "beside.py", "forward.py", "logged.py", "workspace.py", "vault.py", "rest.py",
    "profile.R", "python/runner_plots.py",
)  # fmt: skip
_IGNORE_FILES = (".amlignore", ".gitignore")
_RESTORE = "restore.sh"
_ORDER = (b"mkdir", b"cp", b"ln", b"executable")
_CHANGED = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|[. ](/|$)")
"""In a path: what blobs cannot hold, what they take for a `/`, and what is cut off at the end of a name."""
_HEAD = b"""# Another user's file cannot be made executable, a copy of it can.
executable() {
  chmod +x "$@" || { cp "$@" .runner.copy && chmod +x .runner.copy && mv -f .runner.copy "$2"; }
}
"""


def places(task: Task) -> dict[Path | None, Path]:
    """Folder of code → its snapshot in the task's box. Pure; steps with the same code share one."""
    tasks = [task] if task.whole is None else [member.task for member in task.whole.members]
    distinct = dict.fromkeys(each.code for each in tasks)
    return {code: task.box.root / "snapshots" / str(number) for number, code in enumerate(distinct)}


def make(task: Task) -> Mapping[Path | None, Path]:
    """Make the snapshots of a task; those of an earlier attempt to submit it are replaced.

    Raises:
        CodeFolderError: the code has a file or folder `.runner`, or cannot be read.
        OSError: the box cannot be written.
    """
    made = places(task)
    shutil.rmtree(task.box.root / "snapshots", ignore_errors=True)
    for code, place in made.items():
        _make(code, place)
    return made


def _make(code: Path | None, place: Path) -> None:
    own = place / FOLDER
    (own / "python").mkdir(parents=True)
    for name in _BROUGHT:
        shutil.copyfile(asset("bootstrap") / name, own / name)
    if code is None:
        return
    if os.path.lexists(code / FOLDER):
        raise CodeFolderError(
            f"the code folder {code} has a {FOLDER} of its own, and runner brings one along on Azure ML",
            "rename it, or list it in .amlignore",
        )
    lines = sorted(_copied(code, place), key=lambda line: (_ORDER.index(line.split()[0]), line))
    if lines:
        (own / _RESTORE).write_bytes(_HEAD + b"".join(line + b"\n" for line in lines))


def _copied(code: Path, place: Path) -> Iterator[bytes]:
    """Copy the files; gives what has to be done again where the script runs, as lines of shell."""
    for base, folders, files in os.walk(code):
        relative = Path(base).relative_to(code)
        (place / relative).mkdir(exist_ok=True)
        links = [name for name in (*folders, *files) if (Path(base) / name).is_symlink()]
        if relative != Path() and not folders and not files:
            yield _line("mkdir -p", relative)
        for name in links:
            yield _line("ln -s", (Path(base) / name).readlink(), relative / name)
        for name in files:
            if name in links:
                continue
            if (relative == Path() and name in _IGNORE_FILES) or _CHANGED.search(str(relative / name)):
                kept = Path(FOLDER) / f"kept-{sha256(os.fsencode(relative / name)).hexdigest()[:16]}"
                _take(Path(base) / name, place / kept)
                if relative != Path():
                    yield _line("mkdir -p", relative)
                yield _line("cp", kept, relative / name)
            else:
                _take(Path(base) / name, place / relative / name)
            if stat.S_IMODE((Path(base) / name).stat().st_mode) & stat.S_IXUSR:
                yield _line("executable", relative / name)


def _line(command: str, *paths: Path) -> bytes:
    """A command of a shell on paths, none of which can be read as an option."""
    return os.fsencode(f"{command} -- {' '.join(shlex.quote(str(path)) for path in paths)}")


def _take(source: Path, target: Path) -> None:
    """The same file under one more name, or a copy where that cannot be."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        try:
            shutil.copyfile(source, target, follow_symlinks=False)
        except OSError as error:
            raise CodeFolderError(f"cannot read {source}: {error.strerror}") from error
