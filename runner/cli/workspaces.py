"""The options that say which workspace of Azure ML is meant, the same for every command that has them, and what opens it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from runner import console
from runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from runner.backends.azureml.arm import Arm
    from runner.backends.azureml.service import Service
    from runner.backends.azureml.workspace import Found
    from runner.spec.config import Config

WORKSPACE = typer.Option("--workspace", metavar="NAME", help="Azure ML: the workspace (default: see docs/azure.md).")
RESOURCE_GROUP = typer.Option("--resource-group", metavar="NAME", help="Azure ML: the workspace's resource group.")
SUBSCRIPTION = typer.Option("--subscription", metavar="ID", help="Azure ML: the workspace's subscription.")
AUTH = typer.Option("--auth", metavar="WAY", help="Azure ML: sign in by cli, browser, device, sp or msi alone.")


def said(
    workspace: str | None, resource_group: str | None, subscription: str | None, auth: str | None
) -> dict[str, str] | None:
    """What the options say, as a request takes it; None: nothing.

    Raises:
        UsageError: one of them is empty, as a shell's variable is that was never set: another workspace would be taken.
    """
    given = {"workspace": workspace, "resource_group": resource_group, "subscription": subscription, "auth": auth}
    for key, value in given.items():
        if value == "":
            raise UsageError(f"{_option(key)} is empty", "give it a value, or leave it out")
    return {key: value for key, value in given.items() if value is not None} or None


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def asked_of(
    backend: str | None, asked: dict[str, str] | None, registry: str | None = None, *, here: Collection[str] = ()
) -> bool:
    """Whether a command asks the workspace, as `--backend azureml` says, instead of this machine.

    Args:
        asked, registry: what was said that only a workspace has a use for. here: backends of this machine that it takes.

    Raises:
        UsageError: another backend, or one of those options without this one.
    """
    if backend == "azureml":
        return True
    if backend is not None and backend not in here:
        raise UsageError(
            f"--backend {backend}: only azureml can be asked here", "leave it out, and this machine is asked"
        )
    options = [_option(key) for key in asked or ()] + (["--registry"] if registry is not None else [])
    if options:
        raise UsageError(f"{', '.join(options)}: that is Azure ML's alone", "say it too: --backend azureml")
    return False


def found(asked: dict[str, str] | None, settings: Config | None = None, start: Path | None = None) -> Found:
    """The workspace that is meant; told where a stranger's file chose it.

    Args:
        settings, start: those that hold where the work is, and that folder; default: the current one's.

    Raises:
        UsageError, SpecError: as `runner.backends.azureml.workspace.find`.
    """
    from runner.backends.azureml.workspace import Asked, find
    from runner.spec import config as configuration

    settings = settings or configuration.load(Path.cwd(), os.environ)
    there = find(Asked(**asked or {}), settings, os.environ, start)
    if there.told:
        console.say("workspace", there.told)
    return there


@contextmanager
def opened(
    asked: dict[str, str] | None, settings: Config | None = None, start: Path | None = None
) -> Iterator[tuple[Arm, Found]]:
    """The management API with the user's sign-in, and the workspace (`found`). Nobody is asked yet.

    Raises:
        CapabilityError: the extra for Azure is not installed.
    """
    from runner.backends.azureml import installed

    installed.check()
    from runner.backends.azureml.arm import Arm
    from runner.backends.azureml.credential import Tokens
    from runner.backends.azureml.rest import Rest

    there = found(asked, settings, start)
    rest = Rest(Tokens(there.target.auth))
    try:
        yield Arm(rest), there
    finally:
        rest.close()


@contextmanager
def serving(asked: dict[str, str] | None) -> Iterator[Service]:
    """The workspace's own questions: jobs, run history, datastores. Raises as `opened`."""
    from runner.backends.azureml import installed

    installed.check()
    from runner.backends.azureml.credential import Tokens
    from runner.backends.azureml.rest import Rest
    from runner.backends.azureml.service import Service

    there = found(asked)
    rest = Rest(Tokens(there.target.auth))
    try:
        yield Service(rest, there.target)
    finally:
        rest.close()
