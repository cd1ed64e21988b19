"""The computes of a workspace: what each is, whether it can take a job, and how many cores may still be had."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from runner.backends.azureml.arm import inner, number, text
from runner.errors import BackendError, NotFoundError, RunnerError
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.backends.azureml.arm import Arm, Json
    from runner.backends.azureml.target import Target

VERSION = "2023-08-01-preview"
_TAKE_JOBS = frozenset({"AmlCompute", "ComputeInstance", "Kubernetes", "SynapseSpark", "VirtualMachine", "Databricks"})
_GONE = frozenset({"Stopped", "Stopping", "Deleting", "CreateFailed", "SetupFailed", "Unusable", "UserSetupFailed"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_CLUSTER, _INSTANCE = "AmlCompute", "ComputeInstance"


@dataclass(frozen=True, slots=True)
class Compute:
    """A compute as its workspace describes it.

    kind: AmlCompute (a cluster), ComputeInstance, Kubernetes … state: of an instance its own, of a cluster what it does
    (Steady, Resizing), else how its making went. nodes: there now; least, most: of a cluster. principals: object ids of
    its identities. errors: what Azure says of them, in its words.
    """

    name: str
    kind: str
    state: str
    provisioning: str = "Succeeded"
    size: str = ""
    location: str = ""
    nodes: int | None = None
    least: int | None = None
    most: int | None = None
    low_priority: bool = False
    principals: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def unusable(self) -> tuple[str, str] | None:
        """(why it cannot take a job, what to do); None: it can."""
        if self.kind not in _TAKE_JOBS:
            return f"it is of the kind {self.kind}, which runs no jobs", "choose another: runner compute list"
        if self.provisioning in {"Failed", "Canceled", "Deleting"}:
            said = f": {self.errors[0]}" if self.errors else ""
            return f"it is {self.provisioning}{said}", "choose another: runner compute list"
        if self.kind == _INSTANCE and self.state in _GONE:
            return f"it is {self.state}", f"start it: az ml compute start --name {self.name}"
        if self.kind == _CLUSTER and self.most == 0:
            return "it may have no nodes", f"az ml compute update --name {self.name} --max-instances N"
        return None

    def too_few(self, instances: int) -> tuple[str, str] | None:
        """(why it can never have so many machines, what to do); None: it can, or that is not known."""
        most = 1 if self.kind == _INSTANCE else self.most
        if most is None or instances <= most:
            return None
        way = f"ask for {most} or fewer"
        if self.kind == _CLUSTER:
            way += f", or: az ml compute update --name {self.name} --max-instances {instances}"
        return f"it has at most {most} node{'s' if most > 1 else ''}, and {instances} were asked for", way


@dataclass(frozen=True, slots=True)
class Quota:
    """Cores of one family of machines that a subscription may use in a region. cores: of one machine of the size asked."""

    family: str
    used: int
    limit: int
    cores: int

    @property
    def machines(self) -> int:
        """How many more machines of that size could be had now."""
        return max(0, self.limit - self.used) // self.cores if self.cores else 0


def listed(arm: Arm, target: Target) -> list[Compute]:
    """Every compute of the workspace, by name."""
    try:
        found = arm.every(f"{target.path}/computes", VERSION, "the list of computes")
    except NotFoundError as error:
        raise nowhere(target, error) from None
    return sorted((_read(each) for each in found), key=lambda each: each.name)


def nowhere(target: Target, error: NotFoundError) -> BackendError:
    """The error of a workspace that is not there, or that this account sees nothing of. error: what Azure said."""
    place = f"resource group {target.resource_group}, subscription {target.subscription}"
    said = error.message.partition(" is not there: ")[2] or error.message
    return BackendError(
        f"there is no workspace {target.workspace} that this account can see ({place}): {said}",
        "see where each of the three was said: runner doctor --backend azureml",
        "see what there is: az ml workspace list --resource-group NAME; another subscription: az account list",
        code=404,
    )


def find(arm: Arm, target: Target, name: str) -> Compute:
    """The compute of that name.

    Raises:
        NotFoundError: there is none; names the nearest, and all.
    """
    try:
        if _NAME.fullmatch(name):
            return _read(arm.one(f"{target.path}/computes/{name}", VERSION, f"the compute {name}"))
    except NotFoundError:
        pass
    raise missing(name, target, listed(arm, target))


def missing(name: str, target: Target, known: Sequence[Compute]) -> NotFoundError:
    """The error for a name that no compute has."""
    near = nearest(name, [each.name for each in known])
    hints = [f"did you mean {near}?"] if near else []
    have = ", ".join(each.name for each in known[:20]) or "none"
    return NotFoundError(f"the workspace {target.workspace} has no compute {name!r}", *hints, f"there are: {have}")


def _read(found: Json) -> Compute:
    outer, identity = inner(found, "properties"), inner(found, "identity")
    own = inner(outer, "properties")
    scale, kind = inner(own, "scaleSettings"), text(outer, "computeType")
    assigned = inner(identity, "userAssignedIdentities").values()
    principals = (
        text(identity, "principalId"),
        *(text(each, "principalId") for each in assigned if isinstance(each, dict)),
    )
    provisioning = text(outer, "provisioningState") or "Succeeded"
    return Compute(
        name=text(found, "name"),
        kind=kind,
        state=text(own, "state") or text(own, "allocationState") or provisioning,
        provisioning=provisioning,
        size=text(own, "vmSize"),
        location=text(outer, "computeLocation") or text(found, "location"),
        nodes=number(own, "currentNodeCount"),
        least=number(scale, "minNodeCount"),
        most=number(scale, "maxNodeCount"),
        low_priority=text(own, "vmPriority") == "LowPriority",
        principals=tuple(filter(None, principals)),
        errors=_errors(outer.get("provisioningErrors"), own.get("errors")),
    )


def _errors(*lists: object) -> tuple[str, ...]:
    entries = [each for given in lists if isinstance(given, list) for each in given if isinstance(each, dict)]
    return tuple(filter(None, (text(inner(each, "error"), "message")[:300] for each in entries)))


# -- quota ------------------------------------------------------------------------------------------------------------


def quotas(arm: Arm, target: Target, computes: Sequence[Compute]) -> Mapping[str, Quota]:
    """compute → its quota, of those where it can be had: Azure tells neither every size nor everybody.

    Low-priority machines share one quota, which says nothing of a family; they are left out.
    """
    found: dict[str, Quota] = {}
    asked = [each for each in computes if each.kind in {_CLUSTER, _INSTANCE} and each.size and not each.low_priority]
    for location in sorted({each.location for each in asked if each.location}):
        try:
            sizes, used = _sizes(arm, target, location), _usages(arm, target, location)
        except RunnerError:
            continue
        for each in asked:
            family, cores = sizes.get(each.size.lower(), ("", 0))
            if each.location == location and _key(family) in used:
                found[each.name] = Quota(family, *used[_key(family)], cores)
    return found


def _sizes(arm: Arm, target: Target, location: str) -> dict[str, tuple[str, int]]:
    """Size in lower case → (family, cores)."""
    entries = arm.one(_place(target, location, "vmSizes"), VERSION, f"the machine sizes of {location}").get("value")
    return {
        text(each, "name").lower(): (text(each, "family"), number(each, "vCPUs") or 0)
        for each in (entries if isinstance(entries, list) else [])
        if isinstance(each, dict)
    }


def _usages(arm: Arm, target: Target, location: str) -> dict[str, tuple[int, int]]:
    """Family, as `_key` writes it → (cores used, limit). Low priority and what one workspace uses stand there too."""
    found: dict[str, tuple[int, int]] = {}
    for each in arm.every(_place(target, location, "usages"), VERSION, f"the quota in {location}"):
        name, used, limit = inner(each, "name"), number(each, "currentValue"), number(each, "limit")
        words = f"{text(name, 'value')} {text(name, 'localizedValue')} {text(each, 'type')}".lower().replace(" ", "")
        if used is None or limit is None or "lowpriority" in words or "/workspaces/" in text(each, "id").lower():
            continue
        found |= {
            _key(text(name, key)): (used, limit) for key in ("value", "localizedValue") if "amily" in text(name, key)
        }
    return found


def _key(family: str) -> str:
    """`standardDSv2Family` and `Standard DSv2 Family Cluster Dedicated vCPUs` are the same family."""
    return re.sub(r"[^a-z0-9]", "", family.lower()).partition("family")[0]


def _place(target: Target, location: str, what: str) -> str:
    place = quote(re.sub(r"\s", "", location).lower(), safe="")
    return f"/subscriptions/{target.subscription}/providers/Microsoft.MachineLearningServices/locations/{place}/{what}"
