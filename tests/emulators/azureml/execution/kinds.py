"""The kinds of jobs: how each is checked when it is PUT, and what drives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.emulators.azureml.execution.command import CommandRun
from tests.emulators.azureml.execution.context import Context
from tests.emulators.azureml.execution.document import Command, command_of
from tests.emulators.azureml.execution.expressions import expressions
from tests.emulators.azureml.execution.signals import Signals
from tests.emulators.azureml.state import Doc


class SignalsOf(Protocol):
    """The signals of a run, made when it is first asked for; a child's hear those of its parent."""

    def __call__(self, run_id: str, parent: Signals | None = None, /) -> Signals: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """check: ValueError says what is wrong with a job's properties. drive: to the run's end; Shutdown may come out."""

    run_type: str
    check: Callable[[Doc], None]
    drive: Callable[[Context, Doc, Signals, SignalsOf], None]


def check_command(command: Command) -> None:
    """ValueError: the command refers to what the job does not have."""
    known = {
        *(f"inputs.{name}" for name in command.inputs), *(f"outputs.{name}" for name in command.outputs),
        *(f"search_space.{name}" for name in command.search_space),
    }  # fmt: skip
    unknown = sorted(set(expressions(command.command)) - known)
    if unknown:
        raise ValueError(f"The command refers to {', '.join(unknown)}, which the job does not have.")
    if command.nodes > 1:
        raise ValueError("Jobs on several nodes (instanceCount) are not emulated.")


def _drive_command(context: Context, job: Doc, signals: Signals, _: SignalsOf) -> None:
    CommandRun(context, job["name"], command_of(job["properties"]), signals).drive()


COMMAND = Kind("azureml.scriptrun", lambda properties: check_command(command_of(properties)), _drive_command)
