"""What of Azure ML works from here: the extra, the sign-in, the workspace, its computes, the registry; each by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runner.diagnosis import Finding
from runner.errors import NotFoundError, RunnerError
from runner.spec import config as configuration
from runner.spec.reference import place

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from runner.backends.azureml.arm import Arm
    from runner.backends.azureml.computes import Compute
    from runner.backends.azureml.rest import Rest
    from runner.backends.azureml.target import Target
    from runner.backends.base import Capabilities
    from runner.spec.config import Config


def summary() -> tuple[Capabilities, str]:
    """What the backend can do, and its state as far as it is known without asking anybody."""
    from runner.backends import find_target
    from runner.backends.azureml import installed
    from runner.backends.azureml.backend import AzureMLBackend

    can = AzureMLBackend.capabilities
    if installed.missing():
        return can, f"not installed: {installed.INSTALL}"
    here = Path.cwd()
    try:
        target, _ = find_target("azureml", {}, lambda: configuration.load(here, os.environ), here)
    except RunnerError as error:
        return can, error.message
    return can, f"workspace {(target or {}).get('workspace')}, not asked: runner doctor --backend azureml"


def findings(asked: Mapping[str, str]) -> Iterator[Finding]:
    """Every check, in the order in which each needs the one before it; what cannot be looked at for lack of one is left out.

    Args:
        asked: what the options say: any of `workspace`, `resource_group`, `subscription`, `auth`.
    """
    from runner.backends.azureml import installed

    missing = installed.missing()
    text = f"not installed: {', '.join(missing)}" if missing else "installed"
    yield Finding("azure extra", ok=not missing, text=text, fix=installed.INSTALL, needed=True)
    target, config = yield from _workspace(asked)
    if missing or target is None:
        return
    from runner.backends.azureml.credential import Tokens
    from runner.backends.azureml.rest import Rest

    rest = Rest(Tokens(target.auth), patience_s=10.0)
    try:
        yield from _asked(rest, target, config)
    finally:
        rest.close()


def _workspace(asked: Mapping[str, str]) -> Generator[Finding, None, tuple[Target | None, Config]]:
    from runner.backends.azureml.workspace import Asked, find

    try:
        config = configuration.load(Path.cwd(), os.environ)
        found = find(Asked(**asked), config, os.environ)
    except RunnerError as error:
        yield Finding(
            "workspace", ok=False, text=error.message, fix=error.hints[-1] if error.hints else "", needed=True
        )
        return None, configuration.Config()
    where = ", ".join(f"{part} by {place}" for part, place in found.origins.items())
    yield Finding("workspace", ok=True, text=f"{found.target.workspace} in {found.target.resource_group} ({where})")
    return found.target, config


def _asked(rest: Rest, target: Target, config: Config) -> Iterator[Finding]:
    from runner.backends.azureml import computes
    from runner.backends.azureml.arm import Arm

    try:
        rest.tokens.get()
    except RunnerError as error:
        yield _wrong("sign-in", error)
        return
    yield Finding("sign-in", ok=True, text=f"a token was had ({target.auth})")
    arm = Arm(rest)
    try:
        there = arm.one(target.path, "2024-10-01-preview", f"the workspace {target.workspace}")
    except RunnerError as error:
        yield _wrong("access", error)
        return
    yield Finding("access", ok=True, text=f"the workspace answers; it is in {there.get('location')}")
    try:
        listed = computes.listed(arm, target)
    except RunnerError as error:
        yield _wrong("computes", error)
        listed = []
    else:
        yield _of_computes(listed)
    yield from _pulls(arm, target, config, listed)


def _of_computes(listed: list[Compute]) -> Finding:
    usable = [each.name for each in listed if each.unusable is None]
    if not listed:
        text = "there are none; jobs without --compute run serverless"
        return Finding("computes", ok=True, text=text)
    if usable:
        return Finding("computes", ok=True, text=f"{', '.join(usable)} can take jobs ({len(listed)} in all)")
    why = "; ".join(f"{each.name}: {each.unusable[0]}" for each in listed if each.unusable)
    ways = " or ".join(dict.fromkeys(each.unusable[1] for each in listed if each.unusable))
    return Finding("computes", ok=False, text=why, fix=ways)


def _pulls(arm: Arm, target: Target, config: Config, listed: list[Compute]) -> Iterator[Finding]:
    from runner.backends.azureml import pulls

    try:
        own = pulls.own_registry(arm, target)
        host = _host(config) or own
        if host is None:
            fix = "--registry HOST/PATH, RUNNER_REGISTRY, or `registry:` in runner.yaml; or let Azure ML make its own"
            text = "the workspace has none yet, and none is set: there is nowhere to push images to"
            yield Finding("registry", ok=False, text=text, fix=fix)
            return
        compute = next((each for each in listed if each.unusable is None), None)
        right = pulls.right(arm, target, host, compute)
    except RunnerError as error:
        yield _wrong("registry", error)
        return
    fix = "; ".join(right.ways)
    text = right.text if right.ok is not None or not right.ways else f"{right.text} (this cannot be seen from here)"
    yield Finding("registry", ok=right.ok is True, text=text, fix=fix)


def _host(config: Config) -> str | None:
    """Of the registry that is set for images."""
    given = os.environ.get("RUNNER_REGISTRY") or config.registry
    return place(given).host if given else None


def _wrong(name: str, error: RunnerError) -> Finding:
    fix = "; ".join(error.hints)
    if isinstance(error, NotFoundError):
        fix = "check the names: az ml workspace list, az account show"
    return Finding(name, ok=False, text=error.message, fix=fix, needed=True)
