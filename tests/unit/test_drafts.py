"""Jobs to drafts of steps: what is bound to what, in which order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from runner.drafts import Drafts, drafts
from runner.errors import SpecError
from runner.job import (
    Command,
    Data,
    DataType,
    Distribution,
    Graph,
    Input,
    Job,
    Mode,
    Node,
    Objective,
    Output,
    Reference,
    Settings,
    Sweep,
    Value,
)
from runner.plan import Upstream

FILE, NUMBER = DataType.URI_FILE, DataType.NUMBER


def command(text: str = "true", /, **values: Any) -> Command:
    """A command with inputs and outputs given as keywords `i_NAME` and `o_NAME`."""
    inputs = {name[2:]: each for name, each in values.items() if name.startswith("i_")}
    outputs = {name[2:]: each for name, each in values.items() if name.startswith("o_")}
    rest = {name: each for name, each in values.items() if name[:2] not in {"i_", "o_"}}
    return Command(inputs=inputs, outputs=outputs, command=text, **rest)


def pipeline(
    inputs: Mapping[str, Value] | None = None, /, *, settings: Settings | None = None, **nodes: Node
) -> Drafts:
    declared = {name: Input(FILE if isinstance(each, Data) else NUMBER) for name, each in (inputs or {}).items()}
    graph = Graph(inputs=declared, nodes=nodes, settings=settings or Settings())
    return drafts(Job(graph, inputs=inputs or {}))


def names(found: Drafts) -> list[str]:
    return [step.name for step in found.steps]


def test_one_command_is_a_step_of_its_own() -> None:
    job = Job(command("x ${{inputs.lr}}", i_lr=Input(NUMBER, 0.5), o_m=Output(path="azureml://datastores/a/paths/b")))
    found = drafts(job)
    (step,) = found.steps
    assert found.single
    assert step.argv == ("bash", "-c", "x ${{inputs.lr}}")
    assert step.parameters == {"lr": "0.5"}
    assert step.publish == {"m": "azureml://datastores/a/paths/b"}


def test_a_script_keeps_its_arguments_apart() -> None:
    (step,) = drafts(Job(Command(script="train.R", args=("a b", "$HOME", "${{inputs.x}}")))).steps
    assert step.argv == ("train.R", "a b", "$HOME", "${{inputs.x}}")


def test_values_reach_steps_through_the_pipeline() -> None:
    raw = Data("/data/raw.csv", FILE)
    found = pipeline(
        {"raw": raw, "lr": 0.1},
        fit=Node(
            command(i_clean=Input(FILE), i_lr=Input(NUMBER), i_tag=Input(DataType.STRING)),
            inputs={"clean": Reference("out", "prep"), "lr": Reference("lr"), "tag": "run-${{parent.inputs.lr}}!"},
        ),
        prep=Node(command(i_raw=Input(FILE, mode=Mode.DOWNLOAD), o_out=Output(FILE)), inputs={"raw": Reference("raw")}),
    )
    assert names(found) == ["prep", "fit"], "what is needed goes first, whatever the order in the file"
    prep, fit = found.steps
    assert (prep.data["raw"].data, prep.data["raw"].mode) == (raw, Mode.DOWNLOAD)
    assert fit.upstream == {"clean": Upstream("prep", "out")}
    assert fit.parameters == {"lr": "0.1", "tag": "run-0.1!"}


def test_nested_pipelines_are_flattened() -> None:
    inner = Graph(
        inputs={"n": Input(NUMBER, 3)},
        outputs={"model": Output()},
        nodes={
            "a": Node(command(i_n=Input(NUMBER), o_x=Output()), inputs={"n": Reference("n")}),
            "b": Node(command(i_x=Input(FILE)), {"x": Reference("x", "a")}, {"m": Output(parent="model")}),
        },
    )
    outer = Graph(nodes={"sub": Node(inner), "use": Node(command(i_m=Input(FILE)), {"m": Reference("model", "sub")})})
    found = drafts(Job(Graph(nodes={"deep": Node(outer), "other": Node(inner, {"n": 5})})))
    assert names(found) == ["deep.sub.a", "deep.sub.b", "deep.use", "other.a", "other.b"]
    by_name = {step.name: step for step in found.steps}
    assert by_name["deep.use"].upstream == {"m": Upstream("deep.sub.b", "m")}
    assert by_name["deep.sub.a"].parameters == {"n": "3"}
    assert by_name["other.a"].parameters == {"n": "5"}


def test_a_pipeline_s_output_is_a_step_s() -> None:
    graph = Graph(
        outputs={"final": Output(path="azureml://datastores/${{default_datastore}}/paths/${{name}}/${{output_name}}")},
        nodes={"fit": Node(command(o_m=Output()), outputs={"m": Output(parent="final")})},
        settings=Settings(default_datastore="lake"),
    )
    found = drafts(Job(graph))
    assert found.outputs == {"final": Upstream("fit", "m")}
    assert found.steps[0].publish == {"m": "azureml://datastores/lake/paths/${{name}}/m"}


def test_optional_parts_go_when_their_input_is_absent() -> None:
    text = "x $[[--a ${{inputs.a}}]] $[[--b ${{ inputs.b }} --c ${{inputs.c}}]]"
    wanted = {f"i_{name}": Input(NUMBER, optional=True) for name in "abc"}
    (step,) = drafts(Job(command(text, **wanted), inputs={"a": 1, "b": 2})).steps
    assert step.argv[2] == "x --a ${{inputs.a}} "
    (step,) = drafts(Job(command(text, **wanted), inputs={"b": 2, "c": 3})).steps
    assert step.argv[2] == "x  --b ${{ inputs.b }} --c ${{inputs.c}}"


def test_names_with_dashes_and_dots_are_names() -> None:
    wanted = {"a-b": Input(NUMBER, optional=True), "c.d": Input(NUMBER)}
    trial = Command(inputs=wanted, command="x $[[--a ${{inputs.a-b}}]] ${{inputs.c.d}}")
    (step,) = drafts(Job(trial, inputs={"c.d": 1})).steps
    assert step.argv[2] == "x  ${{inputs.c.d}}"
    (step,) = drafts(Job(trial, inputs={"c.d": 1, "a-b": 2})).steps
    assert step.argv[2] == "x --a ${{inputs.a-b}} ${{inputs.c.d}}"


def test_an_output_s_place_is_told_by_its_names() -> None:
    place = "azureml://datastores/${{ default_datastore }}/paths/${{ name }}/${{run_id}}/${{output}}"
    (step,) = drafts(Job(command(o_m=Output(path=place)))).steps
    assert step.publish == {"m": "azureml://datastores/workspaceblobstore/paths/${{name}}/${{name}}/m"}


def test_an_optional_input_that_the_pipeline_lacks_stays_absent() -> None:
    node = Node(command("x $[[--a ${{inputs.a}}]]", i_a=Input(NUMBER, optional=True)), {"a": Reference("a")})
    (step,) = drafts(Job(Graph(inputs={"a": Input(NUMBER, optional=True)}, nodes={"s": node}))).steps
    assert step.argv[2] == "x "
    assert step.parameters == {}


@pytest.mark.parametrize(("value", "expected"), [(True, "True"), (False, "False"), (1e-05, "1e-05"), ("1.10", "1.10")])
def test_literals_are_text_as_azure_sends_it(value: Value, expected: str) -> None:
    (step,) = drafts(Job(command(i_a=Input(DataType.STRING)), inputs={"a": value})).steps
    assert step.parameters == {"a": expected}


def test_a_sweep_leaves_its_space_open() -> None:
    trial = command("x ${{search_space.lr}} $[[${{inputs.seed}}]]", i_seed=Input(NUMBER, optional=True), o_m=Output())
    sweep = Sweep(trial, {"lr": Distribution("uniform", low=0, high=1)}, Objective("minimize", "loss"))
    found = drafts(Job(sweep))
    (step,) = found.steps
    assert not found.single
    assert step.sweep is not None
    assert step.argv[2] == "x ${{search_space.lr}} "
    assert found.outputs == {"m": Upstream("sweep", "m")}


def test_the_compute_is_the_node_s_else_the_pipeline_s() -> None:
    found = pipeline(
        settings=Settings(default_compute="azureml:cpu"), a=Node(command()), b=Node(command(), compute="azureml:gpu")
    )
    assert [step.compute for step in found.steps] == ["azureml:cpu", "azureml:gpu"]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"a": Node(command(i_x=Input(FILE)), {"x": Reference("o", "b")})}, "names no step of the pipeline"),
        ({"a": Node(command(i_x=Input(FILE)), {"x": Reference("o")})}, "names no input of the pipeline"),
        ({"a": Node(command(i_x=Input(FILE)))}, "the input x has no value"),
        (
            {
                "a": Node(command(i_x=Input(FILE)), {"x": Reference("o", "b")}),
                "b": Node(command(i_x=Input(FILE)), {"x": Reference("o", "a")}),
                "c": Node(command()),
            },
            "in a circle: a, b",
        ),
    ],
)
def test_what_is_wrong_is_an_error(nodes: dict[str, Node], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        drafts(Job(Graph(nodes=nodes)))
