"""Whether computes of a workspace may pull from a registry, as far as this account may see, and what makes it so.

Azure ML signs in to the workspace's own registry by itself; to another of Azure's by the identity of the compute (or of the
workspace), which needs the role AcrPull; to any other by a connection of the workspace that holds user and password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.backends.azureml.arm import inner, text
from runner.errors import BackendError, NotFoundError

if TYPE_CHECKING:
    from runner.backends.azureml.arm import Arm, Json
    from runner.backends.azureml.computes import Compute
    from runner.backends.azureml.target import Target

_WORKSPACE, _CONNECTIONS, _REGISTRIES, _ROLES = "2024-10-01-preview", "2024-10-01-preview", "2023-07-01", "2022-04-01"
_PULL = frozenset({
    "7f951dda-4ed3-4680-a7ca-43fe172d538d",  # AcrPull
    "8311e382-0749-4cb8-b61a-304f252e45ec",  # AcrPush, which may pull too
    "b93aa761-3e63-49ed-ac28-beffa264f7ac",  # Container Registry Repository Reader
    "b24988ac-6180-42a0-ab88-20f7382dd24c",  # Contributor
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",  # Owner
})  # fmt: skip
"""Roles of Azure's own that let an identity pull, by the ids that they have everywhere."""
_AZURE = re.compile(r"\.azurecr\.(io|cn|us)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Right:
    """ok: None where it cannot be seen from here. ways: what makes it so, commands to be typed as they are."""

    ok: bool | None
    text: str
    ways: tuple[str, ...] = ()


def own_registry(arm: Arm, target: Target) -> str | None:
    """The host of the workspace's own registry; None: it has none.

    Raises:
        NotFoundError, BackendError, UnavailableError: the workspace cannot be asked.
    """
    registry = text(inner(_workspace(arm, target), "properties"), "containerRegistry")
    return _login_server(arm, registry) if registry else None


def right(arm: Arm, target: Target, host: str, compute: Compute | None = None) -> Right:
    """Whether jobs of the workspace (on that compute) may pull from `host`.

    Raises:
        NotFoundError, BackendError, UnavailableError: the workspace itself cannot be asked.
    """
    workspace = _workspace(arm, target)
    if _loopback(host):
        return Right(
            False, f"{host} is this machine, which no compute of Azure reaches", ("choose another: --registry",)
        )
    if _connected(arm, target, host):
        return Right(True, f"{host}: by a connection of the workspace")
    if not _AZURE.search(host):
        return Right(None, f"{host}: what is public can be pulled; nothing says a login", _connection(target, host))
    own = text(inner(workspace, "properties"), "containerRegistry")
    registry = _registry(arm, target, host, own)
    if registry is None and _named(own) == _named(host):
        return Right(None, f"{host}: the workspace's own registry, which this account may not look at")
    if registry is None:
        way = f"az role assignment create --assignee IDENTITY --role AcrPull --scope {_scope(host)}"
        return Right(None, f"{host} is in none of the subscription's registries that this account sees", (way,))
    return _of_azure(arm, host, registry, workspace, compute)


def _of_azure(arm: Arm, host: str, registry: Json, workspace: Json, compute: Compute | None) -> Right:
    properties, scope = inner(registry, "properties"), text(registry, "id")
    if properties.get("anonymousPullEnabled") is True:
        return Right(True, f"{host}: everybody may pull")
    own = scope.lower() == text(inner(workspace, "properties"), "containerRegistry").lower()
    if own and properties.get("adminUserEnabled") is True:
        return Right(True, f"{host}: the workspace's own registry, by its admin user")
    principals = (*(compute.principals if compute else ()), *_principals(workspace))
    if not principals:
        return Right(
            False, f"{host}: neither compute nor workspace has an identity to pull with", _identity(compute, own=own)
        )
    try:
        allowed = [principal for principal in principals if _may_pull(arm, scope, principal)]
    except BackendError as error:
        return Right(
            None, f"{host}: its role assignments cannot be seen ({error.message})", (_grant(principals[0], scope),)
        )
    except NotFoundError:
        return Right(None, f"{host}: its role assignments cannot be seen", (_grant(principals[0], scope),))
    if allowed:
        who = "the compute's" if compute and allowed[0] in compute.principals else "the workspace's"
        return Right(True, f"{host}: by {who} identity {allowed[0]}")
    return Right(
        False, f"{host}: no identity of compute or workspace has the role AcrPull", (_grant(principals[0], scope),)
    )


def _workspace(arm: Arm, target: Target) -> Json:
    return arm.one(target.path, _WORKSPACE, f"the workspace {target.workspace}")


def _principals(found: Json) -> tuple[str, ...]:
    identity = inner(found, "identity")
    assigned = inner(identity, "userAssignedIdentities").values()
    told = (text(identity, "principalId"), *(text(each, "principalId") for each in assigned if isinstance(each, dict)))
    return tuple(filter(None, told))


def _connected(arm: Arm, target: Target, host: str) -> bool:
    try:
        entries = arm.every(f"{target.path}/connections", _CONNECTIONS, "the connections of the workspace")
    except (BackendError, NotFoundError):
        return False
    kinds = {"containerregistry", "genericcontainerregistry"}
    told = [inner(each, "properties") for each in entries]
    return any(text(each, "category").lower() in kinds and _host(text(each, "target")) == host.lower() for each in told)


def _host(address: str) -> str:
    return re.sub(r"^https?://", "", address.strip().lower()).partition("/")[0]


def _registry(arm: Arm, target: Target, host: str, own: str) -> Json | None:
    """The registry of that host; None: it is not to be seen from here."""
    try:
        if _named(own) == _named(host):
            return arm.one(own, _REGISTRIES, f"the registry {host}")
        place = f"/subscriptions/{target.subscription}/providers/Microsoft.ContainerRegistry/registries"
        found = arm.every(place, _REGISTRIES, "the registries of the subscription")
    except (BackendError, NotFoundError):
        return None
    return next(
        (each for each in found if text(inner(each, "properties"), "loginServer").lower() == host.lower()), None
    )


def _named(registry: str) -> str:
    """The name of a registry, of its ARM id or host."""
    return registry.rpartition("/")[2].partition(".")[0].lower()


def _login_server(arm: Arm, registry: str) -> str:
    """The host of a registry; as it is called everywhere, where this account may not read it."""
    try:
        told = text(inner(arm.one(registry, _REGISTRIES, "the workspace's registry"), "properties"), "loginServer")
    except (BackendError, NotFoundError):
        told = ""
    return told or f"{registry.rpartition('/')[2].lower()}.azurecr.io"


def _may_pull(arm: Arm, scope: str, principal: str) -> bool:
    """By a role at the registry or above; roles through groups are not told by this."""
    query = {"$filter": f"principalId eq '{principal}'"}
    place = f"{scope}/providers/Microsoft.Authorization/roleAssignments"
    for each in arm.every(place, _ROLES, "the role assignments of the registry", query):
        properties = inner(each, "properties")
        role, held = text(properties, "roleDefinitionId").rpartition("/")[2].lower(), text(properties, "scope").lower()
        # The filter tells those below the scope too: of one repository, say.
        if role in _PULL and (scope.lower() + "/").startswith(held.rstrip("/") + "/"):
            return True
    return False


def _loopback(host: str) -> bool:
    return re.match(r"(localhost|127\.[\d.]+|\[::1\])(:\d+)?$", host) is not None


# -- what to type -----------------------------------------------------------------------------------------------------


def _grant(principal: str, scope: str) -> str:
    return (
        f"az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal "
        f"--role AcrPull --scope {scope}"
    )


def _scope(host: str) -> str:
    return f"$(az acr show --name {host.partition('.')[0]} --query id --output tsv)"


def _identity(compute: Compute | None, *, own: bool) -> tuple[str, ...]:
    name = compute.name if compute else "COMPUTE"
    first = f"az ml compute update --name {name} --identity-type system_assigned, then grant it AcrPull"
    return (first, "or: az acr update --admin-enabled true") if own else (first,)


def _connection(target: Target, host: str) -> tuple[str, ...]:
    name = re.sub("[^a-z0-9]", "-", host.lower())
    login = "credentials: {type: username_password, username: USER, password: PASSWORD}"
    place = f"--workspace-name {target.workspace} --resource-group {target.resource_group}"
    return (
        f"for a private image, a file c.yml: {{name: {name}, type: container_registry, target: https://{host}, {login}}}",
        f"and: az ml connection create --file c.yml {place}",
    )
