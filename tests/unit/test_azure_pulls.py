"""Whether computes may pull from a registry, as far as an account may see, and the command that makes it so."""

from __future__ import annotations

from typing import Any

from runner.backends.azureml import computes
from runner.backends.azureml.arm import Arm
from runner.backends.azureml.pulls import Right, own_registry, right
from runner.errors import BackendError
from tests.unit.azure_arm import SUBSCRIPTION, TARGET, Workspace, cluster, page

OWN = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/ownreg"
OTHER = OWN.replace("ownreg", "teamreg")
LIST = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerRegistry/registries"
PULL = "/providers/Microsoft.Authorization/roleDefinitions/7f951dda-4ed3-4680-a7ca-43fe172d538d"
READER = "/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7"


def registry(path: str, **properties: Any) -> dict[str, Any]:
    host = f"{path.rpartition('/')[2]}.azurecr.io"
    return {"id": path, "properties": {"loginServer": host, "adminUserEnabled": False, **properties}}


def role(definition: str, scope: str) -> dict[str, Any]:
    return {"properties": {"roleDefinitionId": f"/subscriptions/{SUBSCRIPTION}{definition}", "scope": scope}}


def asked(host: str, documents: dict[str, Any] | None = None, *, identity: str | None = None) -> Right:
    base: dict[str, Any] = {
        "": {"identity": {"principalId": "ws-id"}, "properties": {"containerRegistry": OWN}},
        OWN: registry(OWN),
        LIST: page(registry(OWN), registry(OTHER)),
        "/connections": page(),
        "/computes/c": cluster("c", identity={"principalId": identity} if identity else None),
    }
    arm = Arm(Workspace({**base, **(documents or {})}))
    return right(arm, TARGET, host, computes.find(arm, TARGET, "c"))


def test_the_workspace_s_own_registry() -> None:
    assert own_registry(
        Arm(Workspace({"": {"properties": {"containerRegistry": OWN}}, OWN: registry(OWN)})), TARGET
    ) == ("ownreg.azurecr.io")
    hidden = Workspace({"": {"properties": {"containerRegistry": OWN}}, OWN: BackendError("no", code=403)})
    assert own_registry(Arm(hidden), TARGET) == "ownreg.azurecr.io", "its name tells its host"
    assert own_registry(Arm(Workspace({"": {"properties": {}}})), TARGET) is None
    assert asked("ownreg.azurecr.io", {OWN: registry(OWN, adminUserEnabled=True)}).ok


def test_a_role_of_the_compute_s_or_workspace_s_identity() -> None:
    roles = f"{OTHER}/providers/Microsoft.Authorization/roleAssignments"
    assert asked("teamreg.azurecr.io", {roles: page(role(PULL, OTHER))}).ok
    assert asked("teamreg.azurecr.io", {roles: page(role(PULL, f"/subscriptions/{SUBSCRIPTION}"))}).ok, "from above"
    for held in (role(READER, OTHER), role(PULL, f"{OTHER}/repositories/one"), role(PULL, OTHER[:-1])):
        found = asked("teamreg.azurecr.io", {roles: page(held)}, identity="compute-id")
        assert found.ok is False
        who = "--assignee-object-id compute-id --assignee-principal-type ServicePrincipal"
        assert found.ways == (f"az role assignment create {who} --role AcrPull --scope {OTHER}",)


def test_nobody_has_an_identity() -> None:
    nobody = {"": {"properties": {"containerRegistry": OWN}}}
    found = asked("teamreg.azurecr.io", nobody)
    assert found.ok is False
    assert "az ml compute update --name c --identity-type system_assigned" in found.ways[0]
    assert "or: az acr update --admin-enabled true" not in " ".join(found.ways)
    assert "admin-enabled" in " ".join(asked("ownreg.azurecr.io", nobody).ways)


def test_what_cannot_be_seen_is_said_with_the_command_all_the_same() -> None:
    roles = f"{OTHER}/providers/Microsoft.Authorization/roleAssignments"
    found = asked("teamreg.azurecr.io", {roles: BackendError("this account may not", code=403)})
    assert found.ok is None
    assert "--role AcrPull" in found.ways[0]
    found = asked("elsewhere.azurecr.io")
    assert found.ok is None
    assert "az acr show --name elsewhere" in found.ways[0]


def test_everybody_may_pull() -> None:
    open_ = registry(OTHER, anonymousPullEnabled=True)
    assert asked("teamreg.azurecr.io", {LIST: page(open_)}).ok


def test_a_connection_of_the_workspace() -> None:
    made = {"name": "r", "properties": {"category": "ContainerRegistry", "target": "https://Registry.example.com/"}}
    assert asked("registry.example.com", {"/connections": page(made)}).ok
    feed = {"name": "r", "properties": {"category": "PythonFeed", "target": "https://registry.example.com"}}
    found = asked("registry.example.com", {"/connections": page(feed)})
    assert found.ok is None
    assert "type: container_registry, target: https://registry.example.com" in found.ways[0]
    assert found.ways[1].endswith("az ml connection create --file c.yml --workspace-name ws --resource-group rg")


def test_this_machine_is_out_of_reach() -> None:
    found = asked("127.0.0.1:5000")
    assert found.ok is False
    assert "which no compute of Azure reaches" in found.text
