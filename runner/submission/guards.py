"""Places of this machine that no job may be given: a job file may be a stranger's, and what it names is shown to its code.

Everything else that is named by its path is taken as meant: data lies where it lies.
"""

from __future__ import annotations

import stat
from pathlib import Path

from runner.snapshot import too_wide

_KEYS = (
    ".ssh", ".gnupg", ".aws", ".azure", ".docker", ".kube", ".config/gcloud", ".config/runner", ".netrc", ".git-credentials",
    ".pgpass", ".password-store", ".local/share/keyrings",
)  # fmt: skip
_SYSTEM = ("/proc", "/sys", "/dev", "/run", "/var/run", "/etc", "/boot", "/var/lib/docker")
_WRITTEN_BY_PACKAGES = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/var/spool")
_DATA = (Path("/dev/shm"), Path("/run/media"))  # noqa: S108 - below these is data, unlike the rest of /dev and /run


def refused_as_input(path: Path) -> str | None:
    """Why a job may not read there: it holds everything, keys, or what belongs to the system. None: it may. Links are
    followed, since a mount follows them."""
    real = path.resolve()
    if wide := too_wide(real):
        return wide
    home = Path.home().resolve()
    if home.is_relative_to(real):
        return f"a folder that holds your home folder {home}"
    for place in (home / key for key in _KEYS):
        if real.is_relative_to(place) or (place.is_relative_to(real) and place.exists()):
            return f"a place of keys ({place})"
    if (system := _system(real, _SYSTEM)) is not None:
        return f"a part of the system ({system})"
    return "no file or folder" if _special(real) else None


def refused_as_output(path: Path, folder: Path) -> str | None:
    """Why a job may not write there; None: it may.

    Args:
        folder: that of the job file, in which it may write wherever that is.
    """
    real = path.resolve()
    if real.is_relative_to(folder.resolve()) and real != Path.home().resolve():
        return None
    if reason := refused_as_input(real):
        return reason
    home = Path.home().resolve()
    if real.is_relative_to(home) and any(part.startswith(".") for part in real.relative_to(home).parts):
        return "a hidden place in your home folder, where settings are"
    system = _system(real, _WRITTEN_BY_PACKAGES)
    return f"a part of the system ({system})" if system is not None else None


def _system(real: Path, places: tuple[str, ...]) -> str | None:
    if any(place in real.parents for place in _DATA):
        return None
    return next((place for place in places if real.is_relative_to(place) or Path(place).is_relative_to(real)), None)


def _special(real: Path) -> bool:
    """A socket, pipe or device."""
    try:
        mode = real.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
