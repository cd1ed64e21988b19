"""What can be known of a job before anything is uploaded: that its computes can take it, and that what it names is there.

Everything that is wrong is told at once. What an account may not look at is not held against the job.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.backends.azureml import assets, computes
from runner.errors import BackendError, CapabilityError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runner.backends.azureml.arm import Arm
    from runner.backends.azureml.assets import Asset
    from runner.backends.azureml.computes import Compute, Quota
    from runner.backends.azureml.target import Target
    from runner.model import Step

_SERVERLESS = frozenset({"", "serverless", "azureml:serverless"})
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing in the way. where: `train: compute`, of each step and member that needs it. ways: what to do."""

    where: tuple[str, ...]
    text: str
    ways: tuple[str, ...]


def check(arm: Arm, target: Target, steps: Sequence[Step], meanwhile: Callable[[], None] | None = None) -> None:
    """Refuse a job that the workspace could not run.

    Args:
        meanwhile: what else there is to do while the answers are on their way.

    Raises:
        CapabilityError: with everything that is in the way. UnavailableError: nobody answers. BackendError: not signed in.
    """
    found = lacking(arm, target, steps, meanwhile)
    if not found:
        return
    count = "1 thing" if len(found) == 1 else f"{len(found)} things"
    lines = [
        line
        for each in found
        for line in (f"{', '.join(each.where)}: {each.text}", *(f"  → {way}" for way in each.ways))
    ]
    raise CapabilityError(
        f"{count} of this job cannot be had in the workspace {target.workspace}; nothing was uploaded", *lines
    )


def lacking(arm: Arm, target: Target, steps: Sequence[Step], meanwhile: Callable[[], None] | None = None) -> list[Lack]:
    """Everything in the way of these steps. Each thing is asked about once, several at a time."""
    named: dict[Asset, list[str]] = {}
    machines: dict[str, list[tuple[str, int]]] = {}
    for step in steps:
        prefix = f"{step.name}: " if len(steps) > 1 else ""
        for member, asset in assets.named(step, target):
            named.setdefault(asset, []).append(prefix + member)
        if (compute := _compute(step)) is not None:
            machines.setdefault(compute, []).append((f"{prefix}compute", _instances(step)))
    tasks: list[Callable[[], Iterator[Lack]]] = [
        *(lambda name=name, uses=uses: _of_compute(arm, target, name, uses) for name, uses in machines.items()),
        *(lambda asset=asset, places=places: _of_asset(arm, target, asset, places) for asset, places in named.items()),
    ]
    if not tasks:
        return []
    with ThreadPoolExecutor(min(_AT_ONCE, len(tasks))) as pool:
        asked = [pool.submit(list, task()) for task in tasks]
        if meanwhile is not None:
            meanwhile()
        return [lack for each in asked for lack in each.result()]


def _compute(step: Step) -> str | None:
    """The name of the compute; None: serverless, or one of another workspace, which is the service's to judge."""
    name = step.remote.compute if step.remote else None
    if name is None or name in _SERVERLESS:
        return None
    plain = name.removeprefix("azureml:")
    if plain.startswith("/"):
        return plain.rpartition("/")[2] if "/computes/" in plain else None
    return plain


def _instances(step: Step) -> int:
    resources = step.remote.members.get("resources") if step.remote else None
    count = resources.get("instance_count") if isinstance(resources, dict) else None
    return count if isinstance(count, int) and count > 0 else 1


def _of_compute(arm: Arm, target: Target, name: str, uses: Sequence[tuple[str, int]]) -> Iterator[Lack]:
    where = tuple(place for place, _ in uses)
    try:
        found = computes.find(arm, target, name)
    except NotFoundError as error:
        yield Lack(where, error.message, error.hints)
        return
    except BackendError as error:
        _passed_over(error)
        return
    if found.unusable is not None:
        why, way = found.unusable
        yield Lack(where, f"{name}: {why}", (way,))
        return
    most = max(instances for _, instances in uses)
    if (few := found.too_few(most)) is not None:
        yield Lack(tuple(place for place, instances in uses if instances == most), f"{name}: {few[0]}", (few[1],))
    elif most > max(1, found.nodes or 0):  # nodes that run have their cores already
        quota = computes.quotas(arm, target, [found]).get(name)
        if quota is not None and quota.cores * most > quota.limit:
            yield Lack(where, *_beyond(found, quota, most))


def _beyond(compute: Compute, quota: Quota, instances: int) -> tuple[str, tuple[str, ...]]:
    need = f"{instances} machines of {compute.size} need"
    have = f"the subscription may use {quota.limit} of {quota.family} in {compute.location}"
    way = "ask for more in the studio (Quota), or choose another: runner compute list"
    return f"{compute.name}: {need} {quota.cores * instances} cores, and {have}", (way,)


def _of_asset(arm: Arm, target: Target, asset: Asset, places: Sequence[str]) -> Iterator[Lack]:
    try:
        wrong = assets.absent(arm, target, asset)
    except BackendError as error:
        _passed_over(error)
        return
    if wrong is not None:
        yield Lack(tuple(places), *wrong)


def _passed_over(error: BackendError) -> None:
    """An account may submit jobs without the right to look at everything; that it is not signed in is another matter.

    Raises:
        BackendError: what was given, where it says nothing of this one thing.
    """
    if isinstance(error, UnavailableError) or error.code in {401, 404}:  # 404: of the workspace itself
        raise error
