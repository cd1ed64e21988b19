"""The environment variables of a job's container, by the names that the service gives them."""

from __future__ import annotations

import json

from tests.emulators.azureml.execution.context import Context, Places
from tests.emulators.azureml.state import Doc


def service_variables(context: Context, places: Places, run: Doc, compute: str | None) -> dict[str, str]:
    """Without the job's own, and without those of its inputs and outputs."""
    workspace = context.workspace
    _, _, subscription, _, group, *_ = workspace["id"].split("/")
    name, location = workspace["name"], workspace["location"]
    service = f"https://{location}.api.azureml.ms"
    scope = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.MachineLearningServices"
    scope = f"{scope}/workspaces/{name}"
    experiment, experiment_id = run["experimentName"], run["experimentId"]
    told = {
        "subscription_id": subscription, "resource_group": group, "workspace_name": name,
        "workspace_id": workspace["properties"]["workspaceId"], "experiment_name": experiment,
        "experiment_id": experiment_id, "run_id": run["runId"], "root_run_id": run["rootRunId"],
        "run_uuid": run["runUuid"], "service_endpoint": service,
    }  # fmt: skip
    token = context.outside.token() if context.outside.token else f"emulated-{run['runUuid']}"
    return _outside(context, places) | {
        "AZUREML_RUN_ID": run["runId"],
        "AZUREML_ROOT_RUN_ID": run["rootRunId"],
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_EXPERIMENT_ID": experiment_id,
        "AZUREML_EXPERIMENT_SCOPE": f"{scope}/experiments/{experiment}",
        "AZUREML_WORKSPACE_ID": workspace["properties"]["workspaceId"],
        "AZUREML_WORKSPACE_SCOPE": scope,
        "AZUREML_ARM_SUBSCRIPTION": subscription,
        "AZUREML_ARM_RESOURCEGROUP": group,
        "AZUREML_ARM_WORKSPACE_NAME": name,
        "AZUREML_ARM_PROJECT_NAME": experiment,
        "AZUREML_SERVICE_ENDPOINT": service,
        "AZUREML_RUN_HISTORY_SERVICE_ENDPOINT": service,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{service}/discovery",
        "AZUREML_CR_AZUREML_CONTEXT": json.dumps(told),
        "AZUREML_CR_COMPUTE_CONTEXT": json.dumps({"cluster_name": compute, "node_id": "emu-node-0"}),
        "AZUREML_CR_DISTRIBUTED_CONFIG": "{}",
        "AZUREML_CR_NODE_RANK": "0",
        "AZUREML_CR_EXECUTION_WORKING_DIR_PATH": places.code_inside,
        "AZUREML_CR_DATA_CAPABILITY_PATH": places.data_inside.removesuffix("/wd"),
        "AZUREML_CR_CORRELATION_ID": run["runUuid"],
        "MLFLOW_TRACKING_URI": workspace["properties"].get("mlFlowTrackingUri") or "",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_RUN_ID": run["runId"],
        "MLFLOW_EXPERIMENT_ID": experiment_id,
        "MLFLOW_EXPERIMENT_NAME": experiment,
    }


def _outside(context: Context, places: Places) -> dict[str, str]:
    """What stands for Azure's own network: nothing of it is set there, since the service's names resolve by themselves."""
    outside = context.outside
    if not context.has_network or outside.ca is None:
        return {}
    trusted = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
    return dict(outside.variables) | dict.fromkeys(trusted, places.ca_inside)
