"""The nodes of a pipeline and what they need, read from the body of a PUT or from a pipeline component."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.emulators.azureml import names
from tests.emulators.azureml.execution.document import last_name
from tests.emulators.azureml.execution.expressions import expressions
from tests.emulators.azureml.state import Doc, State

KINDS = ("command", "pipeline", "sweep")


@dataclass(frozen=True, slots=True)
class Node:
    """node: as sent. spec: of its component, or for a sweep that of its trial. component: the reference, as sent.
    needs: names of the nodes whose outputs it takes."""

    name: str
    kind: str
    node: Mapping[str, Any]
    spec: Mapping[str, Any]
    component: str
    needs: frozenset[str]

    @property
    def display_name(self) -> str:
        return str(self.node.get("display_name") or self.name)

    @property
    def inputs(self) -> Mapping[str, Any]:
        return self.node.get("inputs") or {}

    @property
    def outputs(self) -> Mapping[str, Any]:
        return self.node.get("outputs") or {}

    @property
    def compute(self) -> str | None:
        return last_name(self.node.get("computeId") or self.node.get("compute"))

    @property
    def searched(self) -> Mapping[str, Any]:
        """The search space of a sweep; its trials have the names as inputs."""
        return (self.node.get("search_space") or {}) if self.kind == "sweep" else {}


@dataclass(frozen=True, slots=True)
class Graph:
    """inputs, outputs: as declared by the component or given with the job, by name."""

    nodes: Mapping[str, Node]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]

    def settled(self, ended: Mapping[str, bool]) -> Iterator[Node]:
        """Nodes that have not begun and need only what completed. ended: name → whether it completed."""
        for node in self.nodes.values():
            if node.name not in ended and all(ended.get(step) for step in node.needs):
                yield node


def graph_of_job(properties: Doc, state: State) -> Graph:
    """ValueError: what is wrong with it."""
    if reference := properties.get("componentId"):
        spec = component_spec(reference, state)
        return _graph(spec.get("jobs") or {}, spec, state)
    given = {"inputs": properties.get("inputs") or {}, "outputs": properties.get("outputs") or {}}
    return _graph(properties.get("jobs") or {}, given, state)


def graph_of_component(spec: Mapping[str, Any], state: State) -> Graph:
    return _graph(spec.get("jobs") or {}, spec, state)


def component_spec(reference: str, state: State) -> Mapping[str, Any]:
    """ValueError: there is no such component."""
    found = names.versioned("components", reference)
    doc = state.get("component", "/".join(found)) if found else None
    if doc is None:
        raise ValueError(f"There is no component {reference}.")
    spec: Mapping[str, Any] = doc["properties"]["componentSpec"]
    return spec


def _graph(jobs: Mapping[str, Any], declared: Mapping[str, Any], state: State) -> Graph:
    if not jobs:
        raise ValueError("The pipeline has no jobs.")
    nodes = {name: _node(name, node, state) for name, node in jobs.items()}
    graph = Graph(nodes, declared.get("inputs") or {}, declared.get("outputs") or {})
    _check(graph)
    return graph


def _node(name: str, node: Mapping[str, Any], state: State) -> Node:
    kind = node.get("type") or "command"
    if kind not in KINDS:
        raise ValueError(f"Node {name}: nodes of type {kind} are not emulated.")
    trial = node.get("trial")  # `{componentId}`, as the SDK sends it
    reference = (
        (trial.get("componentId") if isinstance(trial, Mapping) else trial)
        if kind == "sweep"
        else node.get("componentId")
    )
    inline = node.get("component")
    needs = frozenset(step for text in _texts(node.get("inputs") or {}) if (step := _step(text)) is not None)
    if isinstance(inline, Mapping):
        return Node(name, kind, node, inline, "inline", needs)
    if not reference:
        raise ValueError(f"Node {name} has no component.")
    return Node(name, kind, node, component_spec(str(reference), state), str(reference), needs)


def _check(graph: Graph) -> None:
    for node in graph.nodes.values():
        for text in [*_texts(node.inputs), *_texts(node.outputs)]:
            _check_binding(graph, node, text)
        declared = node.spec.get("inputs") or {}
        missing = sorted(
            name for name, one in declared.items() if _required(one) and name not in {**node.inputs, **node.searched}
        )
        if missing:
            raise ValueError(f"Node {node.name}: the required inputs {', '.join(missing)} have no value.")
        _check_command(node)
        if node.kind == "pipeline" and not node.spec.get("jobs"):
            raise ValueError(f"Node {node.name}: its component is no pipeline.")
    ended: dict[str, bool] = {}
    while ready := list(graph.settled(ended)):
        ended |= {node.name: True for node in ready}
    if left := sorted(set(graph.nodes) - set(ended)):
        raise ValueError(f"The nodes {', '.join(left)} need each other's outputs.")


def _check_command(node: Node) -> None:
    known = [f"{side}.{name}" for side in ("inputs", "outputs") for name in node.spec.get(side) or {}]
    unknown = sorted(set(expressions(str(node.spec.get("command") or ""))) - {*known})
    if unknown:
        raise ValueError(
            f"Node {node.name}: its command refers to {', '.join(unknown)}, which its component does not have."
        )
    if node.kind == "command" and int((node.node.get("resources") or {}).get("instance_count") or 1) > 1:
        raise ValueError(f"Node {node.name}: several nodes (instance_count) are not emulated.")


def _required(declared: object) -> bool:
    return isinstance(declared, Mapping) and not declared.get("optional") and declared.get("default") is None


def _check_binding(graph: Graph, node: Node, text: str) -> None:
    if (step := _step(text)) is not None:
        output = text.rsplit(".", 1)[-1]
        if step not in graph.nodes:
            raise ValueError(f"Node {node.name} refers to {text}, but there is no node {step}.")
        if output not in (graph.nodes[step].spec.get("outputs") or {}):
            raise ValueError(f"Node {node.name} refers to {text}, but {step} has no output {output}.")
        return
    found = re.fullmatch(r"parent\.(inputs|outputs)\.([^.]+)", text)
    there = {"inputs": graph.inputs, "outputs": graph.outputs}[found[1]] if found else {}
    if found is None or found[2] not in there:
        raise ValueError(f"Node {node.name} refers to {text}, which the pipeline does not have.")


def _step(expression: str) -> str | None:
    found = re.fullmatch(r"parent\.jobs\.([^.]+)\.outputs\.[^.]+", expression)
    return found[1] if found else None


def _texts(values: Mapping[str, Any]) -> list[str]:
    """Every expression in the values of inputs or outputs."""
    found = []
    for value in values.values():
        for member in ("value", "uri"):
            text = value.get(member) if isinstance(value, Mapping) else None
            found += expressions(text) if isinstance(text, str) and "${{parent." in text.replace("{{ ", "{{") else []
    return found
