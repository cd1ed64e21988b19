"""The jobs of a workspace, whoever submitted them: what `runner list --backend azureml` shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from runner.backends.azureml.computes import nowhere
from runner.backends.azureml.observe import moment
from runner.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.backends.azureml.service import Json, Service


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the workspace. Times: ISO 8601. status: in Azure's own words. run: our name of it, if it is one of ours."""

    name: str
    display_name: str
    kind: str
    status: str
    experiment: str
    created: str | None = None
    created_by: str = ""
    compute: str = ""
    run: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def jobs(service: Service, *, limit: int | None = None, keep: Callable[[Job], bool] | None = None) -> list[Job]:
    """The newest jobs first; only so many pages are asked for as it takes.

    Raises:
        RunnerError: the workspace cannot be asked.
    """
    return list(islice(filter(keep, _all(service)), limit))


def _all(service: Service) -> Iterator[Job]:
    try:
        for found in service.jobs():
            yield job_of(found)
    except NotFoundError as error:
        raise nowhere(service.target, error) from None


def job_of(found: Json) -> Job:
    """A job as ARM has it. Members that a kind of job does not have are empty."""
    properties = found.get("properties") or {}
    system = found.get("systemData") or {}
    tags = {str(name): str(value) for name, value in (properties.get("tags") or {}).items()}
    name = str(found.get("name") or "")
    return Job(
        name=name,
        display_name=str(properties.get("displayName") or name),
        kind=str(properties.get("jobType") or ""),
        status=str(properties.get("status") or "Unknown"),
        experiment=str(properties.get("experimentName") or ""),
        created=moment(system.get("createdAt")),
        created_by=str(system.get("createdBy") or ""),
        compute=str(properties.get("computeId") or "").rpartition("/")[2],
        run=tags.get("runner.run"),
        tags=tags,
    )
