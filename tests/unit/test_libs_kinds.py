"""Which files are taken as a libs file, by name and content, and that a requirements.txt alone is as one inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.spec.libs import load
from runner.spec.sources import open_source


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "My Project"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("libs.yaml", "apt: [a1]", "libs"),
        ("libs.r.yml", "apt: [a1]", "libs"),
        ("other.yml", "apt: [a1]", "libs"),
        ("other", "apt: [a1]", "libs"),
        ("libs.yaml", '{"apt": ["a1"]}', "libs"),
        ("requirements.txt", "six", "requirements"),
        ("requirements-dev.in", "six", "requirements"),
        ("dev.txt", "six", "requirements"),
        ("constraints.txt", "six", "requirements"),
        ("environment.yml", "dependencies: []", "environment"),
        ("environment.gpu.yaml", "dependencies: []", "environment"),
        ("conda.yml", "dependencies: []", "environment"),
        ("renv.lock", '{"R": {}, "Packages": {}}', "renv"),
        ("lock.json", '\n{"R": {}, "Packages": {}}', "renv"),
    ],
)
def test_kinds(name: str, text: str, kind: str) -> None:
    Path(name).write_text(text)
    assert open_source(Path(name)).kind == kind
    load(Path(name))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("pyproject.toml", "uv export"), ("poetry.lock", "poetry export"), ("Pipfile", "pipenv requirements")],
)
def test_what_is_not_taken_says_the_way(name: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(Path(name))
    assert str(caught.value).startswith(f"{name}: this kind of file is not taken\n")
    assert hint in str(caught.value)


def test_a_file_that_is_not_there_names_those_that_are() -> None:
    for name in ("renv.lock", "libs.yml"):
        Path(name).touch()
    with pytest.raises(SpecError) as caught:
        open_source(Path("libs.yaml"))
    assert str(caught.value).startswith("libs.yaml: no such file")
    assert caught.value.hints == ("there is libs.yml: --libs libs.yml", "there is renv.lock: --libs renv.lock")


def test_the_name_libs_wins_over_the_content() -> None:
    Path("libs.yaml").write_text("dependencies: [a]")
    with pytest.raises(SpecError, match=r"libs\.yaml:1: dependencies: unknown key\n  did you mean pip, apt, conda"):
        load(Path("libs.yaml"))


def test_requirements_alone_are_as_inside() -> None:
    Path("requirements.txt").write_text("six\n-r sub/more.txt\n-c c.txt\n")
    Path("sub").mkdir()
    Path("sub/more.txt").write_text("idna\n")
    Path("c.txt").write_text("idna<4\n")
    Path("libs.yaml").write_text("pip: [-r requirements.txt]\n")
    alone, inside = load(Path("requirements.txt")), load(Path("libs.yaml"))
    assert alone.name == inside.name == "my-project"
    for field in ("pip", "pip_lines", "pip_rest", "files"):
        assert getattr(alone, field) == getattr(inside, field), field
    assert [path.name for path in alone.files] == ["requirements.txt", "more.txt", "c.txt"]


def test_errors_call_the_files_as_the_user_called_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("requirements.txt").write_text("six\n-e .\n")
    Path("libs.yaml").write_text("pip: [-r requirements.txt]\n")
    monkeypatch.chdir("..")
    for name in ("requirements.txt", "libs.yaml"):
        with pytest.raises(SpecError, match=r"^My Project/requirements\.txt:2: an editable install"):
            load(Path("My Project", name))
