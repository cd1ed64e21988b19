"""`runner compute`: what jobs on Azure ML can run on."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner import console
from runner.cli import workspaces
from runner.cli.opening import JSON

if TYPE_CHECKING:
    from runner.backends.azureml.computes import Compute, Quota


def list_(
    *,
    workspace: Annotated[str | None, workspaces.WORKSPACE] = None,
    resource_group: Annotated[str | None, workspaces.RESOURCE_GROUP] = None,
    subscription: Annotated[str | None, workspaces.SUBSCRIPTION] = None,
    auth: Annotated[str | None, workspaces.AUTH] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """The computes of the workspace. Size, nodes, state, and cores that may still be had."""
    from runner.backends.azureml import computes

    with workspaces.opened(workspaces.said(workspace, resource_group, subscription, auth)) as (arm, found):
        target = found.target
        listed = computes.listed(arm, target)
        quotas = computes.quotas(arm, target, listed)
    if json:
        console.result_json([_data(each, quotas.get(each.name)) for each in listed])
        return
    if not listed:
        console.say("", f"the workspace {target.workspace} has no computes; jobs without --compute run serverless")
        return
    console.table(
        ("NAME", "KIND", "SIZE", "NODES", "STATUS", "QUOTA"),
        [
            (each.name, each.kind, each.size, _nodes(each), _state(each), _left(quotas.get(each.name)))
            for each in listed
        ],
        ["green" if each.unusable is None else "yellow" for each in listed],
    )


def show(
    compute: Annotated[str, typer.Argument(metavar="NAME", help="A compute of the workspace.")],
    *,
    workspace: Annotated[str | None, workspaces.WORKSPACE] = None,
    resource_group: Annotated[str | None, workspaces.RESOURCE_GROUP] = None,
    subscription: Annotated[str | None, workspaces.SUBSCRIPTION] = None,
    auth: Annotated[str | None, workspaces.AUTH] = None,
    json: Annotated[bool, JSON] = False,
) -> None:
    """One compute, whether it can take a job, and what to do where it cannot."""
    from runner.backends.azureml import computes

    with workspaces.opened(workspaces.said(workspace, resource_group, subscription, auth)) as (arm, found):
        one = computes.find(arm, found.target, compute)
        quota = computes.quotas(arm, found.target, [one]).get(one.name)
    if json:
        console.result_json(_data(one, quota))
        return
    facts = [
        ("kind", one.kind + (", low priority: it may be taken away" if one.low_priority else "")),
        ("size", one.size),
        ("nodes", _nodes(one)),
        ("place", one.location),
        ("quota", _told(quota)),
        ("identity", ", ".join(one.principals)),
        *(("error", error) for error in one.errors),
    ]
    colour = "green" if one.unusable is None else "yellow"
    console.result(f"{one.name}   {console.paint(_state(one), colour)}")
    for name, text in facts:
        if text:
            console.result(console.printable(f"  {name:<12}{text}"))
    if one.unusable is not None:
        why, way = one.unusable
        console.result(console.printable(f"  {why}"))
        console.result(console.printable(f"  → {way}"))


def _data(compute: Compute, quota: Quota | None) -> dict[str, Any]:
    why = compute.unusable
    left = None if quota is None else {**asdict(quota), "machines": quota.machines}
    return {**asdict(compute), "usable": why is None, "why_not": why[0] if why else None, "quota": left}


def _state(compute: Compute) -> str:
    return compute.state if compute.provisioning == "Succeeded" else compute.provisioning


def _nodes(compute: Compute) -> str:
    """`1 of 0-4`: how many there are, and how many there can be."""
    if compute.most is None:
        return "" if compute.nodes is None else str(compute.nodes)
    return f"{compute.nodes or 0} of {compute.least or 0}-{compute.most}"


def _left(quota: Quota | None) -> str:
    return "" if quota is None else f"{quota.used} of {quota.limit} cores"


def _told(quota: Quota | None) -> str:
    if quota is None:
        return ""
    machines = f"; {quota.machines} more machines" if quota.cores else ""
    return f"{quota.used} of {quota.limit} cores of {quota.family} in use{machines}"
