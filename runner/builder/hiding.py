"""What is secret of a step: kept in memory while a container needs it, and out of what is logged.

A folder on the machine's tmpfs, mounted into the step's container, so that nothing of it is on a disk, in a backup, or left
behind by a kill -9 for longer than until the next build. Where there is no tmpfs, it is in the build's work folder.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from runner.docker_api import owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FOLDER = "/mnt/secret"
"""Where a step finds it: env.sh, netrc, secrets/NAME."""
GO_ON = f"[ ! -e {FOLDER}/env.sh ] || . {FOLDER}/env.sh\n".encode()
"""The end of the env.sh that anybody may see."""
_NETWORK = re.compile(r"(?:https?|ftp|all|no)_proxy|SOURCE_DATE_EPOCH", re.IGNORECASE)
"""Variables of the user's environment that steps see: how to reach the network, which time."""
_PYTHON = re.compile(
    r"UV_(?:INDEX|DEFAULT_INDEX|EXTRA_INDEX_URL|INDEX_\w+|HTTP_\w+|INSECURE_HOST|EXCLUDE_NEWER|PRERELEASE|RESOLUTION"
    r"|CONCURRENT_\w+)"
)
"""Those that uv sees besides: which indexes, with their logins."""
_FROM_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
}
_TMPFS = Path("/dev/shm")  # noqa: S108 - the tmpfs that every Linux has; each folder below it is new and 0700
_SHORTEST = 4
"""Bytes of a value that is made unreadable: a shorter one would be found in every second line."""


@dataclass(frozen=True, slots=True)
class Variables:
    """What a step gets of the user's environment.

    requirements: the names that pip requirements refer to, which are given with the logins of indexes; None: neither.
    secrets: names whose values it finds in files. network: how to reach the network.
    """

    requirements: frozenset[str] | None
    secrets: tuple[str, ...]
    network: bool

    def files(self) -> dict[str, bytes]:
        """The files of FOLDER. All of it counts as secret: addresses of proxies and indexes may hold a login."""
        files = {f"secrets/{name}": os.environb[name.encode()] for name in self.secrets}
        env = {key: value for key, value in os.environ.items() if self.network and _NETWORK.fullmatch(key)}
        if self.requirements is not None:
            env |= {ours: value for theirs, ours in _FROM_PIP.items() if (value := os.environ.get(theirs))}
            wanted = self.requirements
            env |= {key: value for key, value in os.environ.items() if _PYTHON.fullmatch(key) or key in wanted}
            netrc = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
            if netrc.is_file():
                files["netrc"] = netrc.read_bytes()
                env["NETRC"] = f"{FOLDER}/netrc"
        # An index in a folder of this machine cannot be seen from inside.
        env = {key: value for key, value in env.items() if not value.startswith("file:")}
        return files | ({"env.sh": exports(env)} if env else {})


def exports(variables: Mapping[str, str]) -> bytes:
    """As text of a shell. A value may be no text: the environment is bytes."""
    return b"".join(os.fsencode(f"export {key}={shlex.quote(value)}\n") for key, value in variables.items())


@contextmanager
def hidden(files: Mapping[str, bytes], work: Path, *, tmpfs: bool = True) -> Iterator[Path | None]:
    """A folder with these files (relative path → bytes), to be mounted; removed at the end. None where there are none.

    Args:
        work: a folder to put them below, where it cannot be on tmpfs.
        tmpfs: False for an engine that does not see this machine's.

    Raises:
        OSError: they cannot be written there either.
    """
    if not files:
        yield None
        return
    place = _TMPFS / f"{owner.PREFIX}{owner.mark()}-{token_hex(4)}" if tmpfs else work / f"hidden-{token_hex(4)}"
    try:
        try:
            folder = _written(place, files)
        except OSError:  # none, read-only, or full
            shutil.rmtree(place, ignore_errors=True)
            place = work / f"hidden-{token_hex(4)}"
            folder = _written(place, files)
        yield folder
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _written(place: Path, files: Mapping[str, bytes]) -> Path:
    """The folder in `place`, which is 0700. It is open itself, as root of an engine with remapped users is nobody here."""
    place.mkdir(mode=0o700)
    folder = place / "secret"
    for name, raw in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        path.chmod(0o644)
    for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        each.chmod(0o755)
    return folder


def remove_stale() -> None:
    """Remove what processes left on tmpfs that were killed."""
    for place in _TMPFS.glob(f"{owner.PREFIX}*"):
        try:
            status = place.lstat()
        except OSError:  # its process has removed it
            continue
        stale = owner.is_stale(place.name, running=False, age_s=time.time() - status.st_mtime)
        if stale and status.st_uid == os.getuid():
            shutil.rmtree(place, ignore_errors=True)


def unreadable(names: Iterable[str]) -> tuple[bytes, ...]:
    """What must not be seen of the values of these variables: each of their lines, the longest first."""
    values = (os.environb.get(name.encode(), b"") for name in names)
    lines = {line.strip() for value in values for line in value.splitlines()}
    return tuple(sorted((line for line in lines if len(line) >= _SHORTEST), key=lambda line: (-len(line), line)))
