"""Secrets by reference: the vault of each, decided before a job is sent; the job itself reads them (bootstrap/vault.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runner.spec.values import KEY_VAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.backends.base import Task
    from runner.model import Remote


def places(remote: Remote) -> dict[str, str]:
    """Variable → `VAULT/NAME`, or `NAME` alone where the vault has not been decided (`settled`)."""
    return {name: text.removeprefix(KEY_VAULT) for name, text in remote.secrets.items()}


def settled(task: Task, vault: Callable[[], str]) -> Task:
    """The task with a vault for each of its secrets.

    Args:
        vault: gives the name of the workspace's own vault; asked only if some secret names none.
    """
    if task.whole is not None:
        members = tuple(replace(each, task=settled(each.task, vault)) for each in task.whole.members)
        return replace(task, whole=replace(task.whole, members=members))
    if task.remote is None or all("/" in text for text in task.remote.secrets.values()):
        return task
    return replace(task, remote=replace(task.remote, secrets=_with(task.remote.secrets, vault())))


def _with(secrets: Mapping[str, str], vault: str) -> dict[str, str]:
    return {
        name: text if "/" in text else f"{KEY_VAULT}{vault}/{text.removeprefix(KEY_VAULT)}"
        for name, text in secrets.items()
    }


def vault_of(arm_id: str) -> str:
    """The name of a vault by its ARM id (`properties.keyVault` of a workspace)."""
    return arm_id.rstrip("/").rpartition("/")[2]
