"""Small values as people write them: sizes, durations, names, `NAME=VALUE` pairs. Errors say what was expected."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import SpecError, UsageError
from runner.model import Reason, Status, status_of

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZES = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
# ASCII: a pasted Arabic or full-width digit would be taken for a number of ours, and refused by what comes after.
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|[smhd]?)", re.IGNORECASE | re.ASCII)
_LARGEST = 2**62
"""Engines and the kernel count bytes in 63 bits."""
_LONGEST_S = 1e9
"""31 years; beyond it timers overflow."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_RUN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
KEY_VAULT = "keyvault:"
"""What a secret's name in Key Vault begins with here."""
_VAULTED = re.compile(rf"{KEY_VAULT}(?:[A-Za-z][A-Za-z0-9-]{{1,22}}[A-Za-z0-9]/)?[A-Za-z0-9-]{{1,127}}")


def location(given: str | Path) -> Path | str:
    """A path of this machine, or a URI as it is: text with a scheme, unless a file of that name is there."""
    if isinstance(given, str) and _SCHEME.match(given) and not Path(given).exists():
        return given
    return Path(given)


def size(text: str, key: str) -> int:
    """Bytes of `512m`, `2g`, `1.5GiB`, `1048576`; units are powers of 1024, as Docker's are.

    Raises:
        SpecError: not a size, zero, or beyond 2**62.
    """
    found = _SIZE.fullmatch(text.strip())
    value = float(found[1]) * _SIZES[found[2].lower()] if found else 0.0
    if not 1 <= value <= _LARGEST:
        raise SpecError(f"{text!r} is not a size", "expected a number with k, m, g or t: 512m, 2g, 1.5g", key=key)
    return math.floor(value)


def duration(text: str, key: str, *, zero: bool = False) -> float:
    """Seconds of `90`, `30s`, `10m`, `1h30m`, `1.5h`, `2d`.

    Args:
        zero: whether 0 is meant too.

    Raises:
        SpecError: not a duration, zero where it makes no sense, or beyond 31 years.
    """
    compact = text.strip().replace(" ", "")
    parts = _PART.findall(compact)
    value = sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != compact or value > _LONGEST_S:
        raise SpecError(f"{text!r} is not a duration", "expected seconds, or 30s, 10m, 1h30m, 2d", key=key)
    if value <= 0 and not zero:
        raise SpecError(f"{text!r} is no time at all", "expected more than 0: 30s, 10m, 1h30m, 2d", key=key)
    return value


def cpus(text: str, key: str) -> float:
    """A number of processors, such as `2` or `0.5`.

    Raises:
        SpecError: not a positive number.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value < 10_000:  # the kernel holds no smaller share
        raise SpecError(f"{text!r} is not a number of processors", "expected 0.01 or more: 2, 0.5", key=key)
    return value


def run_name(text: str, key: str) -> str:
    """A name for a run: it is a folder's name too.

    Raises:
        SpecError: other characters, or too long.
    """
    if not _RUN.fullmatch(text):
        raise SpecError(
            f"{text!r} cannot be a run's name",
            "expected 1 to 63 of: small letters, digits, - _ (a letter or digit first; a dot stands before a step's name)",
            key=key,
        )
    return text


def pair(
    text: str, key: str, *, what: str = "NAME=VALUE", check: Callable[[str, str], str] | None = None
) -> tuple[str, str]:
    """`NAME=VALUE`, split at the first `=`.

    Args:
        check: what the name must be: `identifier` (the default) or `variable`.

    Raises:
        SpecError: no `=`, or the name is not one.
    """
    name, found, value = text.partition("=")
    if not found:
        raise SpecError(f"{text!r} has no =", f"expected {what}", key=key)
    return (check or identifier)(name, key), value


def identifier(text: str, key: str) -> str:
    """A name of an input, output or tag.

    Raises:
        SpecError: not a name.
    """
    if not _NAME.fullmatch(text):
        raise SpecError(f"{text!r} is not a name", "expected letters, digits, _ - . (a letter or _ first)", key=key)
    return text


def variable(text: str, key: str) -> str:
    """A name of an environment variable that the user may set.

    Raises:
        SpecError: not a variable's name, or one of runner's own.
    """
    if not _VARIABLE.fullmatch(text):
        raise SpecError(f"{text!r} is not a variable's name", "expected letters, digits and _", key=key)
    if text.startswith("RUNNER_"):
        raise SpecError(f"{text} is set by runner itself", "choose a name that does not begin with RUNNER_", key=key)
    return text


def key_vault(text: str, key: str) -> str:
    """`keyvault:[VAULT/]NAME`: a secret of Azure's Key Vault, by its name; without a vault that of the workspace.

    Raises:
        SpecError: no such name can be there.
    """
    if not _VAULTED.fullmatch(text):
        raise SpecError(
            f"{text!r} names no secret of Key Vault",
            "expected keyvault:NAME or keyvault:VAULT/NAME, each of letters, digits and - (no address, no version)",
            key=key,
        )
    return text


def reason(text: str) -> Reason:
    """A reason to retry as the user writes it, whatever its case; only those that end a step as failed.

    Raises:
        UsageError: not one of them.
    """
    failed = [each for each in Reason if status_of(each) is Status.FAILED]
    for each in failed:
        if each.value.lower() == text.lower():
            return each
    raise UsageError(f"{text!r} is not a reason to retry", f"expected one of: {', '.join(failed)}")


def human_size(count: float) -> str:
    """Bytes for people, in powers of 1024: `412 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if round(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def human_time(seconds: float) -> str:
    """A duration for people: `0.4 s`, `12.4 s`, `2 min 14 s`, `3 h 05 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def human_age(seconds: float) -> str:
    """How long ago, for people, in the largest unit that fits: `40 s`, `5 min`, `3 h`, `12 d`."""
    for unit, name, below in ((1, "s", 60), (60, "min", 3600), (3600, "h", 172_800)):
        if seconds < below:
            return f"{max(0, seconds) // unit:.0f} {name}"
    return f"{seconds // 86_400:.0f} d"
