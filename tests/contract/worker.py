"""Submits and waits for the contract suite, over and over in one process: a start of the command costs 0.7 s each.

JSON lines in, JSON lines out. The process has one thread, so supervisors are forked exactly as the command forks them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from runner.api import submit
from runner.errors import RunnerError
from runner.run import Run
from runner.store import Store
from tests.forked import preload


def answer(asked: dict[str, Any]) -> object:
    """Carry out one request; the name of a run, or a row as `--json` shows it."""
    home = Path(asked["home"])
    match asked["op"]:
        case "submit":
            os.environ.update(asked["environ"])
            run = submit(asked["script"], *asked["args"], home=home, **asked["options"])
            if asked["cancel"]:
                run.cancel("test")
            return run.name
        case "wait":
            run = Run(Store(home), asked["name"])
            run.wait(asked["timeout"])
            return run.to_json()
        case "row":
            return Run(Store(home), asked["name"]).to_json()
        case _:
            raise ValueError(asked["op"])


def main() -> None:
    """Answer until stdin ends."""
    preload(there=sys.argv[1] == "azureml")  # once for all supervisors, as a notebook has it after its first
    for line in sys.stdin:
        try:
            said: dict[str, object] = {"ok": answer(json.loads(line))}
        except (RunnerError, TimeoutError) as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
