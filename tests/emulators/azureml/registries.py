"""The workspace's container registry as a resource, and who has which role on it: made and read as at the real service.

No image is kept here; which one a job gets is the engine's business.
"""

from __future__ import annotations

from tests.emulators.azureml import names
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import MANAGEMENT, Answer, Call, Route, ServiceError

_ID = f"{names.GROUP_ID}/providers/Microsoft.ContainerRegistry/registries/{names.REGISTRY}"
_FIRST = "5b1c0a52-7f0e-4b6a-9d53-0e1f000000aa"
_ROLES = r"(?P<scope>/subscriptions/.+)/providers/Microsoft\.Authorization/roleAssignments"


class Registries:
    """Role assignments in the state, kind "role": their properties. At first the workspace's identity may pull."""

    def __init__(self, state: State) -> None:
        self._state = state
        if state.get("role", _FIRST) is None:
            pull = "/providers/Microsoft.Authorization/roleDefinitions/7f951dda-4ed3-4680-a7ca-43fe172d538d"
            role = {"roleDefinitionId": pull, "principalId": names.WORKSPACE_PRINCIPAL, "scope": _ID}
            state.put("role", _FIRST, role)

    def routes(self) -> list[Route]:
        host = r"management\.azure\.com"  # its api-versions are not Azure ML's, so they are looked at here
        one = _ID.replace(".", r"\.").replace(names.SUBSCRIPTION, r"[^/]+")
        every = r"/subscriptions/[^/]+/providers/Microsoft\.ContainerRegistry/registries"
        return [
            Route("GET", host, one, self._one, MANAGEMENT),
            Route("GET", host, every, self._every, MANAGEMENT),
            Route("GET", host, _ROLES, self._roles, MANAGEMENT),
            Route("PUT", host, rf"{_ROLES}/(?P<name>[0-9a-f-]{{36}})", self._assign, MANAGEMENT),
        ]

    def _one(self, call: Call) -> Answer:
        _versioned(call, "2023-07-01")
        return Answer(_registry())

    def _every(self, call: Call) -> Answer:
        _versioned(call, "2023-07-01")
        return Answer({"value": [_registry()]})

    def _assign(self, call: Call) -> Answer:
        _versioned(call, "2022-04-01")
        given = call.whole().get("properties") or {}
        if not given.get("principalId") or not given.get("roleDefinitionId"):
            raise ServiceError(400, "InvalidCreateRoleAssignmentRequest", "The request to create a role is not valid.")
        made = {**given, "scope": call.parts["scope"], "principalType": "ServicePrincipal"}
        self._state.put("role", call.parts["name"], made)
        return Answer(_role(call.parts["name"], made), 201)

    def _roles(self, call: Call) -> Answer:
        """At, above and below the scope, of the principal that the filter names."""
        _versioned(call, "2022-04-01")
        scope, asked = call.parts["scope"].lower(), call.query.get("$filter", "")
        found = [
            _role(str(number), role)
            for number, role in enumerate(self._state.list("role"))
            if asked in {"", f"principalId eq '{role['principalId']}'"}
            and (scope.startswith(role["scope"].lower()) or role["scope"].lower().startswith(scope))
        ]
        return Answer({"value": found})


def _versioned(call: Call, version: str) -> None:
    if call.version != version:
        raise ServiceError(400, "InvalidApiVersionParameter", f"The api-version '{call.version}' is invalid.")


def _registry() -> Doc:
    return {
        "id": _ID, "name": names.REGISTRY, "type": "Microsoft.ContainerRegistry/registries", "location": names.LOCATION,
        "sku": {"name": "Basic", "tier": "Basic"}, "tags": {},
        "properties": {
            "loginServer": f"{names.REGISTRY}.azurecr.io", "provisioningState": "Succeeded", "adminUserEnabled": False,
            "anonymousPullEnabled": False,
        },
    }  # fmt: skip


def _role(name: str, properties: Doc) -> Doc:
    kind = "Microsoft.Authorization/roleAssignments"
    return {
        "id": f"{properties['scope']}/providers/{kind}/{name}",
        "name": name,
        "type": kind,
        "properties": properties,
    }
