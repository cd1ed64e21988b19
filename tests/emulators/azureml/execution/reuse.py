"""Steps that ran before: the same deterministic component with the same inputs gives what it gave, as the service has it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from tests.emulators.azureml.execution.context import Context
from tests.emulators.azureml.execution.document import Command
from tests.emulators.azureml.execution.graph import Node
from tests.emulators.azureml.state import Doc
from tests.emulators.azureml.uris import Place


def reuse_key(node: Node, command: Command) -> str | None:
    """What two steps have in common of which the second need not run; None: it is not deterministic."""
    if (
        node.kind != "command"
        or node.spec.get("is_deterministic") is False
        or node.node.get("is_deterministic") is False
    ):
        return None
    told = asdict(command)
    told.pop("compute")
    told["outputs"] = {name: (one.type, one.mode) for name, one in command.outputs.items()}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def earlier(context: Context, key: str) -> Doc | None:
    """The newest run that did the same and completed, itself not a reuse of another."""
    done = context.state.list("run", _reuse=key, status="Completed")
    return done[-1] if done else None


def take_over(context: Context, run_id: str, source: Doc, command: Command) -> None:
    """The run completes at once with the other's outputs; those that have a place of their own are copied there."""
    runs, outputs = context.runs, {}
    for name, asset in source["outputs"].items():
        uri = str(source["_outputs"][asset["assetId"]]["uri"])
        kind = command.outputs[name].type if name in command.outputs else "uri_folder"
        outputs[name] = (_placed(context, run_id, name, uri, command), kind)
    runs.set_outputs(run_id, outputs)
    told = {"azureml.isreused": "true", "azureml.reusedrunid": source["runId"],
            "azureml.reusedpipelinerunid": source["rootRunId"]}  # fmt: skip
    if node := source["properties"].get("azureml.nodeid"):
        told["azureml.reusednodeid"] = node
    runs.add(run_id, "properties", told)
    runs.end(run_id, None)


def _placed(context: Context, run_id: str, name: str, uri: str, command: Command) -> str:
    output = command.outputs.get(name)
    if output is None or output.uri is None or "${{name}}" in output.uri:
        return uri
    target = context.blobs.resolve(output.uri)
    context.blobs.copy(context.blobs.resolve(uri), Place(target.container, target.path))
    return output.uri
