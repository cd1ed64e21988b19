"""Jobs that were made with azure-ai-ml become ours, and run here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.drafts import drafts
from runner.errors import CapabilityError, SpecError, UsageError
from runner.job import Command, Data, Graph, Sweep
from runner.spec import azureobject

pytestmark = pytest.mark.filterwarnings("ignore")  # azure-ai-ml's own


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "add.py").write_text(
        "import sys\nprint('adding')\nopen(sys.argv[3], 'w').write(open(sys.argv[2]).read().strip() + sys.argv[1] + '\\n')\n"
    )
    (tmp_path / "data.txt").write_text("1\n")
    logging.disable(logging.CRITICAL)
    yield tmp_path
    logging.disable(logging.NOTSET)


def adding(**given: Any) -> Any:
    from azure.ai.ml import Input, Output, command
    from azure.ai.ml.entities import Environment

    return command(
        code="./src", command="python3 add.py ${{inputs.x}} ${{inputs.d}} ${{outputs.o}}",
        inputs={"x": 3, "d": Input(type="uri_file", path="./data.txt")}, outputs={"o": Output(type="uri_file")},
        environment=Environment(image="python:3"), environment_variables={"A": "1"}, **given,
    )  # fmt: skip


def pipeline() -> Any:
    from azure.ai.ml import Input, dsl

    part = adding()

    def twice(d, n=7):  # type: ignore[no-untyped-def]  # azure-ai-ml reads annotations as types of inputs
        one = part(x=n, d=d)
        two = part(x=8, d=one.outputs.o)
        return {"r": two.outputs.o}

    decorated: Any = dsl.pipeline(twice, default_compute="cpu", display_name="twice")
    return decorated(Input(type="uri_file", path="./data.txt"))


def test_errors_name_no_file_that_nobody_wrote() -> None:
    from azure.ai.ml import command

    unmapped = command(command="echo", environment="azureml:sklearn:1")
    with pytest.raises(CapabilityError) as refused:
        runner.submit(unmapped, backend="docker")
    assert "environment: azureml:sklearn:1 is not mapped" in str(refused.value)
    with pytest.raises(SpecError) as wrong:
        azureobject.read(unmapped, [("limits.timeout", "soon")])
    for told in (refused, wrong):
        assert "runner-" not in str(told.value)
        assert "job.yml" not in str(told.value)


def test_truths_are_what_azure_makes_of_them() -> None:
    """azure-ai-ml submits them as True and False, but writes 1 and 0."""
    from azure.ai.ml import command, dsl
    from azure.ai.ml.entities import Environment

    def part() -> Any:
        return command(
            command="echo ${{inputs.yes}} ${{inputs.no}} ${{inputs.n}}", inputs={"yes": True, "no": False, "n": 1},
            environment=Environment(image="python:3"),
        )  # fmt: skip

    (draft,) = drafts(azureobject.read(part())).steps
    assert (draft.parameters["yes"], draft.parameters["no"], draft.parameters["n"]) == ("True", "False", "1")
    used = part()

    def inner(z=True):  # type: ignore[no-untyped-def]  # azure-ai-ml reads annotations
        used(yes=z, no=True)
        return {}

    nested: Any = dsl.pipeline(inner)

    def outer(flag=True):  # type: ignore[no-untyped-def]
        used(yes=flag, no=False)
        nested(z=False)
        return {}

    decorated: Any = dsl.pipeline(outer)
    told = [
        (each.parameters["yes"], each.parameters["no"])
        for each in drafts(azureobject.read(decorated(flag=False))).steps
    ]
    assert told == [("False", "False"), ("False", "True")]


def test_a_command(folder: Path) -> None:
    job = azureobject.read(adding(display_name="add"))
    assert isinstance(job.component, Command)
    assert job.component.code is not None
    assert job.component.code.path == folder / "src"
    assert job.component.environment is not None
    assert job.component.environment.image == "python:3"
    assert job.component.variables == {"A": "1"}
    assert job.display_name == "add"
    given = job.inputs["d"]
    assert isinstance(given, Data)
    assert given.uri == str(folder / "data.txt")
    assert job.warnings == ()


def test_a_pipeline(folder: Path) -> None:
    job = azureobject.read(pipeline())
    assert isinstance(job.component, Graph)
    one, two = drafts(job).steps
    assert (one.parameters["x"], two.parameters["x"]) == ("7", "8")
    assert two.upstream["d"].step == one.name
    assert one.data["d"].data.uri == str(folder / "data.txt")
    assert job.component.settings.default_compute == "cpu"


def test_a_sweep() -> None:
    from azure.ai.ml.sweep import Choice

    swept = adding()(x=Choice([1, True, "a"])).sweep(
        compute="cpu", sampling_algorithm="grid", primary_metric="m", goal="maximize"
    )
    swept.set_limits(max_total_trials=2)
    job = azureobject.read(swept)
    assert isinstance(job.component, Sweep)
    assert job.component.search_space["x"].values == (1, True, "a")
    assert job.component.search_space["x"].values[1] is True


def test_names_of_the_workspace_stay(folder: Path) -> None:
    from azure.ai.ml import Input, command

    job = azureobject.read(
        command(
            command="echo ${{inputs.a}} ${{inputs.b}}",
            environment="azureml:sklearn:1",
            compute="cpu",
            inputs={
                "a": Input(type="uri_folder", path="azureml:words:1"),
                "b": Input(type="uri_folder", path="azureml://datastores/x/paths/y"),
            },
        )
    )
    assert [value.uri for value in job.inputs.values() if isinstance(value, Data)] == [
        "azureml:words:1", "azureml://datastores/x/paths/y",
    ]  # fmt: skip
    assert isinstance(job.component, Command)
    assert job.component.environment is not None
    assert job.component.environment.reference == "azureml:sklearn:1"


def test_it_runs_here(folder: Path) -> None:
    (folder / "runner.yaml").write_text('environments: {"python:3": {local: true}}\n')
    run = runner.submit(pipeline(), backend="process", home=folder / "home")
    outcome = run.wait(60)
    assert outcome.reason == "Completed", outcome
    run.download(folder / "got")
    assert [path.read_text() for path in (folder / "got").rglob("*") if path.is_file()] == ["178\n"]
    single = runner.submit(adding(), backend="process", home=folder / "home")
    assert single.wait(60).reason == "Completed"
    assert "adding" in "".join(str(line) for line in single.logs())


def test_options_of_a_script_are_refused_and_so_is_what_is_no_job(folder: Path) -> None:
    from azure.ai.ml.entities import Environment

    with pytest.raises(UsageError, match=r"memory, timeout: a job of azure-ai-ml"):
        runner.submit(adding(), memory="1g", timeout=5, backend="process", home=folder / "home")
    with pytest.raises(UsageError, match="is no job"):
        azureobject.read(Environment(image="x"))
    assert not azureobject.is_one("job.yml")
