"""What stands beside the workspace in the subscription: its container registry, who may pull from it, connections."""

from __future__ import annotations

import re
from uuid import NAMESPACE_URL, uuid5

from tests.emulators.azureml import names
from tests.emulators.azureml.armlist import page, system_data
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import MANAGEMENT, Answer, Call, Handler, Route, ServiceError, arm

ACR_PULL = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
"""Azure's own id of the role."""
_SUBSCRIPTION = r"/subscriptions/(?P<sub>[^/]+)"
_GROUP = rf"{_SUBSCRIPTION}/resourceGroups/(?P<group>[^/]+)"
_REGISTRIES = r"/providers/Microsoft\.ContainerRegistry/registries"


class Neighbours:
    """Documents: "registry" (key: name), "role" (key: its guid), "connection" (key: name); all as answered."""

    def __init__(self, state: State) -> None:
        self._state = state
        if state.get("registry", names.REGISTRY) is None:
            self._make()

    def routes(self) -> list[Route]:
        return [
            *(_get(f"{scope}{_REGISTRIES}", self._registries) for scope in (_GROUP, _SUBSCRIPTION)),
            _get(rf"{_GROUP}{_REGISTRIES}/(?P<name>[^/]+)", self._registry),
            _get(r"(?P<scope>/.+)/providers/Microsoft\.Authorization/roleAssignments", self._roles),
            arm("GET", r"/connections", lambda call: page(call, self._state.list("connection"))),
        ]

    def _make(self) -> None:
        """A registry from which the workspace's identity may pull, as Azure sets it up."""
        place = f"{names.GROUP_ID}/providers/Microsoft.ContainerRegistry/registries/{names.REGISTRY}"
        moment = names.now()
        properties = {
            "loginServer": f"{names.REGISTRY}.azurecr.io", "creationDate": moment, "provisioningState": "Succeeded",
            "adminUserEnabled": False, "publicNetworkAccess": "Enabled", "anonymousPullEnabled": False,
        }  # fmt: skip
        registry = {
            "id": place, "name": names.REGISTRY, "type": "Microsoft.ContainerRegistry/registries",
            "location": names.LOCATION, "tags": {}, "sku": {"name": "Standard", "tier": "Standard"},
            "properties": properties, "systemData": system_data(moment),
        }  # fmt: skip
        self._state.put("registry", names.REGISTRY, registry)
        role = role_assignment(names.WORKSPACE_PRINCIPAL, ACR_PULL, place)
        self._state.put("role", role["name"], role)

    def _registries(self, call: Call) -> Answer:
        return page(call, self._state.list("registry"))

    def _registry(self, call: Call) -> Answer:
        for registry in self._state.list("registry"):
            if registry["name"].lower() == call.parts["name"].lower():
                return Answer(registry)
        raise ServiceError(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.ContainerRegistry/registries/{call.parts['name']}' under resource group "
            f"'{names.GROUP}' was not found.",
        )

    def _roles(self, call: Call) -> Answer:
        """Those at the scope, above it and below it, of one principal if the filter says so."""
        scope = call.parts["scope"].lower()
        found = re.search(r"principalId eq '([^']+)'|assignedTo\('([^']+)'\)", call.query.get("$filter", ""))
        principal = (found[1] or found[2]) if found else None
        return page(call, [role for role in self._state.list("role") if _told(role["properties"], scope, principal)])


def role_assignment(principal: str, role: str, scope: str) -> Doc:
    """As the resource manager answers it."""
    name = str(uuid5(NAMESPACE_URL, f"{principal} {role} {scope}"))
    provider = "providers/Microsoft.Authorization"
    definition = f"/subscriptions/{names.SUBSCRIPTION}/{provider}/roleDefinitions/{role}"
    return {
        "id": f"{scope}/{provider}/roleAssignments/{name}", "name": name,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "roleDefinitionId": definition, "principalId": principal, "principalType": "ServicePrincipal",
            "scope": scope, "condition": None, "conditionVersion": None, "description": None,
        },
    }  # fmt: skip


def _told(properties: Doc, scope: str, principal: str | None) -> bool:
    held = str(properties["scope"]).lower()
    related = f"{scope}/".startswith(f"{held}/") or f"{held}/".startswith(f"{scope}/")
    return related and principal in {None, properties["principalId"]}


def _get(pattern: str, handler: Handler) -> Route:
    return Route("GET", r"management\.azure\.com", pattern, handler, MANAGEMENT, versioned=True)
