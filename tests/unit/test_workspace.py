"""Which workspace is meant: what wins, what is read of Azure's own files, and the errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from runner.backends.azureml.target import Target
from runner.backends.azureml.workspace import Asked, Found, find
from runner.errors import SpecError, UsageError
from runner.spec import config as configuration

if TYPE_CHECKING:
    from pathlib import Path

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
ALL = {"AZURE_SUBSCRIPTION_ID": SUBSCRIPTION, "AZURE_RESOURCE_GROUP": "env-rg", "AZURE_WORKSPACE": "env-ws"}
SETTINGS = f"workspace: {{subscription: {OTHER}, resource_group: yaml-rg, name: yaml-ws}}\n"


def found(tmp_path: Path, asked: Asked = Asked(), **environ: str) -> Found:  # noqa: B008 - immutable
    return find(asked, configuration.load(tmp_path, environ), environ, tmp_path)


def config_json(path: Path, name: str = "json-ws") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"subscription_id": OTHER, "resource_group": "json-rg", "workspace_name": name}))
    return path


def test_each_part_comes_from_the_first_place_that_says_it(tmp_path: Path) -> None:
    (tmp_path / "runner.yaml").write_text(SETTINGS)
    config_json(tmp_path / "config.json")
    asked = Asked("flag-ws", "flag-rg", SUBSCRIPTION)
    assert found(tmp_path, asked, **ALL).target == Target(SUBSCRIPTION, "flag-rg", "flag-ws")
    assert found(tmp_path, Asked("flag-ws"), **ALL).target == Target(SUBSCRIPTION, "env-rg", "flag-ws")
    assert found(tmp_path, AZURE_RESOURCE_GROUP="env-rg").target == Target(OTHER, "env-rg", "yaml-ws")
    (tmp_path / "runner.yaml").unlink()
    assert found(tmp_path).target == Target(OTHER, "json-rg", "json-ws")


@pytest.mark.parametrize(
    "names",
    [
        ("AZURE_SUBSCRIPTION_ID", "AZURE_DEFAULTS_GROUP", "AZURE_DEFAULTS_WORKSPACE"),
        ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME"),
        ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME"),
    ],
)
def test_the_names_of_azure_s_own_tools_count(tmp_path: Path, names: tuple[str, str, str]) -> None:
    said = found(tmp_path, Asked(), **dict(zip(names, (SUBSCRIPTION, "rg", "ws"), strict=True)))
    assert said.target == Target(SUBSCRIPTION, "rg", "ws")
    assert set(said.origins.values()) == set(names)
    assert said.told is None, "the user's own environment needs no announcement"


def test_a_workspace_that_a_found_file_chose_is_told_and_a_named_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "runner.yaml"
    file.write_text(SETTINGS)
    told = found(tmp_path).told
    assert told is not None
    assert told.startswith("yaml-ws  (")
    assert "runner.yaml:1" in told
    assert found(tmp_path, RUNNER_CONFIG=str(file)).told is None
    assert found(tmp_path, Asked("mine", "mine", SUBSCRIPTION)).told is None
    assert "runner.yaml" in str(found(tmp_path, Asked("mine")).told), "a part of it is as good as the whole"


def test_azure_s_config_json_is_looked_for_as_the_sdk_does(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    config_json(tmp_path / "config.json", "top-ws")
    said = find(Asked(), configuration.Config(), {}, inner)
    assert said.target.workspace == "top-ws"
    assert str(tmp_path / "config.json") in str(said.told)
    config_json(inner / "config.json", "inner-ws")
    assert find(Asked(), configuration.Config(), {}, inner).target.workspace == "inner-ws"
    config_json(tmp_path / ".azureml" / "config.json", "dot-ws")
    assert find(Asked(), configuration.Config(), {}, inner).target.workspace == "dot-ws"


def test_a_config_json_of_something_else_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"port": 80}')
    (tmp_path / "project.json").write_text(
        json.dumps({"Scope": Target(OTHER, "scope-rg", "scope-ws").path + "/projects/p"})
    )
    assert found(tmp_path).target == Target(OTHER, "scope-rg", "scope-ws")
    (tmp_path / "config.json").write_text("not json")
    assert found(tmp_path).target.workspace == "scope-ws"
    (tmp_path / ".azureml").mkdir()
    (tmp_path / ".azureml" / "config.json").write_text("{")
    with pytest.raises(SpecError, match=r"\.azureml/config\.json: cannot be read"):
        found(tmp_path)


def test_a_folder_that_everyone_may_write_to_ends_the_search(tmp_path: Path) -> None:
    shared, mine = tmp_path / "shared", tmp_path / "shared" / "mine"
    mine.mkdir(parents=True)
    config_json(shared / "config.json")
    shared.chmod(0o777)
    with pytest.raises(UsageError):
        find(Asked(), configuration.Config(), {}, mine)


def test_what_is_missing_is_said_with_every_place_looked_at(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        found(tmp_path, AZURE_WORKSPACE="ws")
    text = str(caught.value)
    assert "its resource group and its subscription" in text
    for place in ("--resource-group", "AZURE_RESOURCE_GROUP", "--subscription", "AZURE_SUBSCRIPTION_ID", "runner.yaml",
                  ".azureml/config.json", str(tmp_path)):  # fmt: skip
        assert place in text
    assert "--workspace" not in text


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (Asked("ws/../../other", "rg", SUBSCRIPTION), "--workspace"),
        (Asked("ws", "rg?x=1", SUBSCRIPTION), "--resource-group"),
        (Asked("ws", "rg", "my subscription"), "--subscription"),
    ],
)
def test_a_part_that_could_lead_elsewhere_is_refused(tmp_path: Path, asked: Asked, name: str) -> None:
    with pytest.raises(SpecError, match=f"^{name}: "):
        found(tmp_path, asked)


def test_how_to_sign_in(tmp_path: Path) -> None:
    (tmp_path / "runner.yaml").write_text(SETTINGS.replace("name: yaml-ws", "name: yaml-ws, auth: cli"))
    assert found(tmp_path).target.auth == "cli"
    assert found(tmp_path, RUNNER_AZURE_AUTH="msi").target.auth == "msi"
    assert found(tmp_path, Asked(auth="device"), RUNNER_AZURE_AUTH="msi").target.auth == "device"
    with pytest.raises(UsageError, match="did you mean browser"):
        found(tmp_path, Asked(auth="browsr"))
    (tmp_path / "runner.yaml").write_text(SETTINGS.replace("name: yaml-ws", "name: yaml-ws, auth: clli"))
    with pytest.raises(SpecError, match=r"runner\.yaml:1: workspace\.auth: expected one of"):
        found(tmp_path)
