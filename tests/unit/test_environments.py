"""What names an environment: mapped, checked all at once, refused where no image can be; nothing is guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner import environments
from runner.builder.onto import libs_of, told_of
from runner.errors import SpecError
from runner.job import NOWHERE, Environment, Where
from runner.spec.libs import load

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Where("job.yml", 7, "environment")
SKLEARN = Environment(reference="azureml:sklearn:1", where=HERE)


def silent(_kind: str, _text: str) -> None:
    """Nothing is said."""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "cache"))


def mapped(environment: Environment | None, table: Mapping[str, Environment]) -> Environment | None:
    return environments.mapped(environment, table.get)


# -- names ----------------------------------------------------------------------------------------------------------


def test_a_name_becomes_what_it_is_mapped_to(tmp_path: Path) -> None:
    libs = Environment(libs=tmp_path / "libs.yaml")
    found = mapped(SKLEARN, {"azureml:sklearn:1": libs})
    assert found == libs
    assert found is not None
    assert str(found.where) == "job.yml:7  environment", "errors name the job, not runner.yaml"


def test_an_image_may_be_mapped_but_need_not() -> None:
    mcr = Environment(image="mcr.example/base:1")
    assert mapped(mcr, {}) == mcr
    assert mapped(mcr, {"mcr.example/base:1": Environment(image="mine")}) == Environment(image="mine")
    assert mapped(None, {}) is None


def test_conda_stays_on_top_of_a_mapped_image(tmp_path: Path) -> None:
    both = Environment(image="mcr.example/base:1", conda={"dependencies": ["a"]}, where=HERE)
    found = mapped(both, {"mcr.example/base:1": Environment(image="mine")})
    assert found == Environment(image="mine", conda={"dependencies": ["a"]})
    assert mapped(both, {"mcr.example/base:1": Environment(local=True)}) == Environment(local=True)
    with pytest.raises(SpecError, match=r"job.yml:7: environment: mcr.* is mapped to a libs file"):
        mapped(both, {"mcr.example/base:1": Environment(libs=tmp_path / "libs.yaml")})


def test_a_name_that_is_not_mapped_shows_the_line_to_add() -> None:
    with pytest.raises(SpecError) as caught:
        mapped(SKLEARN, {})
    assert str(caught.value).startswith("job.yml:7: environment: azureml:sklearn:1 is not mapped")
    assert 'environments: {"azureml:sklearn:1": {libs: libs.yaml}}' in str(caught.value)


def test_on_a_backend_without_images_the_line_to_add_is_one_that_runs_there() -> None:
    with pytest.raises(SpecError) as caught:
        environments.mapped(SKLEARN, lambda _: None, images=False)
    assert caught.value.hints == ('runner.yaml: environments: {"azureml:sklearn:1": {local: true}}',)


def test_a_backend_without_images_takes_what_is_mapped_to_this_machine() -> None:
    environments.check_local(None)
    environments.check_local(Environment(local=True))
    with pytest.raises(SpecError) as caught:
        environments.check_local(SKLEARN)
    assert str(caught.value).splitlines() == [
        "job.yml:7: environment: azureml:sklearn:1: backend process runs in no image",
        '  --backend docker, or in runner.yaml: environments: {"azureml:sklearn:1": {local: true}}',
    ]
    with pytest.raises(SpecError) as caught:
        environments.check_local(Environment(context=Path("/work/ctx"), where=HERE))
    assert "runner.yaml" not in caught.value.hints[0], "a folder has no name that could be mapped"


# -- checks ---------------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    wanted = [
        SKLEARN,
        Environment(libs=tmp_path / "no.yaml", where=HERE),
        Environment(context=tmp_path / "no", where=HERE),
        Environment(conda={"dependencies": ["a"]}, where=HERE),
        Environment(image="a", conda={"dependencies": "a"}, where=HERE),
        Environment(image="a", conda=tmp_path / "no.yml", where=HERE),
        Environment(local=True),
    ]
    with pytest.raises(SpecError) as caught:
        environments.resolve_all(wanted, silent, build=True)
    text = str(caught.value)
    assert text.startswith("7 environments cannot be used")
    for part in ("is not mapped", "no such libs file", "no such folder", "without an image", "expected a list",
                 "no.yml: no such file", "local: true is for the backend process"):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        (None, "no such file"),
        ("../Dockerfile", "is not inside"),
        ("/etc/passwd", "is not inside"),
        ("link", "is not inside"),
    ],
)
def test_a_dockerfile_is_inside_its_context(tmp_path: Path, dockerfile: str | None, message: str) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (context / "link").symlink_to("../Dockerfile")
    with pytest.raises(SpecError, match=message):
        environments.resolve(Environment(context=context, dockerfile=dockerfile), silent, build=True)


@pytest.mark.parametrize("context", ["/", "~", "~/sub/.."])
def test_nobodys_file_can_have_the_home_folder_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sub").mkdir()
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(SpecError, match=r"job.yml:7: environment: the build context is (the root|your home) folder"):
        environments.resolve(Environment(context=Path(context).expanduser(), where=HERE), silent, build=True)


# -- conda packages on an image -------------------------------------------------------------------------------------

CONDA = "name: My Env\nchannels: [https://conda.example.org/c]\ndependencies:\n- numpy=1.26\n- pip:\n  - -r more.txt\n"


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    folder = tmp_path / "env"
    folder.mkdir()
    (folder / "more.txt").write_text("six\n")
    (folder / "conda.yml").write_text(CONDA)
    return folder / "conda.yml"


def test_a_conda_file_on_an_image_is_a_libs_file_of_ours(conda: Path) -> None:
    libs = load(path := libs_of("base:1", conda, NOWHERE))
    assert (libs.base, libs.name) == ("base:1", "my-env")
    assert [package.spec for package in libs.conda] == ["numpy=1.26"]
    assert [package.name for package in libs.pip] == ["six"]
    assert libs.conda_channels == ("https://conda.example.org/c",)
    assert sorted(each.name for each in conda.parent.iterdir()) == ["conda.yml", "more.txt"], "nothing is written there"
    assert libs_of("base:1", conda, NOWHERE) == path


def test_what_it_is_made_of_makes_another_one(conda: Path) -> None:
    first = libs_of("base:1", conda, NOWHERE)
    assert libs_of("base:2", conda, NOWHERE) != first
    (conda.parent / "more.txt").write_text("six>1\n")
    assert libs_of("base:1", conda, NOWHERE) != first
    assert not [each for each in first.parent.parent.iterdir() if "." in each.name], "nothing half-written is left"


def test_an_inline_conda_file(tmp_path: Path) -> None:
    content = {"channels": ["conda-forge"], "dependencies": ["python=3.10", {"pip": ["six==1.16.0"]}]}
    libs = load(libs_of("base:1", content, HERE))
    assert [package.spec for package in libs.conda] == ["python=3.10"]
    assert libs.pip_lines == ("six==1.16.0",)
    assert libs.name == "environment"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dependencies": ["a=>1"]}, "conda_file: dependencies: 'a=>1' is not a conda package"),
        ({"dependencys": ["a"]}, "unknown key of an environment.yml"),
        ({"dependencies": [{"pip": ["-r more.txt"]}]}, "an inline one can name no files"),
        ({"dependencies": ["a"], "channels": ["./c"]}, "would count from a copy"),
    ],
)
def test_slips_in_an_inline_one_are_told_at_its_place(content: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        libs_of("base:1", content, HERE)
    assert str(caught.value).startswith("job.yml:7: environment: conda_file: ")
    assert message in str(caught.value)
    assert str(caught.value).count("environment.yml:") == 0


def test_errors_about_our_copy_name_the_users_file(conda: Path) -> None:
    libs = libs_of("base:1", conda, HERE)
    with pytest.raises(SpecError) as caught, told_of(libs, conda, HERE):
        raise SpecError("no such package", "hint", file=str(libs.with_name("conda.yml")), line=4, key="dependencies")
    assert str(caught.value) == f"{conda}:4: dependencies: no such package\n  hint"
    with pytest.raises(SpecError) as caught, told_of(libs, {"dependencies": []}, HERE):
        raise SpecError("no such package", file=str(libs), line=1, key="base")
    assert str(caught.value) == "job.yml:7: environment: conda_file: no such package"


def test_the_libs_file_is_plain_whatever_the_image_is_called(conda: Path) -> None:
    path = libs_of("base: {x}\n#y", conda, NOWHERE)
    assert json.loads(path.read_text())["base"] == "base: {x}\n#y"
    with pytest.raises(SpecError, match="is not an image"):
        load(path)
