"""Nested pipelines written out: the same job in which every step stands in the pipeline itself. Pure.

Azure ML takes a pipeline within a pipeline only as a file or by a name of its own. A step `inner` of the step `outer`
becomes `outer_inner`; what it is given by its pipeline it is given directly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runner.job import Command, Data, Graph, Node, Output, Reference, Sweep
from runner.spec.job import expressions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.job import Value


def flattened(graph: Graph) -> Graph:
    """The pipeline without pipelines in it.

    Raises:
        SpecError: a text holds `${{parent.inputs.NAME}}` of an input that is given a file or another step's output.
    """
    found = {name: node for name, node in graph.nodes.items() if isinstance(node.component, Graph)}
    if not found:
        return graph
    nodes: dict[str, Node] = {}
    ends: dict[tuple[str, str], tuple[str, str]] = {}
    taken = set(graph.nodes) - set(found)
    for name, node in graph.nodes.items():
        if not isinstance(node.component, Graph):
            nodes[name] = node
            continue
        inner = flattened(node.component)
        names = {each: _free(f"{name}_{each}", taken) for each in inner.nodes}
        for each, one in inner.nodes.items():
            nodes[names[each]] = _moved(one, node, inner, names)
            ends |= {(name, parent): (names[each], output) for output, parent in _parents(one)}
    return replace(graph, nodes={name: _rebound(node, ends) for name, node in nodes.items()})


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


def _parents(node: Node) -> Iterator[tuple[str, str]]:
    """(output, the pipeline's output that it is)."""
    for name, output in {**node.component.outputs, **node.outputs}.items():
        if output.parent is not None:
            yield name, output.parent


def _moved(node: Node, outer: Node, inner: Graph, names: Mapping[str, str]) -> Node:
    """A step of a nested pipeline as a step of the pipeline around it."""
    given: dict[str, Value] = {name: one.default for name, one in inner.inputs.items() if one.default is not None}
    given |= outer.inputs
    inputs = {name: made for name, value in node.inputs.items() if (made := _given(value, given, names)) is not None}
    outputs = {name: _ends(output, outer) for name, output in node.outputs.items()}
    compute = node.compute or inner.settings.default_compute or outer.compute
    return replace(node, component=_filled(node, given), inputs=inputs, outputs=outputs, compute=compute)


def _given(value: Value, given: Mapping[str, Value], names: Mapping[str, str]) -> Value | None:
    """What an input is given in the end; None: it is optional, and nothing is."""
    if isinstance(value, Reference):
        if value.job is not None:
            return replace(value, job=names[value.job])
        found = given.get(value.name)
        if value.mode is not None and isinstance(found, (Data, Reference)):
            return replace(found, mode=value.mode)
        return found
    return _text(value, given) if isinstance(value, str) else value


def _text(text: str, given: Mapping[str, Value]) -> str:
    """The text with the inputs of its pipeline put in; of these only literals and other pipelines' literals can be."""

    def known(expression: str) -> str | None:
        name = expressions.parent_input(expression)
        found = given.get(name) if name is not None else None
        return None if found is None or isinstance(found, Data) else str(found)

    return expressions.replaced(text, known)


def _filled(node: Node, given: Mapping[str, Value]) -> Command | Sweep | Graph:
    """The component with its pipeline's inputs in its variables, where they may stand too."""
    component = node.component
    if isinstance(component, Command) and any("${{" in text for text in component.variables.values()):
        variables = {name: _text(text, given) for name, text in component.variables.items()}
        return replace(component, variables=variables)
    return component  # type: ignore[return-value]  # a Foreign one too, untouched


def _ends(output: Output, outer: Node) -> Output:
    """An output that was the nested pipeline's is now what that was."""
    if output.parent is None:
        return output
    setting = outer.outputs.get(output.parent)
    if setting is None:
        return replace(output, parent=None)
    return replace(output, parent=setting.parent, path=setting.path or output.path, mode=setting.mode or output.mode)


def _rebound(node: Node, ends: Mapping[tuple[str, str], tuple[str, str]]) -> Node:
    """The step with references to outputs of pipelines led to the steps that make them."""

    def led(value: Value) -> Value:
        if isinstance(value, Reference) and value.job is not None and (value.job, value.name) in ends:
            job, name = ends[value.job, value.name]
            return replace(value, job=job, name=name)
        return value

    return replace(node, inputs={name: led(value) for name, value in node.inputs.items()})
