"""`runner doctor` and `runner backends`: what works here, what does not, and the exact fix."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from runner import console
from runner.cli import workspaces

_JSON = typer.Option("--json", help="Print JSON.")


def doctor(
    *,
    backend: Annotated[
        str | None, typer.Option(metavar="BACKEND", help="azureml: sign-in, workspace, computes, registry, instead.")
    ] = None,
    workspace: Annotated[str | None, workspaces.WORKSPACE] = None,
    resource_group: Annotated[str | None, workspaces.RESOURCE_GROUP] = None,
    subscription: Annotated[str | None, workspaces.SUBSCRIPTION] = None,
    auth: Annotated[str | None, workspaces.AUTH] = None,
    json: Annotated[bool, _JSON] = False,
) -> int:
    """Check this machine, or Azure ML, and say the fixes. Exits 1 if something needed is missing."""
    from runner.diagnosis import diagnose, diagnose_azure

    asked = workspaces.said(workspace, resource_group, subscription, auth)
    away = workspaces.asked_of(backend, asked, here=("docker", "process"))
    findings = diagnose_azure(asked or {}) if away else diagnose()
    if json:
        console.result_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "ok     " if finding.ok else "missing" if finding.needed else "note   "
            colour = "green" if finding.ok else "red" if finding.needed else "yellow"
            console.result(f"{console.paint(mark, colour)}  {finding.name:<18}{finding.text}")
            if not finding.ok and finding.fix:
                console.result(f"         {'':<18}→ {finding.fix}")
    return 1 if any(finding.needed and not finding.ok for finding in findings) else 0


def backends(json: Annotated[bool, _JSON] = False) -> None:
    """Where runs can run, and what each can do."""
    from runner.diagnosis import backend_list

    found = backend_list()
    if json:
        console.result_json(found)
        return
    console.table(
        ("BACKEND", "STATE", "CAN"),
        [(str(one["name"]), str(one["state"]), ", ".join(str(can) for can in one["capabilities"])) for one in found],
        ["green" if one["state"] == "ready" else "yellow" for one in found],
    )
