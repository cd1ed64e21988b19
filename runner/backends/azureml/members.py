"""Names of inputs and outputs as Azure ML takes them: letters, digits and `_`. Ours may hold `-` and `.` too.

Two names of a step never become one: what would meet in one variable is refused before (`composer.check_names`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.backends.base import Member, Task, Whole
    from runner.plan import Upstream

_OTHER = re.compile(r"[^A-Za-z0-9_]")
_EXPRESSION = re.compile(r"\$\{\{\s*(inputs|outputs)\.([A-Za-z0-9_.-]+)\s*\}\}")
_V = TypeVar("_V")


def taken(name: str) -> str:
    """The name there of an input or output."""
    return _OTHER.sub("_", name)


def renamed(task: Task) -> Task:
    """The task with such names everywhere; the same task where nothing has to change."""
    if task.whole is not None:
        whole = _whole(task.whole)
        return task if whole == task.whole else replace(task, whole=whole)
    return _task(task, ())


def _task(task: Task, upstream: tuple[str, ...]) -> Task:
    remote = task.remote
    given = (*task.inputs, *upstream, *(remote.inputs if remote else ()))
    names = {"inputs": set(given), "outputs": {*task.outputs, *(remote.outputs if remote else ())}}
    if not any(_OTHER.search(name) for each in names.values() for name in each):
        return task

    def text(words: str) -> str:
        return _EXPRESSION.sub(
            lambda found: f"${{{{{found[1]}.{taken(found[2])}}}}}" if found[2] in names[found[1]] else found[0], words
        )

    return replace(
        task, argv=tuple(text(word) for word in task.argv), env={name: text(value) for name, value in task.env.items()},
        inputs=_keys(task.inputs), outputs=_keys(task.outputs),
        remote=remote and replace(remote, inputs=_keys(remote.inputs), outputs=_keys(remote.outputs)),
    )  # fmt: skip


def _whole(whole: Whole) -> Whole:
    members = tuple(_member(member) for member in whole.members)
    return replace(whole, members=members, outputs=_upstream(whole.outputs))


def _member(member: Member) -> Member:
    return replace(member, task=_task(member.task, tuple(member.upstream)), upstream=_upstream(member.upstream))


def _upstream(given: Mapping[str, Upstream]) -> dict[str, Upstream]:
    return {taken(name): replace(each, output=taken(each.output)) for name, each in given.items()}


def _keys(given: Mapping[str, _V]) -> dict[str, _V]:
    return {taken(name): value for name, value in given.items()}
