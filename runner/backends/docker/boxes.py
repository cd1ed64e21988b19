"""The folder of an attempt: to the user inside before the start, and back afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runner.artifacts import plain_folder

if TYPE_CHECKING:
    from runner.backends.base import Task


def own(task: Task, user: str) -> None:
    """Give the box to the user inside. A user that is only a name cannot be looked up from here: open it to all."""
    if os.getuid() != 0 or not user or user in {"0", "root", "0:0"}:
        return
    if (ids := numeric(user)) is not None:
        chown_tree(task.box.root, *ids)
    else:
        for folder, _, files in os.walk(task.box.root):
            Path(folder).chmod(0o777)
            for file in files:
                if not (path := Path(folder, file)).is_symlink():
                    path.chmod(path.stat().st_mode | 0o666)


def gather(task: Task) -> None:
    """Without a bootstrapper nobody moved outputs that have a folder of their own; with one this finds nothing."""
    for name, folder in task.outputs.items():
        if not folder or not plain_folder(task.box.work) or not plain_folder(task.box.outputs):
            continue
        source, target = task.box.work / folder, task.box.outputs / name
        # By real paths: the script can have put a link in the place of any folder on the way.
        real = source.is_dir() and source.resolve() == task.box.work.resolve() / folder
        if real and (not os.path.lexists(target) or (plain_folder(target) and not any(target.iterdir()))):
            source.rename(target)


def chown_tree(root: Path, uid: int, gid: int) -> None:
    for folder, folders, files in os.walk(root):
        os.chown(folder, uid, gid)
        for name in (*files, *folders):
            os.chown(f"{folder}/{name}", uid, gid, follow_symlinks=False)


def numeric(user: str) -> tuple[int, int] | None:
    uid, _, gid = user.partition(":")
    if uid.isdigit() and (not gid or gid.isdigit()):
        return int(uid), int(gid or uid)
    return None
