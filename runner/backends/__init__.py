"""Which backends there are. The built-in ones are found without reading any package's metadata (20 ms)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from runner.backends.base import Backend
    from runner.spec.config import Config
    from runner.store import Store

BUILT_IN = ("process", "docker", "azureml")


def open_backend(name: str, store: Store, target: Mapping[str, str] | None = None) -> Backend:
    """The backend of that name.

    Args:
        target: of a backend elsewhere: which workspace, and how to sign in there, as recorded with the run
            (`store.folder(run).target`); never a secret. None: it was not said, and is found as for a new run.

    Raises:
        UsageError: there is none of that name.
        CapabilityError: what it needs is not installed.
        UnavailableError: its engine cannot be reached.
    """
    match name:
        case "process":
            from runner.backends.process import ProcessBackend

            return ProcessBackend(store)
        case "docker":
            from runner.backends.docker.backend import DockerBackend

            return DockerBackend(store)
        case "azureml":
            from runner.backends.azureml.backend import AzureMLBackend
            from runner.backends.azureml.target import Target

            return AzureMLBackend(Target.from_json(target if target is not None else _found()))
        case _:
            return _installed(name, store)


def _found() -> dict[str, str]:
    """The workspace that the current folder and the environment name."""
    from pathlib import Path

    from runner.spec import config as configuration

    here = Path.cwd()
    return find_target("azureml", {}, lambda: configuration.load(here, os.environ), here)[0] or {}


def find_target(
    name: str, asked: Mapping[str, str], config: Callable[[], Config], start: Path
) -> tuple[dict[str, str] | None, str]:
    """What a new run on that backend keeps as its target, and a line that tells the user of it, or "".

    Args:
        asked: what the user said: any of `workspace`, `resource_group`, `subscription`, `auth`.
        config: the settings that hold where the work is. start: its folder.

    Raises:
        UsageError, SpecError: as `runner.backends.azureml.workspace.find`.
        CapabilityError: the extra for Azure is not installed.
    """
    if asked and name in {"process", "docker"}:
        raise UsageError(
            f"a workspace is Azure ML's, and backend {name} has none",
            "leave --workspace, --resource-group, --subscription and --auth out, or say --backend azureml",
        )
    if name != "azureml":
        return (dict(asked) or None), ""
    from runner.backends.azureml import installed
    from runner.backends.azureml.workspace import Asked, find

    installed.check()
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
