"""What runner.yaml maps names to: the values of `environments:`, `datastores:`, `data:`, `urls:`, `components:`,
`computes:` and `workspace:`. Each knows where it was written and whether the user chose that file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runner.job import NOWHERE, DataType, Where

BackendName = Literal["docker", "process", "azureml"]
AzureAuth = Literal["default", "cli", "browser", "device", "sp", "msi"]
"""default: `DefaultAzureCredential`. The others force one: the `az` command's login, a browser, a code typed elsewhere, a
service principal (AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET), a managed identity."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a line of runner.yaml stands.

    folder: the file's, from which relative paths count. named: the file is of the user's own choice (the user's runner.yaml,
    or one that `--config` or RUNNER_CONFIG names); else it was only found, and may have come with a checkout.
    """

    where: Where = NOWHERE
    folder: Path = Path()
    named: bool = True


@dataclass(frozen=True, slots=True)
class Mapped:
    """What an environment's name stands for. One of: image, a reference; libs, the path of a libs file; local, the machine
    as it is, which counts on the process backend only."""

    image: str | None = None
    libs: Path | None = None
    local: bool = False
    origin: Origin = field(default_factory=Origin, compare=False)


@dataclass(frozen=True, slots=True)
class Location:
    """Where data is: an absolute path of this machine, or a URL. type: that of a data asset, where it is said."""

    target: str
    type: DataType | None = None
    origin: Origin = field(default_factory=Origin, compare=False)

    @property
    def path(self) -> Path | None:
        """The local path; None for a URL."""
        return Path(self.target) if self.target.startswith("/") else None


@dataclass(frozen=True, slots=True)
class ComponentFile:
    """The file that a component's name stands for."""

    path: Path
    origin: Origin = field(default_factory=Origin, compare=False)


@dataclass(frozen=True, slots=True)
class Compute:
    """What a compute's name stands for here. None: not said. memory in bytes; instances: how many steps at once."""

    backend: BackendName | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    instances: int | None = None
    origin: Origin = field(default_factory=Origin, compare=False)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The Azure ML workspace that the azureml backend uses. `origin.named` says whether it is the user's own choice.

    auth: how to sign in there; None: not said.
    """

    subscription: str
    resource_group: str
    name: str
    auth: AzureAuth | None = None
    origin: Origin = field(default_factory=Origin, compare=False)
