"""Names that would clash, expressions, and that what is no expression stays as it is, byte for byte."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.backends.base import Box, Capabilities, Layout, with_files
from runner.composer import check_capabilities, check_names, compose_task, substitute, task_key, variable_name
from runner.errors import CapabilityError, SpecError
from runner.model import Limits, Step

LAYOUT = Layout("/work", "/home/runner", {"data": "/mnt/inputs/data/x.csv", "b": "/in/b"}, {"model": "/out/model"})


def step(**values: object) -> Step:
    return Step("s", **{"argv": ("a.py",), **values})  # type: ignore[arg-type]


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variable"),
    [("data", "RUNNER_INPUT_DATA"), ("my-data.csv", "RUNNER_INPUT_MY_DATA_CSV"), ("X_1", "RUNNER_INPUT_X_1")],
)
def test_variables(name: str, variable: str) -> None:
    assert variable_name("INPUT", name) == variable


def test_two_names_of_one_variable_are_refused_and_both_named() -> None:
    with pytest.raises(SpecError, match=r"--input: 'a-b' and 'a_b' would both be the variable RUNNER_INPUT_A_B"):
        check_names(step(inputs={"a-b": "/x", "a_b": "/y"}))
    with pytest.raises(SpecError, match=r"--output: 'x' and 'X'"):
        check_names(step(outputs={"x": None, "X": None}))
    check_names(step(inputs={"x": "/x"}, outputs={"x": None}))


@pytest.mark.parametrize("name", ["outputs", "logs"])
def test_names_that_are_always_collected_are_reserved(name: str) -> None:
    with pytest.raises(SpecError, match="always collected"):
        check_names(step(outputs={name: None}))


@pytest.mark.parametrize(
    "folders", [("results", "results"), ("results", "results/plots"), ("results/plots", "results"), ("a/b/c", "a")]
)
def test_folders_that_would_be_collected_twice_are_refused(folders: tuple[str, str]) -> None:
    with pytest.raises(SpecError, match=r"--output: .* two places at once"):
        check_names(step(outputs={"one": folders[0], "two": folders[1]}))


def test_folders_beside_each_other_are_fine() -> None:
    check_names(step(outputs={"one": "results/a", "two": "results/ab", "three": None, "four": None}))


# -- expressions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("${{inputs.data}}", "/mnt/inputs/data/x.csv"),
        ("--data=${{ inputs.data }}", "--data=/mnt/inputs/data/x.csv"),
        ("${{inputs.b}}:${{outputs.model}}/m.rds", "/in/b:/out/model/m.rds"),
        ("${inputs.data}", "${inputs.data}"),
        ("{{inputs.data}}", "{{inputs.data}}"),
        ("$HOME *.csv 'a b' \\n \"", "$HOME *.csv 'a b' \\n \""),
        ("", ""),
    ],
)
def test_substitution(argument: str, expected: str) -> None:
    assert list(substitute([argument], LAYOUT.inputs, LAYOUT.outputs)) == [expected]


@given(st.binary(max_size=40).filter(lambda raw: b"${{" not in raw and b"\0" not in raw))
def test_everything_else_stays_byte_for_byte(raw: bytes) -> None:
    (found,) = substitute([os.fsdecode(raw)], LAYOUT.inputs, LAYOUT.outputs)
    assert os.fsencode(found) == raw


def test_what_is_put_in_is_not_looked_at_again() -> None:
    layout = Layout("/work", "/home", {"a": "/x/${{inputs.b}}", "b": "/b"}, {})
    assert list(substitute(["${{inputs.a}}"], layout.inputs, layout.outputs)) == ["/x/${{inputs.b}}"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("${{inputs.nope}}", "names no input (there are: data)"),
        ("${{outputs.data}}", "names no output (there are: none)"),
        ("${{secrets.x}}", "is not known"),
        ("${{}}", "is not known"),
        ("a ${{ parameters.rounds }} b", "${{parameters.rounds}} is not known"),
    ],
)
def test_an_expression_that_names_nothing(argument: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_names(step(argv=("a.py", argument), inputs={"data": "/x"}))
    assert message in str(caught.value)


# -- capabilities ---------------------------------------------------------------------------------------------------

NOTHING = Capabilities(
    images=False, cpus=False, memory=False, gpus=False, shm=False, ulimits=False, secrets=False, isolates=False
)
EVERYTHING = Capabilities(
    images=True, cpus=True, memory=True, gpus=True, shm=True, ulimits=True, secrets=True, isolates=True
)
GREEDY = step(
    image="r:1", secrets=("TOKEN",), limits=Limits(cpus=2, memory_bytes=2**30, gpus=1, shm_bytes=2**20)
)  # fmt: skip


def test_every_problem_is_named_at_once_with_the_way_out() -> None:
    with pytest.raises(CapabilityError, match=r"cannot do 6 things .*nothing was started") as caught:
        check_capabilities(GREEDY, "process", NOTHING)
    for option in ("--image", "--memory 1.0 GiB", "--cpus 2", "--gpus 1", "--shm-size", "--secret"):
        assert option in str(caught.value)
    assert all("→" in hint for hint in caught.value.hints)


def test_what_can_be_done_is_no_problem() -> None:
    check_capabilities(GREEDY, "docker", EVERYTHING)
    check_capabilities(step(), "process", NOTHING)


# -- tasks ----------------------------------------------------------------------------------------------------------


def test_a_task_has_every_path_and_variable_in_place() -> None:
    wanted = step(
        argv=("a.py", "${{inputs.data}}"), env={"A": "1"}, inputs={"data": "/host/x.csv", "b": "/host/b"},
        outputs={"model": None}, secrets=("TOKEN",), image="sha256:1",
    )  # fmt: skip
    task = compose_task(
        wanted, run="otter", experiment="churn", number=2, store_id="0123", secrets={"TOKEN": "value"},
        box=Box(Path("/box")), log=Path("/log"), layout=LAYOUT,
    )  # fmt: skip
    assert task.argv == ("a.py", "/mnt/inputs/data/x.csv")
    assert task.env == {
        "A": "1", "RUNNER_RUN": "otter", "RUNNER_EXPERIMENT": "churn", "RUNNER_ATTEMPT": "2",
        "RUNNER_INPUT_DATA": "/mnt/inputs/data/x.csv", "RUNNER_INPUT_B": "/in/b", "RUNNER_OUTPUT_MODEL": "/out/model",
        "AZUREML_RUN_ID": "otter", "AZUREML_ROOT_RUN_ID": "otter", "AZUREML_EXPERIMENT_ID": "churn",
        "AZUREML_ARM_PROJECT_NAME": "churn", "AZURE_ML_INPUT_data": "/mnt/inputs/data/x.csv",
        "AZURE_ML_INPUT_b": "/in/b", "AZURE_ML_OUTPUT_model": "/out/model",
    }  # fmt: skip
    assert task.key == task_key("0123", "otter", 2) == "0123-otter-2"
    assert task.labels["runner.run"] == "otter"
    assert "value" not in str((task.argv, task.env, task.labels))


def test_literals_files_and_the_search_space_are_in_place() -> None:
    text = "fit --lr ${{search_space.lr}} --seed ${{inputs.seed}} --in ${{inputs.data}} --out ${{outputs.model}}"
    wanted = step(
        argv=("bash", "-c", text), inputs={"data": "/host/x.csv"}, outputs={"model": None}, files=("model",),
        parameters={"seed": "1", "lr": "0.1"}, writable=("data",),
    )  # fmt: skip
    task = compose_task(
        wanted, run="otter.train", experiment="churn", number=1, store_id="0", secrets={}, box=Box(Path("/box")),
        log=Path("/log"), layout=replace(LAYOUT, outputs=with_files(LAYOUT.outputs, wanted.files)),
    )  # fmt: skip
    assert task.argv[2] == "fit --lr 0.1 --seed 1 --in /mnt/inputs/data/x.csv --out /out/model/model"
    assert task.env["AZUREML_PARAMETER_seed"] == "1"
    assert task.env["RUNNER_OUTPUT_MODEL"] == task.env["AZURE_ML_OUTPUT_model"] == "/out/model/model"
    assert (task.env["AZUREML_RUN_ID"], task.env["AZUREML_ROOT_RUN_ID"]) == ("otter.train", "otter")
    assert task.writable == {"data"}


def test_a_key_is_a_file_s_name_however_deep_the_step_lies() -> None:
    deep = "otter." + ".".join("outer" * 20 for _ in range(9))
    assert len(task_key("0" * 16, deep + "a", 12)) < 200
    assert task_key("0", deep + "a", 1) != task_key("0", deep + "b", 1)


def test_secrets_that_are_not_asked_for_reach_no_task() -> None:
    def compose(wanted: Step, secrets: dict[str, str] | None) -> object:
        return compose_task(
            wanted, run="r", experiment="e", number=1, store_id="0", secrets=secrets, box=Box(Path("/box")),
            log=Path("/log"), layout=LAYOUT,
        ).secrets  # fmt: skip

    assert compose(step(), {"TOKEN": "x"}) == {}
    assert compose(step(), None) == {}
    assert compose(step(secrets=("TOKEN",)), None) is None, "lost, which is not the same as none"
