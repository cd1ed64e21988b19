"""What a step names of its workspace: environments, data, models, datastores; and whether each is there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from runner.backends.azureml.arm import inner, text
from runner.errors import NotFoundError
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from runner.backends.azureml.arm import Arm
    from runner.backends.azureml.target import Target
    from runner.model import Step

_VERSION, _STORES = "2023-04-01-preview", "2024-10-01-preview"
_SHORT = re.compile(r"azureml:(?!/)(?P<name>[^:@/]+)(?::(?P<version>[^:@]+)|@(?P<label>[^:@]+))?")
_LONG = re.compile(
    r"(?:azureml:)?(?://|/)?subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)/(?:providers/[^/]+/)?"
    r"workspaces/(?P<workspace>[^/]+)/(?P<kind>environments|data|models|datastores)/(?P<name>[^/]+)"
    r"(?:/(?:versions/(?P<version>[^/]+)|labels/(?P<label>[^/]+)))?",
    re.IGNORECASE,
)
_STORE = re.compile(r"azureml://datastores/(?P<name>[^/]+)")
_MODELS = frozenset({"custom_model", "mlflow_model", "triton_model"})
_NOUNS = {"environments": "environment", "data": "data asset", "models": "model", "datastores": "datastore"}


@dataclass(frozen=True, slots=True)
class Asset:
    """Something of the workspace. kind: environments, data, models or datastores. version, label: None where not said."""

    kind: str
    name: str
    version: str | None = None
    label: str | None = None

    def __str__(self) -> str:
        which = f":{self.version}" if self.version else f"@{self.label}" if self.label else ""
        return f"{_NOUNS[self.kind]} {self.name}{which}"


def named(step: Step, target: Target) -> Iterator[tuple[str, Asset]]:
    """(member of the step, asset) for everything it names of this workspace; registries and other workspaces are theirs."""
    remote = step.remote
    if remote is None:
        return
    wanted: list[tuple[str, str, object]] = [("environment", "environments", remote.environment)]
    for name, given in remote.inputs.items():
        wanted.append((f"inputs.{name}", _kind(given), given.get("path")))
    wanted += [(f"outputs.{name}", "datastores", given.get("path")) for name, given in remote.outputs.items()]
    for member, kind, reference in wanted:
        asset = _asset(reference, kind, target) if isinstance(reference, str) else None
        if asset is not None and (asset.kind in {kind, "datastores"}):
            yield member, asset


def _kind(given: Mapping[str, Any]) -> str:
    return "models" if given.get("type") in _MODELS else "data"


def _asset(reference: str, kind: str, target: Target) -> Asset | None:
    if found := _STORE.match(reference):
        return Asset("datastores", found["name"])
    if found := _LONG.match(reference):
        place = (found["subscription"], found["group"], found["workspace"])
        ours = (target.subscription, target.resource_group, target.workspace)
        if [part.lower() for part in place] != [part.lower() for part in ours]:
            return None
        return Asset(found["kind"].lower(), found["name"], found["version"], found["label"])
    if kind != "datastores" and (found := _SHORT.fullmatch(reference)):
        return Asset(kind, found["name"], found["version"], found["label"])
    return None


def absent(arm: Arm, target: Target, asset: Asset) -> tuple[str, tuple[str, ...]] | None:
    """(what is wrong, what to do) where the workspace has no such thing; None: it has.

    Raises:
        UnavailableError, BackendError: it could not be asked.
    """
    place = f"{target.path}/{asset.kind}/{quote(asset.name, safe='')}"
    whole = f"{place}/versions/{quote(asset.version, safe='')}" if asset.version else place
    try:
        arm.one(whole, _version(asset), f"the {asset}")
    except NotFoundError:
        return _explained(arm, target, asset, place)
    return None


def _explained(arm: Arm, target: Target, asset: Asset, place: str) -> tuple[str, tuple[str, ...]]:
    """Whether the name is wrong, or only the version, and what there is instead."""
    noun, api = _NOUNS[asset.kind], _version(asset)
    known = [text(each, "name") for each in arm.every(f"{target.path}/{asset.kind}", api, f"the {noun}s")]
    if asset.name in known and asset.version is not None:
        versions = [text(each, "name") for each in arm.every(f"{place}/versions", api, f"the versions of {asset.name}")]
        newest = text(inner(arm.one(place, api, f"the {noun} {asset.name}"), "properties"), "latestVersion")
        have = f"there are: {', '.join(versions[:10]) or 'none'}"
        hint = f"{have}; the newest is {newest}" if newest else have
        return f"the {noun} {asset.name} has no version {asset.version!r}", (hint,)
    near = nearest(asset.name, known)
    hints = (f"did you mean {near}?",) if near else ()
    return (
        f"the workspace {target.workspace} has no {noun} {asset.name!r}",
        (*hints, f"see them: az ml {_NOUNS[asset.kind].partition(' ')[0]} list"),
    )


def _version(asset: Asset) -> str:
    """Of the API: those that azure-ai-ml asks with, so that we see what it sees."""
    return _STORES if asset.kind == "datastores" else _VERSION
