"""Pipelines in Python: what is written becomes the job of a YAML file, and mistakes name the step."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import runner
from runner import Data, Pipeline, step
from runner.errors import UsageError
from runner.job import Command, DataType, Environment, Graph, Job, Mode, Reference
from runner.model import Reason
from runner.spec.yamldoc import parse

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    (work / "r").mkdir(parents=True)
    for name in ("prep.py", "raw.csv", "libs.yaml", "r/train.R", "r/2 Draw!.R"):
        (work / name).write_text("")
    monkeypatch.chdir(work)
    return work


def graph(job: Job) -> Graph:
    assert isinstance(job.component, Graph)
    return job.component


def command(job: Job, name: str) -> Command:
    found = graph(job).nodes[name].component
    assert isinstance(found, Command)
    return found


def churn() -> Pipeline:
    """The pipeline of the docs."""
    with Pipeline("churn", tags={"team": "a"}, compute="cluster", continue_on_step_failure=False) as p:
        prep = step("prep.py", inputs={"raw": Data("raw.csv")}, outputs=["clean"], libs="libs.yaml")
        fits = [
            step(
                "r/train.R", name=f"train_{lr}", args=["--lr", lr, "--data", "${{inputs.clean}}"],
                outputs={"model": "uri_file"}, inputs={"clean": prep.outputs["clean"], "lr": lr},
                image="r:1", cpus=0.5, memory="1.5g", timeout="90.5", retries=2,
                retry_on=["OutOfMemory"], deterministic=False,
            )
            for lr in (0.1, 0.00001)
        ]  # fmt: skip
        best = step(
            command="cat ${{inputs.a}} ${{inputs.b}} > ${{outputs.best}}/x", name="compare", compute="other",
            inputs={"a": fits[0].outputs["model"], "b": fits[1].outputs["model"], "n": 3, "deep": True, "text": "0.1"},
            outputs=["best"], environment="azureml:sklearn@latest", env={"N": 1, "FLAG": "yes"},
        )  # fmt: skip
        p.outputs["final"] = best.outputs["best"]
    return p


# -- the job --------------------------------------------------------------------------------------------------------


def test_the_job(folder: Path) -> None:
    job = churn().to_job()
    assert list(graph(job).nodes) == ["prep", "train_0_1", "train_1e_05", "compare"]
    prep, train, compare = command(job, "prep"), command(job, "train_0_1"), command(job, "compare")
    assert (prep.script, prep.code and prep.code.path, prep.environment) == (
        "prep.py",
        folder,
        Environment(libs=folder / "libs.yaml"),
    )
    assert graph(job).nodes["prep"].inputs["raw"] == Data(str(folder / "raw.csv"), DataType.URI_FILE)
    assert (train.script, train.code and train.code.path) == ("train.R", folder / "r")
    assert train.args == ("--lr", "0.1", "--data", "${{inputs.clean}}")
    assert graph(job).nodes["train_0_1"].inputs == {"clean": Reference("clean", "prep"), "lr": "0.1"}
    assert {name: each.type for name, each in train.inputs.items()} == {
        "clean": DataType.URI_FOLDER,
        "lr": DataType.NUMBER,
    }
    assert train.outputs["model"].type is DataType.URI_FILE
    limits = train.limits
    assert (limits.cpus, limits.memory_bytes, limits.timeout_s) == (0.5, 1536 << 20, 91)
    assert (train.retry.count, train.retry.on, train.deterministic) == (2, (Reason.OUT_OF_MEMORY,), False)
    assert compare.environment == Environment(reference="azureml:sklearn@latest")
    assert compare.inputs["a"].type is DataType.URI_FILE
    assert graph(job).nodes["compare"].outputs["best"].parent == "final"
    assert graph(job).outputs["final"].type is DataType.URI_FOLDER
    assert compare.variables == {"N": "1", "FLAG": "yes"}


def test_names_are_made_fit_and_unique() -> None:
    with Pipeline("p") as p:
        names = [step(script).name for script in ("prep.py", "prep.py", "r/2 Draw!.R", "prep.py")]
        names += [step(command="true").name, step(command="true", name="Größe 1.5").name]
    assert names == ["prep", "prep_2", "step_2_draw", "prep_3", "step", "gr_e_1_5"]
    assert list(graph(p.to_job()).nodes) == names


def test_code_is_a_folder_or_in_git(folder: Path) -> None:
    with Pipeline("p") as p:
        step("r/train.R", code=".")
        step("a/b.py", code="git+https://h.example/x@v1", name="far")
    job = p.to_job()
    near, far = command(job, "train"), command(job, "far")
    assert (near.script, near.code and near.code.path) == ("r/train.R", folder)
    assert (far.script, far.code and far.code.git) == ("a/b.py", "git+https://h.example/x@v1")


# -- YAML -----------------------------------------------------------------------------------------------------------


def test_the_yaml() -> None:
    data = yaml.safe_load(text := churn().to_yaml())
    assert {key: data[key] for key in data if key != "jobs"} == {
        "type": "pipeline", "display_name": "churn", "tags": {"team": "a"}, "outputs": {"final": {"type": "uri_folder"}},
        "settings": {"default_compute": "cluster", "continue_on_step_failure": False},
    }  # fmt: skip
    assert data["jobs"]["prep"] == {
        "type": "command", "script": "prep.py", "code": ".", "environment": {"libs": "./libs.yaml"},
        "inputs": {"raw": {"type": "uri_file", "path": "./raw.csv"}}, "outputs": {"clean": {"type": "uri_folder"}},
    }  # fmt: skip
    assert data["jobs"]["train_1e_05"] == {
        "type": "command", "script": "train.R", "args": ["--lr", "1e-05", "--data", "${{inputs.clean}}"], "code": "./r",
        "environment": {"image": "r:1"}, "inputs": {"clean": "${{parent.jobs.prep.outputs.clean}}", "lr": 1e-05},
        "outputs": {"model": {"type": "uri_file"}}, "resources": {"docker_args": "--cpus=0.5 --memory=1536m"},
        "limits": {"timeout": 91}, "retry": {"count": 2, "on": ["OutOfMemory"]}, "is_deterministic": False,
    }  # fmt: skip
    compare = data["jobs"]["compare"]
    assert (compare["inputs"]["n"], compare["inputs"]["deep"], compare["inputs"]["text"]) == (3, True, "0.1")
    assert compare["outputs"] == {"best": {"type": "uri_folder", "path": "${{parent.outputs.final}}"}}
    assert compare["environment_variables"] == {"N": "1", "FLAG": "yes"}
    assert "&" not in text.replace("&&", ""), "no anchors"


@given(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
            lambda text: "${{" not in text
        ),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.sampled_from(
            [
                "0.1",
                "1e5",
                "yes",
                "no",
                "null",
                "~",
                "0o7",
                "1_000",
                "2026-01-01",
                "12:30:45",
                "- a",
                "# a",
                "a: b",
                " a ",
                "",
            ]
        ),
    )
)
@settings(max_examples=300, deadline=None)
def test_a_value_means_the_same_in_the_file(value: str | float) -> None:
    with Pipeline("p") as p:
        step(command="true", inputs={"x": value})
    node = graph(p.to_job()).nodes["step"]
    document = parse(p.to_yaml(), "job.yml")
    again = document.data["jobs"]["step"]["inputs"]["x"]
    assert type(again) is type(value)
    assert again == value
    text = document.text(("jobs", "step", "inputs", "x"))
    assert (str(again) if isinstance(value, bool) else text) == node.inputs["x"]


def test_paths_outside_the_files_folder_stay_whole(tmp_path: Path) -> None:
    data = yaml.safe_load(churn().to_yaml(tmp_path / "elsewhere"))
    assert data["jobs"]["prep"]["code"] == str(tmp_path / "work")
    assert yaml.safe_load(churn().to_yaml(tmp_path))["jobs"]["prep"]["environment"] == {"libs": "./work/libs.yaml"}


def test_environments_of_every_kind(tmp_path: Path) -> None:
    kinds = {
        "built": Environment(context=tmp_path / "ctx", dockerfile="d/Dockerfile"),
        "conda": Environment(image="a", conda=tmp_path / "conda.yml"),
        "inline": Environment(image="a", conda={"dependencies": ["x"]}),
    }
    with Pipeline("p") as p:
        for name, environment in kinds.items():
            step(command="true", name=name, environment=environment)
    jobs = yaml.safe_load(p.to_yaml(tmp_path))["jobs"]
    assert jobs["built"]["environment"] == {"build": {"path": "./ctx", "dockerfile_path": "d/Dockerfile"}}
    assert jobs["conda"]["environment"] == {"image": "a", "conda_file": "./conda.yml"}
    assert jobs["inline"]["environment"] == {"image": "a", "conda_file": {"dependencies": ["x"]}}


def test_the_yaml_is_the_same_job_again(folder: Path) -> None:
    """What runner.spec.job makes of the file equals what it was written from."""
    load = pytest.importorskip("runner.spec.job").load
    job = churn().to_job()
    (folder / "job.yml").write_text(churn().to_yaml(folder))
    assert load(folder / "job.yml") == job


def test_the_example_of_the_docs(folder: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
    block = text[text.index("    from runner import Data") : text.index("    run = p.submit")]
    for name in ("train.R", "compare.py"):
        (folder / name).write_text("")
    names: dict[str, Any] = {}
    exec(textwrap.dedent(block), names)
    nodes = graph(names["p"].to_job()).nodes
    assert list(nodes) == ["prep", "train_0_1", "train_0_01", "compare"]
    assert nodes["compare"].inputs["m1"] == Reference("model", "train_0_01")
    assert nodes["compare"].outputs["best"].parent == "final"


# -- submit ---------------------------------------------------------------------------------------------------------


def test_submit_hands_the_job_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    got: dict[str, Any] = {}

    def submit_job(job: Job, **options: Any) -> str:
        got.update(options, job=job)
        return "run"

    monkeypatch.setattr("runner.api.submit_job", submit_job, raising=False)
    p = churn()
    assert p.submit(backend="docker", name="n", home=tmp_path) == "run"  # type: ignore[comparison-overlap]
    assert got == {"job": p.to_job(), "backend": "docker", "name": "n", "home": tmp_path, "compute": None, "say": None}


# -- mistakes -------------------------------------------------------------------------------------------------------


untyped: Any = step
data: Any = Data
"""What people write without a type checker."""


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (untyped, "step step: expected a script, or command="),
        (lambda: untyped("prep.py", command="true"), "step prep: a script and a command are both given"),
        (lambda: untyped("perp.py"), "step perp: no such script: perp.py\n  did you mean .*prep.py"),
        (lambda: untyped("r"), "step r: r is a folder"),
        (lambda: untyped("../x.py", code="r"), "is not a path in the code folder"),
        (lambda: untyped("prep.py", code="nothere"), "step prep: no such code folder: nothere"),
        (lambda: untyped("prep.py", code="r"), "no such script: prep.py"),
        (lambda: untyped(command=" "), "the command is empty"),
        (lambda: untyped(command="true", args=["a"]), "args go with a script"),
        (lambda: untyped("prep.py", args=[data("raw.csv")]), "an argument is a Data\n  give it as an input"),
        (lambda: untyped("prep.py", args=["a\0"]), "NUL byte"),
        (lambda: untyped("prep.py", inputs={"a b": 1}), "step prep: input 'a b': not a name"),
        (lambda: untyped("prep.py", inputs={"a": None}), "step prep: input a: NoneType is not a value"),
        (lambda: untyped("prep.py", inputs={"a": float("nan")}), "input a: float is not a value"),
        (lambda: untyped("prep.py", inputs={"a": "${{parent.inputs.x}}"}), "may hold neither"),
        (lambda: untyped("prep.py", inputs={"a": Path("raw.csv")}), r"input a: is a path\n  write Data\('raw.csv'\)"),
        (lambda: untyped("prep.py", inputs={"a": data("raw.cvs")}), "no such file or folder: raw.cvs\n  .*/raw.csv"),
        (lambda: untyped("prep.py", inputs={"a": data("https://h.example/a")}), "say what is there"),
        (lambda: untyped("prep.py", inputs={"a": data("raw.csv", "uri_flie")}), "'uri_flie' is none\n  .* uri_file"),
        (lambda: untyped("prep.py", inputs={"a": data("raw.csv", "string")}), "string is the type of a value"),
        (lambda: untyped("prep.py", inputs={"a": data("raw.csv", mode="copy")}), "input a: mode: 'copy' is none"),
        (lambda: untyped("prep.py", inputs={"a": untyped("r/train.R")}), "input a: is not an output"),
        (lambda: untyped("r/train.R", outputs=["model"]).outputs["modle"], "has no output 'modle'\n  did you mean model"),
        (lambda: untyped("prep.py", outputs="clean"), "outputs: 'clean' is one text"),
        (lambda: untyped("prep.py", outputs=["a", "a"]), "an output is listed twice"),
        (lambda: untyped("prep.py", outputs={"a": "uri_fodler"}), "'uri_fodler' is none\n  did you mean uri_folder"),
        (lambda: untyped("prep.py", outputs={"a": "number"}), "a step leaves files and folders"),
        (lambda: untyped("prep.py", libs="libs.yaml", image="a"), "libs and image are both given"),
        (lambda: untyped("prep.py", libs="lib.yaml"), "no such libs file: lib.yaml"),
        (lambda: untyped("prep.py", environment="sklearn"), "'sklearn' is not a name of Azure ML"),
        (lambda: untyped("prep.py", env={"RUNNER_X": "1"}), "step prep: .*RUNNER_X is set by runner itself"),
        (lambda: untyped("prep.py", memory="much"), "step prep: memory: 'much' is not a size"),
        (lambda: untyped("prep.py", timeout=-1), "step prep: timeout: '-1' is not a duration"),
        (lambda: untyped("prep.py", cpus=0), "step prep: cpus: "),
        (lambda: untyped("prep.py", retries=True), "retries: True is not a number"),
        (lambda: untyped("prep.py", retry_on=["OutofMemory"]), "not a reason to retry\n  did you mean OutOfMemory"),
        (lambda: untyped(command="x ${{inputs.lr}}", inputs={"lf": 1}), "names nothing of it\n  did you mean .*inputs.lf"),
        (lambda: [untyped(command="x", name=name) for name in ("A b", "a_b")], "step a_b: there is one"),
    ],
)  # fmt: skip
def test_mistakes_name_the_step(wrong: Callable[[], object], message: str) -> None:
    with Pipeline("p"), pytest.raises(UsageError, match=message):
        wrong()


def test_pipelines_are_apart() -> None:
    with pytest.raises(UsageError, match="no pipeline is open"):
        step("prep.py")
    with Pipeline("one") as one, pytest.raises(UsageError, match="pipeline one is still open"), Pipeline("two"):
        pass
    with one:
        made = step("prep.py", outputs=["a"])
    with Pipeline("two") as two, pytest.raises(UsageError, match="prep is a step of pipeline one, not of this one"):
        step("prep.py", inputs={"a": made.outputs["a"]})
    with pytest.raises(UsageError, match="pipeline two has no step"):
        two.to_yaml()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda mine, _: {"a b": mine.outputs["a"]}, "pipeline one: output 'a b': not a name"),
        (lambda mine, _: {"x": mine}, r"output x: expected STEP.outputs\[NAME\]"),
        (lambda _, other: {"x": other.outputs["a"]}, "output x: expected .* of one of its steps"),
        (lambda mine, _: {"x": mine.outputs["a"], "y": mine.outputs["a"]}, "outputs x and y are the same: a of prep"),
    ],
)
def test_a_pipelines_outputs_are_those_of_its_steps(make: Callable[[Any, Any], dict[str, Any]], message: str) -> None:
    with Pipeline("other"):
        other = step("prep.py", outputs=["a"])
    with Pipeline("one") as one:
        one.outputs.update(make(step("prep.py", outputs=["a"]), other))
    with pytest.raises(UsageError, match=message):
        one.to_job()


def test_an_error_in_the_block_closes_it() -> None:
    with pytest.raises(ZeroDivisionError), Pipeline("p"):
        1 / 0  # noqa: B018
    with Pipeline("q") as q:
        step("prep.py", inputs={"a": data("raw.csv", mode="download")})
    found = graph(q.to_job()).nodes["prep"].inputs["a"]
    assert isinstance(found, Data)
    assert found.mode is Mode.DOWNLOAD


def test_the_public_names_are_these() -> None:
    assert runner.Pipeline is Pipeline
    assert runner.step is step
