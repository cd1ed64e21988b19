"""The one place that knows where `bootstrap/` and `images/` are: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def asset(name: str) -> Path:
    """The absolute path of the folder `bootstrap` or `images`.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    for candidate in (_PACKAGE / "_assets" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"runner's own folder {name!r} is missing from the installation at {_PACKAGE}")
