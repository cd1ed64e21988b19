"""runner: build an image with your libraries, run your script in it anywhere, and learn the whole truth about its end.

Nothing is imported until it is used: `import runner` costs under a millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api import submit, submit_job
    from runner.errors import RunnerError
    from runner.images import build, push
    from runner.job import Data
    from runner.model import Outcome, Reason, Status
    from runner.pipeline import Pipeline, step
    from runner.run import Run, get

__all__ = [
    "Data",
    "Outcome",
    "Pipeline",
    "Reason",
    "Run",
    "RunnerError",
    "Status",
    "build",
    "get",
    "push",
    "step",
    "submit",
    "submit_job",
]

_WHERE = {
    "Data": "runner.job",
    "Outcome": "runner.model",
    "Pipeline": "runner.pipeline",
    "Reason": "runner.model",
    "Run": "runner.run",
    "RunnerError": "runner.errors",
    "Status": "runner.model",
    "build": "runner.images",
    "get": "runner.run",
    "push": "runner.images",
    "step": "runner.pipeline",
    "submit": "runner.api",
    "submit_job": "runner.api",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'runner' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
