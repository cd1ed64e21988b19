"""What every part of the execution shares, and where a run's files are on this machine and in its container."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.emulators.azureml.blobs import ARTIFACTS, Blobs
from tests.emulators.azureml.execution.docker import Engine
from tests.emulators.azureml.execution.nodes import Nodes
from tests.emulators.azureml.execution.runs import Runs
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.state import Doc, State


@dataclass(slots=True)
class Outside:
    """How a job that has a network reaches the service. variables: proxy, identity, for the job's environment. ca: the
    authority that it has to trust. token: makes a bearer token of the data plane."""

    variables: Mapping[str, str] = field(default_factory=dict)
    ca: Path | None = None
    token: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """work: a folder on this machine for the runs' files."""

    state: State
    blobs: Blobs
    profile: Profile
    runs: Runs
    nodes: Nodes
    engine: Engine
    work: Path
    outside: Outside = field(default_factory=Outside)

    @property
    def artifacts(self) -> str:
        """The container of the artifact store."""
        return self.blobs.container_of(ARTIFACTS)

    @property
    def workspace(self) -> Doc:
        return self.state.list("workspace")[0]

    @property
    def has_network(self) -> bool:
        return self.profile.network != "none"

    def places(self, run_id: str) -> Places:
        uuid = str(self.runs.get(run_id)["runUuid"]).replace("-", "")
        return Places(run_id, self.work / run_id, uuid, self.engine.owner)


@dataclass(frozen=True, slots=True)
class Places:
    """Of one run. uuid: 32 hex digits, part of every path in the container. owner: what tells this emulator from others."""

    run_id: str
    folder: Path
    uuid: str
    owner: str

    @property
    def container(self) -> str:
        """The container's name: another emulator on this engine may have a job of the same name."""
        return f"emu-{self.owner}-{self.run_id}"

    @property
    def code(self) -> Path:
        return self.folder / "wd"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log" / "std_log.txt"

    @property
    def inside(self) -> str:
        return f"/mnt/azureml/cr/j/{self.uuid}"

    @property
    def code_inside(self) -> str:
        return f"{self.inside}/exe/wd"

    @property
    def data_inside(self) -> str:
        return f"{self.inside}/cap/data-capability/wd"

    @property
    def ca_inside(self) -> str:
        return f"{self.inside}/cap/ca.pem"

    @property
    def log_inside(self) -> str:
        return f"{self.inside}/cap/lifecycler/wd/user_logs"

    @property
    def artifacts(self) -> str:
        """The run's folder in the artifact store."""
        return f"ExperimentRun/dcid.{self.run_id}"
