"""From a node of a pipeline to what is executed: inputs bound, outputs placed, defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.emulators.azureml.execution.clock import duration_s
from tests.emulators.azureml.execution.document import Command, Input, Output, input_of, last_name, literal, mode_of
from tests.emulators.azureml.execution.expressions import replace_known, whole
from tests.emulators.azureml.execution.graph import Node

_LITERALS = ("string", "integer", "number", "boolean", "literal")


@dataclass(slots=True)
class Scope:
    """What nodes of one pipeline can refer to. inputs: its own. placed: its outputs that have a place of their own.
    made: (node, output) → an Input that reads it. compute, datastore: what nodes without one take."""

    inputs: Mapping[str, Input]
    placed: Mapping[str, Output]
    compute: str | None
    datastore: str
    made: dict[tuple[str, str], Input] = field(default_factory=dict)

    def node_inputs(self, node: Node) -> dict[str, Input]:
        """As the node's component declares them. ValueError: a value that is required is absent."""
        declared = node.spec.get("inputs") or {}
        found = {}
        for name in {**declared, **node.inputs}:
            one = declared.get(name) or {}
            given = self._input(node.inputs.get(name), str(one.get("type") or "string"))
            if given.absent and one.get("default") is not None:
                given = Input(literal=literal(one["default"]))
            if given.absent and not one.get("optional") and name not in node.searched:
                raise ValueError(f"Node {node.name}: the input {name} has no value.")
            found[name] = given
        return found

    def _input(self, given: Mapping[str, Any] | None, kind: str) -> Input:
        if given is None:
            return Input()
        text = given.get("uri") or given.get("value")
        bound = whole(text)
        if bound is not None and bound.startswith("parent."):
            value = self._bound(bound)
        elif isinstance(text, str) and given.get("job_input_type", "literal") == "literal":
            value = Input(literal=replace_known(text, lambda name: self._bound(name).literal))
        else:
            value = input_of(given)
        if value.literal is not None and kind not in _LITERALS:
            value = Input(uri=value.literal, type=kind)  # a path that came as a text
        if value.uri is None:
            return value
        kind = value.type if kind in _LITERALS else kind
        return replace(value, type=kind, mode=mode_of(given.get("mode"), value.mode))

    def _bound(self, expression: str) -> Input:
        match expression.split("."):
            case ["parent", "inputs", name]:
                return self.inputs.get(name) or Input()
            case ["parent", "jobs", step, "outputs", name]:
                return self.made[(step, name)]
            case _:
                return Input()

    def node_outputs(self, node: Node) -> dict[str, Output]:
        """As declared; bound to an output of the pipeline, with a place of its own, or in the default datastore."""
        found = {}
        for name, one in (node.spec.get("outputs") or {}).items():
            kind = str((one or {}).get("type") or "uri_folder")
            given = node.outputs.get(name) or {}
            placed = self.placed.get(bound_output(given) or "", Output())
            end = "" if kind == "uri_file" else "/"
            default = f"azureml://datastores/{self.datastore}/paths/azureml/${{{{name}}}}/{name}{end}"
            uri = given.get("uri") or placed.uri or default
            found[name] = Output(kind, uri, mode_of(given.get("mode"), placed.mode))
        return found


def bound_output(given: Mapping[str, Any]) -> str | None:
    """The name of the pipeline's output that a node's output is."""
    expression = whole(given.get("value") or given.get("uri"))
    return (
        expression.removeprefix("parent.outputs.") if expression and expression.startswith("parent.outputs.") else None
    )


def command_of_node(node: Node, scope: Scope) -> Command:
    """Of a command node, or of the trial of a sweep node."""
    spec, own = node.spec, node.node
    resources = {**(spec.get("resources") or {}), **(own.get("resources") or {})}
    limits = own.get("limits") or spec.get("limits") or {}
    return Command(
        command=str(spec["command"]),
        environment=str(own.get("environment") or spec["environment"]),
        code=spec.get("code"),
        compute=node.compute or scope.compute,
        variables={**(spec.get("environment_variables") or {}), **(own.get("environment_variables") or {})},
        inputs=scope.node_inputs(node),
        outputs=scope.node_outputs(node),
        shm_size=resources.get("shm_size") or "2g",
        docker_args=resources.get("docker_args") or "",
        limit_s=duration_s(limits.get("timeout")),
        nodes=int(resources.get("instance_count") or 1),
    )


def scope_of_job(properties: Mapping[str, Any], run_id: str) -> Scope:
    """Of a pipeline job. Templates in its outputs' places mean the job's name."""
    settings = properties.get("settings") or {}
    placed = {}
    for name, given in (properties.get("outputs") or {}).items():
        value = given or {}
        kind = value.get("jobOutputType") or "uri_folder"
        uri = replace_known(value["uri"], {"name": run_id, "output_name": name}.get) if value.get("uri") else None
        placed[name] = Output(kind, uri, mode_of(value.get("mode"), "rw_mount"))
    return Scope(
        inputs={name: input_of(value) for name, value in (properties.get("inputs") or {}).items()},
        placed=placed,
        compute=last_name(settings.get("default_compute") or properties.get("computeId")),
        datastore=last_name(settings.get("default_datastore")) or "workspaceblobstore",
    )
