"""`runner doctor` and `runner backends`: what works here, what does not, and the exact fix."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from runner import console

_JSON = typer.Option("--json", help="Print JSON.")


def doctor(json: Annotated[bool, _JSON] = False) -> int:
    """Check this machine; what is missing comes with its fix. Exits 1 if something needed is missing."""
    from runner.diagnosis import diagnose

    findings = diagnose()
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
