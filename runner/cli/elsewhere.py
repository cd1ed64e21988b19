"""What of a service elsewhere a user looks at: `runner list --backend azureml`, `runner open`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from runner import console
from runner.cli import workspaces
from runner.cli.opening import JSON, RUN
from runner.errors import CapabilityError, ConflictError, UsageError
from runner.model import Status

if TYPE_CHECKING:
    from runner.backends.azureml.backend import AzureMLBackend
    from runner.backends.azureml.listing import Job
    from runner.store import RunRow, Store


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs to list. status: in Azure's words, whatever their case."""

    status: str | None
    experiment: str | None
    limit: int
    steps: bool

    def takes(self, job: Job) -> bool:
        """Whether it is one of them."""
        return (self.status is None or self.status.lower() == job.status.lower()) and (
            self.experiment is None or self.experiment == job.experiment
        )


def jobs(asked: dict[str, str] | None, wanted: Wanted, *, json: bool) -> None:
    """The jobs of a workspace, each with the run of this machine that it is, if it is one."""
    if wanted.steps:
        raise UsageError("the steps of a workspace's pipelines are not listed", "runner show RUN, or leave --steps out")
    from runner.backends.azureml.listing import jobs as listed
    from runner.backends.azureml.observe import check_status
    from runner.store import Store

    if wanted.status is not None:
        check_status(wanted.status)
    store = Store()
    with workspaces.serving(asked) as service:
        found = listed(service, limit=wanted.limit, keep=wanted.takes)
    told = [(job, _local(store, job)) for job in found]
    if json:
        console.result_json([{**job.to_json(), "local_run": run} for job, run in told])
        return
    if not told:
        narrowed = wanted.status is not None or wanted.experiment is not None
        console.say("", f"no {'such ' if narrowed else ''}jobs in the workspace {service.target.workspace}")
        return
    console.table(
        ("NAME", "STATUS", "KIND", "COMPUTE", "EXPERIMENT", "CREATED", "BY", "JOB", "RUN HERE"),
        [
            (job.display_name, job.status, job.kind, job.compute or "serverless", job.experiment, _when(job.created),
             job.created_by, job.name, run or "")
            for job, run in told
        ],
        [_colour(job.status) for job, _ in told],
    )  # fmt: skip


def _local(store: Store, job: Job) -> str | None:
    """The name of the run in this machine's store; another machine may have a run of the same name."""
    ours = job.run is not None and job.tags.get("runner.store") == store.id
    return job.run if ours and store.has(str(job.run)) else None


def _when(text: str | None) -> str:
    return console.local_time(datetime.fromisoformat(text).timestamp()) if text else ""


def _colour(status: str) -> str | None:
    return console.status_colour(Status(status)) if status in set(Status) else None


def open_(run: Annotated[str, RUN], json: Annotated[bool, JSON] = False) -> None:
    """Print the address of a run's page in the studio."""
    from runner.store import Store

    store = Store()
    row = store.resolve(run)
    root = store.root_of(row)
    target = store.folder(root.name).read_target()
    if root.backend != "azureml" or target is None:
        raise CapabilityError(
            f"{row.name} runs on {root.backend}, which has no page for it", f"see: runner show {row.name}"
        )
    address = _address(store, row, root, target)
    if json:
        console.result_json({"run": row.name, "url": address})
    else:
        console.result(address)


def _address(store: Store, row: RunRow, root: RunRow, target: dict[str, str]) -> str:
    from runner.backends import open_backend
    from runner.backends.azureml.backend import AzureMLBackend

    if row.reused_from is not None:
        raise ConflictError(
            f"{row.name} did not run: it is reused from {row.reused_from}", f"runner open {row.reused_from}"
        )
    backend = open_backend(root.backend, store, target)
    assert isinstance(backend, AzureMLBackend)  # noqa: S101 - by its name
    try:
        return backend.studio(_handle(store, row, root, backend))
    finally:
        backend.close()


def _handle(store: Store, row: RunRow, root: RunRow, backend: AzureMLBackend) -> str:
    """What the backend calls it. It is forgotten with the run's end, but a job's follows from its name, and a step's is
    asked of its pipeline. A trial that is forgotten has the page of its sweep."""
    for attempt in reversed(store.attempts(row)):
        if attempt.handle is not None:
            return attempt.handle
    if not row.attempts:
        raise ConflictError(f"{row.name} has not been submitted ({row.status})", f"see: runner show {row.name}")
    from runner.backends.azureml.names import child, job_name
    from runner.composer import task_key

    whole = job_name(task_key(store.id, root.name, max(1, root.attempts)))
    if row.name == root.name:
        return whole
    for found in backend.service.children(whole):
        name = str(found.get("displayName"))
        if row.path == name or str(row.path).startswith(f"{name}."):
            return child(whole, str(found.get("runId")))
    return whole
