"""Pipelines that are registered in a workspace: found, told from other components, and made into a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.backends.azureml import components
from runner.backends.azureml.arm import Arm
from runner.errors import BackendError, NotFoundError, UsageError
from runner.job import Data, DataType, Foreign, Graph
from tests.unit.azure_arm import TARGET, Workspace, page


def container(name: str, latest: str | None) -> dict[str, Any]:
    return {"name": name, "properties": {"latestVersion": latest}}


def version(number: str, kind: str = "pipeline", **spec: Any) -> dict[str, Any]:
    made = {"type": kind, "description": "what it does", **spec}
    return {"name": number, "properties": {"componentSpec": made}, "systemData": {"createdAt": "2026-01-02T03:04:05Z"}}


INPUTS = {
    "data": {"type": "uri_folder"},
    "lr": {"type": "number", "default": "0.1"},
    "note": {"type": "string", "optional": True},
}
TRAIN = version("2", inputs=INPUTS, outputs={"model": {"type": "uri_folder"}})
DOCUMENTS = {
    "/components": page(container("train", "2"), container("clean", "1"), container("azureml_anonymous", "x")),
    "/components/train": container("train", "2"),
    "/components/train/versions": page({"name": "2"}, {"name": "1"}),
    "/components/train/versions/2": TRAIN,
    "/components/clean": container("clean", "1"),
    "/components/clean/versions": page({"name": "1"}),
    "/components/clean/versions/1": version("1", "command"),
}


def arm() -> Arm:
    return Arm(Workspace(DOCUMENTS))


def test_only_pipelines_are_listed() -> None:
    (one,) = components.listed(arm(), TARGET)
    assert (one.name, one.version, one.description, one.outputs) == (
        "train",
        "2",
        "what it does",
        {"model": "uri_folder"},
    )
    assert components.listed(Arm(Workspace({"/components": page()})), TARGET) == []


@pytest.mark.parametrize("reference", ["train", "train@2", "train@latest", "pipeline:train"])
def test_a_pipeline_is_found(reference: str) -> None:
    found = components.find(arm(), TARGET, reference)
    assert (found.name, found.version, found.versions) == ("train", "2", ("2", "1"))
    assert found.inputs["lr"]["default"] == "0.1"


def test_what_is_not_there_is_said_with_what_is() -> None:
    with pytest.raises(NotFoundError, match="did you mean train"):
        components.find(arm(), TARGET, "trian")
    with pytest.raises(NotFoundError, match="train has no version '7'"):
        components.find(arm(), TARGET, "train@7")
    with pytest.raises(UsageError, match="the component clean is no pipeline"):
        components.find(arm(), TARGET, "clean")


def test_a_job_that_runs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = components.find(arm(), TARGET, "train")
    job = components.job(found, [("inputs.data", "./d"), ("inputs.lr", "0.20")])
    assert isinstance(job.component, Graph)
    (node,) = job.component.nodes.values()
    assert isinstance(node.component, Foreign)
    assert node.component.raw == {"type": "pipeline", "component": "azureml:train:2"}
    assert node.inputs == {"data": Data(str(tmp_path / "d"), DataType.URI_FOLDER), "lr": "0.20"}
    cloud = components.job(found, [("inputs.data", "azureml:titanic@latest")])
    assert isinstance(cloud.component, Graph)
    assert cloud.component.nodes["train"].inputs["data"] == Data("azureml:titanic@latest", DataType.URI_FOLDER)


def test_the_next_version_is_the_service_s_to_say() -> None:
    there = {
        "/components/train": {"name": "train", "properties": {"latestVersion": "2", "nextVersion": "5"}},
        "/components/train/versions/2": {"name": "2", "properties": {"tags": {"runner.content": "abc"}}},
    }
    assert components.version_for(Arm(Workspace(there)), TARGET, "train", "xyz") == ("5", False)
    assert components.version_for(Arm(Workspace(there)), TARGET, "train", "abc") == ("2", True)
    assert components.version_for(Arm(Workspace({"/components": page()})), TARGET, "train", "abc") == ("1", False)


def test_a_workspace_that_is_not_there_is_no_missing_component() -> None:
    nowhere = Arm(Workspace({}))
    with pytest.raises(BackendError, match="there is no workspace"):
        components.version_for(nowhere, TARGET, "train", "abc")
    with pytest.raises(BackendError, match="there is no workspace"):
        components.find(nowhere, TARGET, "train")
    with pytest.raises(BackendError, match="there is no workspace"):
        components.listed(nowhere, TARGET)


def test_a_component_is_what_its_files_hold(tmp_path: Path) -> None:
    """Wherever they lie; and a value that looks like a place is none."""

    def content(folder: str, text: str, default: str = "/etc/passwd") -> str:
        code = tmp_path / folder
        code.mkdir(exist_ok=True)
        (code / "a.py").write_text(text)
        step = {"component": {"code": str(code).lstrip("/"), "inputs": {"x": {"default": default}}}}
        return components.content({"type": "pipeline", "jobs": {"a": step}})

    assert content("one", "print(1)") == content("other", "print(1)")
    assert content("one", "print(1)") != content("one", "print(2)")
    assert content("one", "print(1)") != content("one", "print(1)", "/etc/group")


def test_inputs_that_are_missing_or_unknown_are_said() -> None:
    found = components.find(arm(), TARGET, "train")
    with pytest.raises(UsageError, match="train needs the input data"):
        components.job(found, [])
    with pytest.raises(UsageError, match="has no such input"):
        components.job(found, [("inputs.dta", "x")])
    with pytest.raises(UsageError, match="has no such input"):
        components.job(found, [("compute", "x")])
