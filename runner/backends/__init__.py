"""Which backends there are. The built-in ones are found without reading any package's metadata (20 ms)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runner.errors import CapabilityError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from runner.backends.base import Backend
    from runner.spec.config import Config
    from runner.store import Store

BUILT_IN = ("process", "docker", "azureml")


def open_backend(name: str, store: Store, target: Mapping[str, str] | None = None) -> Backend:  # noqa: ARG001 - azureml will
    """The backend of that name.

    Args:
        target: of a backend elsewhere: which workspace, and how to sign in there, as recorded with the run
            (`store.folder(run).target`); never a secret. None: it was not said, and is found as for a new run.

    Raises:
        UsageError: there is none of that name.
        CapabilityError: it is known, but cannot be used yet.
        UnavailableError: its engine cannot be reached.
    """
    match name:
        case "process":
            from runner.backends.process import ProcessBackend

            return ProcessBackend(store)
        case "docker":
            from runner.backends.docker import DockerBackend

            return DockerBackend(store)
        case "azureml":
            raise CapabilityError(
                "this version of runner cannot submit to Azure ML (azureml) yet: it runs scripts on this machine only",
                "use --backend docker or process; and leave --compute out, or say --compute local",
            )
        case _:
            return _installed(name, store)


def find_target(
    name: str, asked: Mapping[str, str], config: Callable[[], Config], start: Path
) -> tuple[dict[str, str] | None, str]:
    """What a new run on that backend keeps as its target, and a line that tells the user of it, or "".

    Args:
        asked: what the user said: any of `workspace`, `resource_group`, `subscription`, `auth`.
        config: the settings that hold where the work is. start: its folder.

    Raises:
        UsageError, SpecError: as `runner.backends.azureml.workspace.find`.
    """
    if name != "azureml":
        return (dict(asked) or None), ""
    from runner.backends.azureml.workspace import Asked, find

    found = find(Asked(**asked), config(), os.environ, start)
    return found.target.to_json(), found.told or ""


def _installed(name: str, store: Store) -> Backend:
    """A backend that another package brings, by the entry point group `runner.backends`."""
    from importlib.metadata import entry_points

    for entry in entry_points(group="runner.backends", name=name):
        backend: Backend = entry.load()(store)
        return backend
    raise UsageError(f"there is no backend named {name!r}", f"there are: {', '.join(names())}")


def names() -> list[str]:
    """Every backend that can be named, built-in ones first."""
    from importlib.metadata import entry_points

    return [*dict.fromkeys([*BUILT_IN, *(entry.name for entry in entry_points(group="runner.backends"))])]
