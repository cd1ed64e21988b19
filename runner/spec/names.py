"""What a name of Azure ML stands for here, by runner.yaml. Pure; what is not mapped is never guessed.

A key of runner.yaml is the name as the job writes it, the name with or without `azureml:`, the name without its version,
which is then every version of it, or a pattern with `*`, `?` and `[…]` over any of these. The whole name wins over the one
without a version, both over patterns, and of the patterns that one with the most ordinary characters.
"""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, TypeVar

from runner.job import NOWHERE, Problem, Where
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.spec.config import Config
    from runner.spec.mappings import Compute, Location, Mapped

_T = TypeVar("_T")
Kind = Literal["environment", "data", "datastore", "url", "component", "compute"]

_SECTIONS: dict[Kind, tuple[str, str]] = {
    "environment": ("environments", "{libs: libs.yaml}"),
    "data": ("data", "./data"),
    "datastore": ("datastores", "./data"),
    "url": ("urls", "./data"),
    "component": ("components", "component.yml"),
    "compute": ("computes", "{backend: docker}"),
}
"""Kind → the key of runner.yaml, and an example of a value."""
_RESOURCE = re.compile(
    r"(?:azureml:)?/{0,2}/?subscriptions/[^/]+/resourcegroups/[^/]+/(?:providers/Microsoft\.MachineLearningServices/)?"
    r"workspaces/[^/]+/(?P<kind>[a-z]+)/(?P<name>[^/]+)(?:/(?P<by>versions|labels)/(?P<which>[^/]+))?",
    re.IGNORECASE,
)
"""The long name of something in a workspace."""


def environment(config: Config, reference: str) -> Mapped | None:
    """What an environment's name stands for; None where it is not mapped."""
    return _find(config.environments, forms(reference))


def component(config: Config, reference: str) -> Path | None:
    """The file of a component; None where it is not mapped."""
    found = _find(config.components, forms(reference))
    return found.path if found else None


def asset(config: Config, reference: str) -> Location | None:
    """Where a data asset (or model) is; None where it is not mapped."""
    return _find(config.data, forms(reference))


def compute(config: Config, name: str) -> Compute | None:
    """What a compute's name stands for; None where it is not mapped.

    Raises:
        SpecError: a project's file that was only found names a backend other than docker: it came with a checkout, and
            must decide neither that its code runs here without a container, nor that something is sent to a cloud.
    """
    found = _find(config.computes, forms(name))
    if found is not None and found.backend not in {None, "docker"} and not found.origin.named:
        raise found.origin.where.error(
            f"a project's file may not choose the backend {found.backend}",
            f"choose it yourself: --backend {found.backend}",
            "or put this into your own ~/.config/runner/runner.yaml, or name the file: --config, RUNNER_CONFIG",
        )
    return found


def unmapped(config: Config, kind: Kind, name: str, where: Where = NOWHERE) -> Problem:
    """That a name stands for nothing here, with the line of runner.yaml that changes it.

    Its feature is the kind; for a list of problems, or by `where.error(problem.reason, problem.way_out)` an error.
    """
    key, example = _SECTIONS[kind]
    known: Mapping[str, object] = getattr(config, key)
    near = nearest(name, known)
    reason = f"{name} is not mapped" + (f" (runner.yaml has {near})" if near else "")
    line = f"runner.yaml: {key}: {{{json.dumps(name, ensure_ascii=False)}: {example}}}"
    return Problem(kind, reason, line, where)


def forms(reference: str) -> tuple[str, ...]:
    """The names that a reference may have in runner.yaml, the fullest first.

    `azureml:N:2` → itself, `N:2`, `azureml:N`, `N`. A long name of a workspace counts as the short one too. One of a
    registry is another thing than the workspace's of the same name: itself alone.
    """
    found = _RESOURCE.fullmatch(reference)
    if found:
        which = found["which"]
        mark = {"versions": ":", "labels": "@"}.get((found["by"] or "").lower(), "")
        short = found["name"] + (mark + which if which else "")
        return tuple(dict.fromkeys((reference, *forms(short))))
    if reference.startswith("azureml:/") or "://" in reference:
        return (reference,)
    short = reference.removeprefix("azureml:")
    bare = re.split("[:@]", short, maxsplit=1)[0]
    return tuple(dict.fromkeys((reference, f"azureml:{short}", short, f"azureml:{bare}", bare)))


def _find(table: Mapping[str, _T], names: tuple[str, ...]) -> _T | None:
    for name in names:
        if name in table:
            return table[name]
    for pattern in sorted((key for key in table if set(key) & set("*?[")), key=_ordinary, reverse=True):
        if any(fnmatchcase(name, pattern) for name in names):
            return table[pattern]
    return None


def _ordinary(pattern: str) -> int:
    """How many characters of a pattern stand for themselves."""
    return len(re.sub(r"\[[^]]*\]|[*?]", "", pattern))
