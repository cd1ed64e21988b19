"""The workspace itself, its computes and its datastores: made at the first start, read by clients."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import NAMESPACE_URL, uuid5

from tests.emulators.azureml import names
from tests.emulators.azureml.armlist import envelope, page, system_data
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import MANAGEMENT, Answer, Call, Route, ServiceError, arm

DISCOVERY = f"https://{names.API_HOST}/discovery"


class Account(Protocol):
    """What is needed of the blobs here."""

    account: str
    key: str

    def account_sas(self, minutes: float) -> str: ...


class Workspace:
    def __init__(self, state: State, blobs: Account, profile: Profile) -> None:
        self._state, self._blobs, self._profile = state, blobs, profile
        if state.get("workspace", names.WORKSPACE) is None:
            self._make()

    def routes(self) -> list[Route]:
        locations = (
            r"/subscriptions/(?P<sub>[^/]+)/providers/Microsoft\.MachineLearningServices/locations/(?P<loc>[^/]+)"
        )
        host, every = r"management\.azure\.com", r"/providers/Microsoft\.MachineLearningServices/workspaces"
        places = (r"/subscriptions/(?P<sub>[^/]+)", r"/subscriptions/(?P<sub>[^/]+)/resourceGroups/(?P<group>[^/]+)")
        return [
            *(Route("GET", host, f"{place}{every}", self._workspaces, MANAGEMENT, versioned=True) for place in places),
            arm("GET", "", lambda _: Answer(self._state.get("workspace", names.WORKSPACE))),
            arm("GET", r"/computes", lambda call: page(call, self._state.list("compute"))),
            arm("GET", r"/computes/(?P<name>[^/]+)", self._compute),
            arm("POST", r"/computes/(?P<name>[^/]+)/listNodes", self._nodes),
            Route("GET", host, f"{locations}/usages", self._usages, MANAGEMENT, versioned=True),
            Route("GET", host, f"{locations}/vmSizes", self._sizes, MANAGEMENT, versioned=True),
            arm("GET", r"/datastores", self._datastores),
            arm("GET", r"/datastores/(?P<name>[^/]+)", lambda call: Answer(self._shown(self._store(call)))),
            arm("POST", r"/datastores/(?P<name>[^/]+)/listSecrets", self._secrets),
            arm("GET", r"/connections", self._connections),
            Route("GET", r"[^.]+\.api\.azureml\.ms", r"/discovery(/workspaces/[^/]+)?", self._discovery),
        ]

    def _make(self) -> None:
        moment = names.now()
        resource = f"{names.GROUP_ID}/providers"
        properties = {
            "friendlyName": names.WORKSPACE,
            "description": "",
            "workspaceId": names.WORKSPACE_ID,
            "storageAccount": f"{resource}/Microsoft.Storage/storageAccounts/{self._blobs.account}",
            "keyVault": f"{resource}/Microsoft.KeyVault/vaults/{names.VAULT}",
            "containerRegistry": f"{resource}/Microsoft.ContainerRegistry/registries/{names.REGISTRY}",
            "applicationInsights": f"{resource}/Microsoft.insights/components/emuinsights",
            "discoveryUrl": DISCOVERY,
            "mlFlowTrackingUri": f"azureml://{names.API_HOST}/mlflow/v1.0{names.WORKSPACE_ARM}",
            "tenantId": names.TENANT,
            "provisioningState": "Succeeded",
            "publicNetworkAccess": "Enabled",
            "hbiWorkspace": False,
            "v1LegacyMode": False,
            "systemDatastoresAuthMode": "accesskey",
            "storageHnsEnabled": False,
            "imageBuildCompute": None,
        }
        identity = {"type": "SystemAssigned", "principalId": names.WORKSPACE_PRINCIPAL, "tenantId": names.TENANT}
        workspace = {
            "id": names.WORKSPACE_ARM, "name": names.WORKSPACE, "type": f"{names.PROVIDER}/workspaces",
            "location": names.LOCATION, "kind": "Default", "sku": {"name": "Basic", "tier": "Basic"}, "tags": {},
            "identity": identity, "properties": properties, "systemData": system_data(moment),
        }  # fmt: skip
        self._state.put("workspace", names.WORKSPACE, workspace)
        for name in names.COMPUTES:
            self._state.put("compute", name, _cluster(name, moment))
        for name, container in names.CONTAINERS.items():
            store = _store(name, container, self._blobs.account, default=name == names.DEFAULT_STORE)
            self._state.put("datastore", name, envelope("datastores", f"datastores/{name}", store, moment))

    def _workspaces(self, call: Call) -> Answer:
        return page(call, self._state.list("workspace"))

    def _compute(self, call: Call) -> Answer:
        return Answer(self._known_compute(call.parts["name"]))

    def _known_compute(self, name: str) -> Doc:
        for compute in self._state.list("compute"):
            if compute["name"].lower() == name.lower():
                return compute
        raise ServiceError(
            404,
            "ResourceNotFound",
            f"Compute not found. Compute with name {name} does not exist in workspace {names.WORKSPACE}.",
        )

    def _nodes(self, call: Call) -> Answer:
        """A node for every run that is under way there."""
        compute = self._known_compute(call.parts["name"])
        running = [
            run
            for run in self._state.list("run", status="Running")
            if (run.get("compute") or {}).get("target") == compute["name"]
        ]
        nodes = [
            {
                "nodeId": f"tvmps_{number}", "privateIpAddress": f"10.0.0.{number + 4}", "publicIpAddress": None,
                "port": 50000, "nodeState": "running", "runId": run["runId"],
            }
            for number, run in enumerate(running)
        ]  # fmt: skip
        return Answer({"nodes": nodes})

    def _usages(self, call: Call) -> Answer:
        base = f"/subscriptions/{names.SUBSCRIPTION}/providers/{names.PROVIDER}/locations/{names.LOCATION}/usages"
        family = {"value": "standardDSv2Family", "localizedValue": "Standard DSv2 Family vCPUs"}
        total = {"value": "cores", "localizedValue": "Total Cluster Dedicated Regional vCPUs"}
        common = {"type": f"{names.PROVIDER}/usages", "unit": "Count", "currentValue": 0, "limit": 24}
        return Answer(
            {"value": [{"id": f"{base}/{name['value']}", "name": name, **common} for name in (total, family)]}
        )

    def _sizes(self, call: Call) -> Answer:
        size = {
            "name": "Standard_DS3_v2", "family": "standardDSv2Family", "vCPUs": 4, "gpus": 0, "osVhdSizeMB": 1047552,
            "maxResourceVolumeMB": 28672, "memoryGB": 14, "lowPriorityCapable": True, "premiumIO": True,
            "estimatedVMPrices": None, "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
        }  # fmt: skip
        return Answer({"value": [size]})

    def _datastores(self, call: Call) -> Answer:
        stores = [self._shown(store) for store in self._state.list("datastore")]
        if call.query.get("isDefault", "").lower() == "true":
            stores = [store for store in stores if store["properties"]["isDefault"]]
        return page(call, stores)

    def _store(self, call: Call) -> Doc:
        name = call.parts["name"]
        store = self._state.get("datastore", name)
        if store is None:
            raise ServiceError(404, "UserError", f"Error: Could not find datastore: {name}.")
        return store

    def _shown(self, store: Doc) -> Doc:
        """With the kind of credentials that the switch says."""
        credentials = {"credentialsType": self._profile.secrets}
        return {**store, "properties": {**store["properties"], "credentials": credentials}}

    def _secrets(self, call: Call) -> Answer:
        self._store(call)
        if self._profile.secrets == "Sas":
            sas = self._blobs.account_sas(self._profile.sas_lifetime_s / 60)
            return Answer({"secretsType": "Sas", "sasToken": sas})
        if self._profile.secrets == "AccountKey":
            return Answer({"secretsType": "AccountKey", "key": self._blobs.key})
        raise ServiceError(400, "UserError", "No secrets for credentials of type None.")

    def _connections(self, call: Call) -> Answer:
        """To other services, without what they are signed in to with."""
        found = self._state.list("connection")
        return page(call, [{**one, "properties": {**one["properties"], "credentials": None}} for one in found])

    def _discovery(self, call: Call) -> Answer:
        base = f"https://{call.host}"
        parts = ("api", "catalog", "experimentation", "history", "hyperdrive", "modelmanagement", "pipelines", "studio")
        return Answer(dict.fromkeys(parts, base) | {"studio": "https://ml.azure.com"})


def _store(name: str, container: str, account: str, *, default: bool) -> Doc:
    return {
        "description": None, "tags": None, "properties": None, "isDefault": default, "datastoreType": "AzureBlob",
        "subscriptionId": names.SUBSCRIPTION, "resourceGroup": names.GROUP, "accountName": account,
        "containerName": container, "endpoint": "core.windows.net", "protocol": "https",
        "serviceDataAccessAuthIdentity": "WorkspaceSystemAssignedIdentity",
    }  # fmt: skip


def _cluster(name: str, moment: str) -> Doc:
    counts = ("idle", "leaving", "preempted", "preparing", "running", "unusable")
    cluster: dict[str, Any] = {
        "vmSize": "Standard_DS3_v2", "vmPriority": "Dedicated", "osType": "Linux", "allocationState": "Steady",
        "allocationStateTransitionTime": moment, "currentNodeCount": 0, "targetNodeCount": 0,
        "nodeStateCounts": {f"{count}NodeCount": 0 for count in counts}, "errors": None, "enableNodePublicIp": True,
        "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT120S"},
        "remoteLoginPortPublicAccess": "Enabled", "isolatedNetwork": False, "subnet": None, "virtualMachineImage": None,
        "propertyBag": {},
    }  # fmt: skip
    compute = {
        "createdOn": moment, "modifiedOn": moment, "disableLocalAuth": True, "description": None, "resourceId": None,
        "computeType": "AmlCompute", "computeLocation": names.LOCATION, "provisioningState": "Succeeded",
        "provisioningErrors": None, "isAttachedCompute": False, "properties": cluster,
    }  # fmt: skip
    doc = envelope("computes", f"computes/{name}", compute, moment)
    principal = str(uuid5(NAMESPACE_URL, doc["id"]))
    identity = {"type": "SystemAssigned", "principalId": principal, "tenantId": names.TENANT}
    return doc | {"location": names.LOCATION, "tags": {}, "identity": identity}
