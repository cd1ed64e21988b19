"""The workspace's container registry as a resource, and who has which role on it: read as at the real service.

No image is kept here; which one a job gets is the engine's business.
"""

from __future__ import annotations

from tests.emulators.azureml import names
from tests.emulators.azureml.state import Doc
from tests.emulators.azureml.wire import MANAGEMENT, Answer, Call, Route, ServiceError

_ID = f"{names.GROUP_ID}/providers/Microsoft.ContainerRegistry/registries/{names.REGISTRY}"
_ROLES = r"(?P<scope>/subscriptions/.+)/providers/Microsoft\.Authorization/roleAssignments"


class Registries:
    """One registry, one role."""

    def routes(self) -> list[Route]:
        host = r"management\.azure\.com"  # its api-versions are not Azure ML's, so they are looked at here
        one = _ID.replace(".", r"\.").replace(names.SUBSCRIPTION, r"[^/]+")
        every = r"/subscriptions/[^/]+/providers/Microsoft\.ContainerRegistry/registries"
        return [
            Route("GET", host, one, self._one, MANAGEMENT),
            Route("GET", host, every, self._every, MANAGEMENT),
            Route("GET", host, _ROLES, self._roles, MANAGEMENT),
        ]

    def _one(self, call: Call) -> Answer:
        _versioned(call, "2023-07-01")
        return Answer(_registry())

    def _every(self, call: Call) -> Answer:
        _versioned(call, "2023-07-01")
        return Answer({"value": [_registry()]})

    def _roles(self, call: Call) -> Answer:
        """At, above and below the scope, of the principal that the filter names."""
        _versioned(call, "2022-04-01")
        scope, asked = call.parts["scope"].lower(), call.query.get("$filter", "")
        told = asked in {"", f"principalId eq '{names.PRINCIPAL}'"} and scope == _ID.lower()
        return Answer({"value": [_role()] if told else []})


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


def _role() -> Doc:
    """The workspace's identity may pull, as Azure sets it up."""
    pull = "/providers/Microsoft.Authorization/roleDefinitions/7f951dda-4ed3-4680-a7ca-43fe172d538d"
    properties = {"roleDefinitionId": pull, "principalId": names.PRINCIPAL, "scope": _ID}
    return {
        "id": f"{_ID}/providers/Microsoft.Authorization/roleAssignments/one",
        "name": "one",
        "properties": properties,
    }
