"""Which workspace is meant: options, the environment, runner.yaml, Azure's own config.json; each part from the first that
says it. Asks nobody, and imports nothing of Azure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from runner.backends.azureml.target import Target
from runner.errors import SpecError, UsageError
from runner.spec.config import FILE, upward
from runner.spec.mappings import AzureAuth
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.spec.config import Config

AUTHS: tuple[str, ...] = get_args(AzureAuth)
AUTH_VARIABLE = "RUNNER_AZURE_AUTH"

# What Azure's samples and azd call them; `az` itself (AZURE_DEFAULTS_…); and what stands in every job of Azure ML.
_VARIABLES = {
    "workspace": (
        "AZURE_WORKSPACE",
        "AZUREML_WORKSPACE_NAME",
        "AZURE_DEFAULTS_WORKSPACE",
        "AZUREML_ARM_WORKSPACE_NAME",
    ),
    "resource group": ("AZURE_RESOURCE_GROUP", "AZURE_DEFAULTS_GROUP", "AZUREML_ARM_RESOURCEGROUP"),
    "subscription": ("AZURE_SUBSCRIPTION_ID", "AZUREML_ARM_SUBSCRIPTION"),
}
_OPTIONS = {"workspace": "--workspace", "resource group": "--resource-group", "subscription": "--subscription"}
_CALLED = {"workspace": "its name", "resource group": "its resource group", "subscription": "its subscription"}
_KEYS = {"workspace": "workspace_name", "resource group": "resource_group", "subscription": "subscription_id"}
_FILES = tuple(
    f"{folder}{name}" for folder in (".azureml/", "aml_config/", "") for name in ("config.json", "project.json")
)
"""Where the SDK's `MLClient.from_config` looks, in its order: each of them in every folder upward."""
_SCOPE = re.compile(r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/[^/]+/workspaces/([^/]+)", re.IGNORECASE)

_SHAPES = {
    "workspace": (re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,32}"), "2 to 33 letters, digits, `-` and `_`"),
    "resource group": (re.compile(r"[\w.()-]{1,90}(?<!\.)"), "up to 90 letters, digits and `-_.()`"),
    "subscription": (re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"), "its id: az account list"),
}
"""Each becomes a part of addresses that a token is sent to, so nothing else may stand in it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say; None: nothing."""

    workspace: str | None = None
    resource_group: str | None = None
    subscription: str | None = None
    auth: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A workspace, and who chose it.

    origins: workspace, resource group, subscription → the place that said so. stranger: that place, where a file said it
    that was only found and may have come with a checkout; it is told to the user before anything is sent there.
    """

    target: Target
    origins: Mapping[str, str]
    stranger: str | None = None

    @property
    def told(self) -> str | None:
        """The line that tells it, where somebody else than the user chose."""
        return None if self.stranger is None else f"{self.target.workspace}  ({self.stranger}; --workspace to choose)"


@dataclass(frozen=True, slots=True)
class _Place:
    """One place that was looked at. said: part → (value, how to call the place)."""

    text: str
    said: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    stranger: bool = False


def find(asked: Asked, config: Config, environ: Mapping[str, str], start: Path | None = None) -> Found:
    """The workspace that is meant.

    Args:
        config: the settings that hold where the work is.
        start: where the search for Azure's config.json begins; default: the working directory.

    Raises:
        UsageError: a part is nowhere said; names every place looked at. Or there is no such way to sign in.
        SpecError: what a place says cannot be a part's name, or a config.json cannot be read.
    """
    auth = _auth(asked, config, environ)
    places = [_options(asked), _environment(environ), _settings(config), *_files((start or Path.cwd()).absolute())]
    said: dict[str, tuple[str, str]] = {}
    stranger = None
    for place in places:
        for part, told in place.said.items():
            if part not in said:
                said[part] = told
                stranger = stranger or (place.text if place.stranger else None)
    if missing := [part for part in _OPTIONS if part not in said]:
        raise _nowhere(missing, places)
    values = {part: _checked(part, *said[part]) for part in _OPTIONS}
    target = Target(values["subscription"], values["resource group"], values["workspace"], auth)
    return Found(target, {part: said[part][1] for part in _OPTIONS}, stranger)


def _options(asked: Asked) -> _Place:
    given = {
        "workspace": asked.workspace,
        "resource group": asked.resource_group,
        "subscription": asked.subscription,
    }
    return _Place("options", {part: (value, _OPTIONS[part]) for part, value in given.items() if value})


def _environment(environ: Mapping[str, str]) -> _Place:
    said = {}
    for part, names in _VARIABLES.items():
        name = next((name for name in names if environ.get(name)), None)
        if name is not None:
            said[part] = (environ[name].strip(), name)
    return _Place("environment", said)


def _settings(config: Config) -> _Place:
    found = config.workspace
    if found is None:
        files = ", ".join(str(path) for path in config.files)
        return _Place(f"{files}: no workspace:" if files else f"{FILE}: there is none")
    where = f"{found.origin.where.file}:{found.origin.where.line}"
    given = {"workspace": found.name, "resource group": found.resource_group, "subscription": found.subscription}
    return _Place(where, {part: (value, where) for part, value in given.items()}, stranger=not found.origin.named)


def _files(start: Path) -> Iterator[_Place]:
    """The first file that says something: a config.json may be anybody's."""
    for name in _FILES:
        path = upward(start, name)
        if path is None:
            continue
        said = {part: (value, str(path)) for part, value in _read(path).items()}
        if said:
            yield _Place(str(path), said, stranger=True)
            return
    yield _Place(f"config.json and .azureml/config.json, from {start} up: none of a workspace")


def _read(path: Path) -> dict[str, str]:
    try:
        data: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        if path.parent.name not in {".azureml", "aml_config"}:
            return {}
        raise SpecError(
            f"cannot be read as Azure ML's configuration ({getattr(error, 'strerror', None) or 'no JSON'})",
            "have it anew from the studio (Download config file), or name the workspace: --workspace",
            file=str(path),
        ) from None
    if not isinstance(data, dict):
        return {}
    if isinstance(scope := data.get("Scope"), str) and (found := _SCOPE.match(scope)):
        return dict(zip(("subscription", "resource group", "workspace"), found.groups(), strict=True))
    given = {part: data.get(key) for part, key in _KEYS.items()}
    return {part: value.strip() for part, value in given.items() if isinstance(value, str) and value.strip()}


def _checked(part: str, value: str, place: str) -> str:
    shape, expected = _SHAPES[part]
    if shape.fullmatch(value):
        return value
    raise SpecError(f"{value!r} cannot be a {part}", f"expected {expected}", key=place)


def _auth(asked: Asked, config: Config, environ: Mapping[str, str]) -> AzureAuth:
    for value, place in ((asked.auth, "--auth"), (environ.get(AUTH_VARIABLE), AUTH_VARIABLE)):
        if value and value not in AUTHS:
            near = nearest(value, AUTHS)
            hints = [f"did you mean {near}?"] if near else []
            raise UsageError(
                f"{place}: there is no way to sign in called {value!r}", *hints, f"there are: {', '.join(AUTHS)}"
            )
        if value:
            return value  # type: ignore[return-value]  # one of AUTHS
    return (config.workspace.auth if config.workspace else None) or "default"


def _listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _nowhere(missing: list[str], places: list[_Place]) -> UsageError:
    """Every place that could have said it, since the one that was meant to is the one that has a slip in it."""
    lines = [f"{part}: {_OPTIONS[part]}, {', '.join(_VARIABLES[part])}" for part in missing]
    return UsageError(
        f"Azure ML needs a workspace, and nothing says {_listed([_CALLED[part] for part in missing])}",
        *(f"looked for the {line}" for line in lines),
        *(f"looked at {place.text}" for place in places[2:]),
        "say it once, in runner.yaml: workspace: {subscription: ID, resource_group: NAME, name: NAME}",
    )
