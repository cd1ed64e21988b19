"""What names stand for by runner.yaml: how they are looked up, what is wrong with a file, what a checkout may not decide."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import SpecError
from runner.job import DataType, Where
from runner.spec import names
from runner.spec.config import Config, load
from runner.spec.mappings import Mapped

WHOLE = """
environments:
  "azureml:sklearn-1.5@latest": {libs: sklearn.yaml}
  "azureml://registries/azureml/environments/sklearn-1.5/*": {image: "localhost/sklearn:1"}
  "*": {local: true}
datastores:
  workspaceblobstore: ./blob
  lake: abfss://fs@account.dfs.core.windows.net/raw
data:
  titanic: {path: ./titanic.csv, type: uri_file}
  "sales:3": https://data.example.com/sales-3/
urls: {"https://data.example.com/": ./mirror}
components: {"azureml:train:*": train.yml}
computes:
  cpu-cluster: {backend: docker, cpus: 2, memory: 4g, instances: 3}
workspace: {subscription: s, resource_group: g, name: w}
"""
WORKSPACE = "/subscriptions/a/resourceGroups/b/providers/Microsoft.MachineLearningServices/workspaces/c"


@pytest.fixture
def whole(tmp_path: Path) -> Config:
    for name in ("sklearn.yaml", "train.yml"):
        (tmp_path / name).write_text("a: 1\n")
    return written(tmp_path, WHOLE)


def written(folder: Path, text: str, *, named: bool = False) -> Config:
    file = folder / "runner.yaml"
    file.write_text(text)
    return load(folder, {}, file if named else None)


def test_every_key(whole: Config, tmp_path: Path) -> None:
    found = names.environment(whole, "azureml:sklearn-1.5@latest")
    assert found is not None
    assert (found.libs, found.image, found.local) == (tmp_path / "sklearn.yaml", None, False)
    assert (found.origin.where.line, found.origin.named) == (3, False)
    assert whole.datastores["workspaceblobstore"].path == tmp_path / "blob"
    assert whole.datastores["lake"].path is None
    asset = names.asset(whole, "azureml:titanic@latest")
    assert asset is not None
    assert (asset.path, asset.type) == (tmp_path / "titanic.csv", DataType.URI_FILE)
    assert names.component(whole, "azureml:train:7") == tmp_path / "train.yml"
    compute = names.compute(whole, "azureml:cpu-cluster")
    assert compute is not None
    assert (compute.backend, compute.cpus, compute.memory_bytes, compute.instances) == ("docker", 2.0, 4 << 30, 3)
    assert whole.workspace is not None
    assert (whole.workspace.name, whole.workspace.origin.named) == ("w", False)


@pytest.mark.parametrize(
    ("reference", "image", "local"),
    [
        ("azureml://registries/azureml/environments/sklearn-1.5/labels/latest", "localhost/sklearn:1", False),
        ("azureml://registries/azureml/environments/other/labels/latest", None, True),
        ("sklearn-1.5@latest", None, False),
        ("azureml:sklearn-1.5:9", None, True),
        (f"{WORKSPACE}/environments/sklearn-1.5/labels/latest", None, False),
    ],
)  # fmt: skip
def test_the_nearest_key_wins(whole: Config, reference: str, image: str | None, local: bool) -> None:
    found = names.environment(whole, reference)
    assert found is not None
    assert (found.image, found.local) == (image, local)


def test_what_is_not_mapped_shows_the_line_to_add(whole: Config) -> None:
    assert names.component(whole, "azureml:trian:1") is None
    where = Where("job.yml", 22, "jobs.prep.environment")
    problem = names.unmapped(whole, "environment", 'azureml:sk"learn@latest', where)
    assert problem.way_out == 'runner.yaml: environments: {"azureml:sk\\"learn@latest": {libs: libs.yaml}}'
    assert problem.reason == 'azureml:sk"learn@latest is not mapped (runner.yaml has azureml:sklearn-1.5@latest)'
    assert str(problem.where.error(problem.reason)).startswith("job.yml:22: jobs.prep.environment: azureml:sk")


@given(st.text(alphabet="ab:@*?[]/", max_size=12))
def test_the_line_to_add_maps_what_it_is_shown_for(name: str) -> None:
    """Whatever a name looks like, also like a pattern."""
    key = names.forms(name)[0]
    found = names.environment(Config(environments={key: Mapped(local=True)}), name)
    assert found == Mapped(local=True)


def test_the_user_s_entries_lie_below_the_project_s(tmp_path: Path) -> None:
    user = tmp_path / "xdg" / "runner"
    user.mkdir(parents=True)
    own = "datastores: {a: ./mine, b: ./mine}\nworkspace: {subscription: s, resource_group: g, name: u}\n"
    (user / "runner.yaml").write_text(own)
    project = tmp_path / "p"
    project.mkdir()
    (project / "runner.yaml").write_text("datastores: {a: ./theirs}\n")
    found = load(project, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")})
    assert [found.datastores[name].path for name in "ab"] == [project / "theirs", user / "mine"]
    assert [found.datastores[name].origin.named for name in "ab"] == [False, True]
    assert found.workspace is not None
    assert found.workspace.origin.named


@pytest.mark.parametrize("backend", ["process", "azureml"])
def test_a_checkout_does_not_choose_where_its_code_runs(tmp_path: Path, backend: str) -> None:
    text = f"computes:\n  gpu: {{backend: {backend}}}\n"
    found = written(tmp_path, text)
    with pytest.raises(SpecError, match=f"may not choose the backend {backend}") as caught:
        names.compute(found, "gpu")
    assert caught.value.line == 2
    compute = names.compute(written(tmp_path, text, named=True), "gpu")
    assert compute is not None
    assert compute.backend == backend


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("enviroments: {}\n", 1, "did you mean environments?"),
        ("environments: [a]\n", 1, "expected NAME: {image: … | libs: … | local: true} lines, found a list"),
        ("environments:\n  a: python:3\n", 2, "expected {image: …}, {libs: …} or {local: true}, found 'python:3'"),
        ("environments:\n  a: {imag: x}\n", 2, "environments.a.imag: unknown key\n  did you mean image?"),
        ("environments:\n  a: {image: x, local: true}\n", 2, "expected one of image, libs, local, found 2"),
        ("environments:\n  a: {}\n", 2, "found 0"),
        ("environments:\n  a: {local: false}\n", 2, "expected true, found False"),
        ("environments:\n  a: {libs: no.yaml}\n", 2, "no such file: no.yaml"),
        ("environments:\n  a: {libs: 'https://h/no.yaml?sig=x'}\n", 2, "expected a file of this machine, found https://h/no.yaml"),
        ("environments:\n  a: {image: 3}\n", 2, "expected text, found 3"),
        ("datastores: {a: }\n", 1, "expected text, found nothing"),
        ("datastores: {a: 'https://u:p@h/x'}\n", 1, "datastores.a: a login stands in this URL"),
        ("datastores: {a: 'https://h/x?sv=1&sig=abc'}\n", 1, "a login stands in this URL"),
        ("data:\n  a: {type: uri_file}\n", 2, "no path"),
        ("data:\n  a: {path: x, type: uri_fil}\n", 2, "found 'uri_fil'\n  did you mean uri_file?"),
        ("data:\n  a: {path: x, type: string}\n", 2, "expected one of uri_file"),
        ("urls: {data.example.com: ./x}\n", 1, "expected the beginning of a URL"),
        ("urls: {'https://u:p@h/': ./x}\n", 1, "urls: a login stands in this URL"),
        ("components: {a: ./no.yml}\n", 1, "components.a: no such file: ./no.yml"),
        ("computes:\n  a: {backend: dokcer}\n", 2, "found 'dokcer'\n  did you mean docker?"),
        ("computes:\n  a: {memory: lots}\n", 2, "computes.a.memory: 'lots' is not a size"),
        ("computes:\n  a: {cpus: -1}\n", 2, "computes.a.cpus: '-1' is not a number of processors"),
        ("computes:\n  a: {instances: true}\n", 2, "expected 1 or more, found True"),
        ("workspace: {name: w}\n", 1, "no subscription and no resource_group"),
        ("workspace: {subscription: s, resource_group: g, nam: w}\n", 1, "did you mean name?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_line_and_key(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        written(tmp_path, text)
    assert message in str(caught.value)
    assert "abc" not in str(caught.value)
    assert "u:p" not in str(caught.value)
    assert (caught.value.file, caught.value.line) == (str(tmp_path / "runner.yaml"), line)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        written(tmp_path, "computes:\n  a: {cpus: x}\nregistry: [a]\ndata: 1\nworkspce: {}\n")
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path}/runner.yaml: 4 things are wrong"
    assert [line.split(":")[1] for line in lines if f"{tmp_path}/runner.yaml:" in line][1:] == ["2", "3", "4", "5"]
