"""`--secret`: values from the environment, a file or a prompt, and names of secrets that a job reads for itself."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.spec import values

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Secrets:
    """What `--secret` gave. given: name → value. vaulted: name → `keyvault:[VAULT/]NAME` (`runner.model.Remote.secrets`)."""

    given: Mapping[str, str] = field(default_factory=dict, repr=False)
    vaulted: Mapping[str, str] = field(default_factory=dict)


def read(texts: list[str] | None, *, values_too: bool) -> Secrets:
    """NAME (from the environment, else a prompt), NAME=@FILE, or NAME=keyvault:[VAULT/]NAME.

    A value in argv is refused: all users of the machine can see argv.

    Args:
        values_too: read the values; else only the names are looked at, as a dry run needs no more.

    Raises:
        UsageError, SpecError: of the first that cannot be used.
    """
    given: dict[str, str] = {}
    vaulted: dict[str, str] = {}
    for text in texts or ():
        name, equals, source = text.partition("=")
        if values.variable(name, "--secret") in given or name in vaulted:
            raise UsageError(f"--secret {name} is given twice")
        if source.startswith(values.KEY_VAULT):
            vaulted[name] = values.key_vault(source, f"--secret {name}")
        elif equals and not source.startswith("@"):
            raise UsageError(
                f"--secret {name}=…: a value on the command line can be seen by every user of this machine",
                f"put it into the environment and say --secret {name}, or into a file and say --secret {name}=@FILE",
            )
        elif not values_too:
            given[name] = ""
        else:
            given[name] = _from_file(name, Path(source[1:])) if equals else _from_environment(name)
    return Secrets(given, vaulted)


def _from_file(name: str, path: Path) -> str:
    try:
        return path.expanduser().read_text("utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--secret {name}: cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _from_environment(name: str) -> str:
    if (value := os.environ.get(name)) is not None:
        return value
    if not sys.stdin.isatty():
        raise UsageError(
            f"--secret {name}: there is no variable {name} in the environment",
            f"set it, or give a file: --secret {name}=@FILE (on a terminal it is asked for)",
        )
    from getpass import getpass

    return getpass(f"{name}: ")
