"""environment.yml: alone and named by a libs.yaml; what is taken, and the error of what cannot be honoured."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.spec.libs import Libs, load

WHOLE = """
name: My_Env 2
channels: [pytorch, conda-forge, nodefaults]
dependencies:
  - python=3.11
  - Numpy>=1.26,<2   # a comment
  - _openmp_mutex=4.5=2_gnu
  - pip
  - pip:
    - six==1.16.0
    - -r more.txt
    - ./wheels/thing-1.2-py3-none-any.whl
variables:
  N: 010
  FLAG: yes
prefix: /home/someone/miniconda3/envs/x
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "thing-1.2-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "more.txt").write_text("idna\n")
    (tmp_path / "environment.yml").write_text(WHOLE)
    return tmp_path


def content(libs: Libs) -> tuple[object, ...]:
    return libs.conda, libs.conda_channels, libs.pip, libs.pip_lines, libs.files, libs.env


def test_alone(folder: Path) -> None:
    libs = load(Path("environment.yml"))
    assert libs.name == "my-env-2"
    assert libs.conda_channels == ("pytorch", "conda-forge")
    assert [(p.name, p.spec, p.file, p.line, p.key) for p in libs.conda] == [
        ("python", "python=3.11", "environment.yml", 5, "dependencies"),
        ("numpy", "Numpy>=1.26,<2", "environment.yml", 6, "dependencies"),
        ("_openmp_mutex", "_openmp_mutex=4.5=2_gnu", "environment.yml", 7, "dependencies"),
        ("pip", "pip", "environment.yml", 8, "dependencies"),
    ]
    assert [(p.name, p.file, p.line) for p in libs.pip] == [
        ("six", "environment.yml", 10), ("idna", "more.txt", 1), ("thing", "environment.yml", 12),
    ]  # fmt: skip
    assert libs.pip_lines == ("six==1.16.0", "-r more.txt", "./wheels/thing-1.2-py3-none-any.whl")
    assert libs.env == {"N": "010", "FLAG": "yes"}


def test_inside_is_as_alone(folder: Path) -> None:
    (folder / "libs.yaml").write_text("conda: {file: environment.yml}\n")
    alone, inside = load(Path("environment.yml")), load(Path("libs.yaml"))
    assert content(alone) == content(inside)


def test_inside_comes_on_top(folder: Path) -> None:
    (folder / "libs.yaml").write_text(
        "pip: [attrs]\nconda: {channels: [bioconda], packages: [xz], file: environment.yml}\nenv: {N: x}\n"
    )
    libs = load(Path("libs.yaml"))
    assert libs.conda_channels == ("bioconda", "pytorch", "conda-forge")
    assert [package.name for package in libs.conda][:2] == ["xz", "python"]
    assert libs.pip_lines[:2] == ("attrs", "six==1.16.0")
    assert libs.env == {"N": "x", "FLAG": "yes"}


def test_paths_count_from_its_folder(folder: Path) -> None:
    sub = folder / "sub dir"
    sub.mkdir()
    for name in ("environment.yml", "more.txt", "wheels"):
        (folder / name).rename(sub / name)
    (sub / "environment.yml").write_text(WHOLE.replace("[pytorch,", "[./wheels,"))
    (folder / "libs.yaml").write_text("conda: {file: sub dir/environment.yml}\n")
    libs = load(Path("libs.yaml"))
    assert libs.pip_lines[1:] == ("-r sub dir/more.txt", "./sub dir/wheels/thing-1.2-py3-none-any.whl")
    assert libs.files == (sub / "more.txt", sub / "wheels" / "thing-1.2-py3-none-any.whl")
    assert libs.conda_channels[0] == f"file://{folder}/sub%20dir/wheels"
    assert libs.conda[0].file == "sub dir/environment.yml"


def test_a_package_in_both_is_twice(folder: Path) -> None:
    (folder / "libs.yaml").write_text("conda: {packages: [numpy], file: environment.yml}\n")
    with pytest.raises(SpecError) as caught:
        load(Path("libs.yaml"))
    message = "environment.yml:6: dependencies: numpy is listed twice (first in libs.yaml:1)"
    assert str(caught.value) == message


def test_defaults_are_what_conda_means_by_it(folder: Path) -> None:
    (folder / "environment.yml").write_text("channels: [defaults]\ndependencies: [a]\n")
    channels = load(Path("environment.yml")).conda_channels
    assert [channel.rsplit("/", 1)[-1] for channel in channels] == ["main", "r"]


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("name: x\n", "dependencies: expected a list", ""),
        ("dependencies: x\n", "1: dependencies: expected a list", ""),
        ("dependencies:\n- a\n- 1.5\n", "3: dependencies: expected text", ""),
        ("dependencies:\n- a\n- 'b=>1'\n", "3: dependencies: 'b=>1' is not a conda package", "did you mean b>=1?"),
        ("dependencies:\n- sel(win): a\n", "2: dependencies.sel(win): cannot be honoured", "known here: pip"),
        ("dependencies:\n- pip: six\n", "2: dependencies.pip: expected a list", ""),
        ("dependencies:\n- pip:\n  - a=1\n", "3: dependencies.pip: 'a=1' is not a requirement", "did you mean a==1?"),
        ("dependencies:\n- pip:\n  - -e .\n", "3: dependencies.pip: an editable install", "build a wheel"),
        ("dependencies:\n- pip:\n  - -r no.txt\n", "3: dependencies.pip: no such file: no.txt", ""),
        ("dependencies: [a]\nchannel: [b]\n", "2: channel: unknown key", "did you mean channels?"),
        ("dependencies: [a]\nplatforms: [b]\n", "2: platforms: unknown key of an environment.yml", "known: name,"),
        ("dependencies: [a]\nchannels: b\n", "2: channels: expected a list", ""),
        ("dependencies: [a]\nchannels: ['b c']\n", "2: channels: 'b c' is not a conda channel", ""),
        ("dependencies: [a]\nchannels: [[c]]\n", "2: channels: expected text", ""),
        ("dependencies: [a]\nvariables: b\n", "2: variables: expected a mapping", ""),
        ("dependencies: [a]\nvariables: {A-B: b}\n", "2: variables.A-B: 'A-B' is not a name", ""),
        ("dependencies: [a]\nvariables: {A: [b]}\n", "2: variables.A: expected text", ""),
        ("dependencies: [a]\nname: [b]\n", "2: name: expected text", ""),
        ("dependencies: [a, A]\n", "1: dependencies: a is listed twice", ""),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_slips(folder: Path, text: str, where: str, hint: str, inside: bool) -> None:
    (folder / "environment.yml").write_text(text)
    (folder / "libs.yaml").write_text("conda: {file: environment.yml}\n")
    with pytest.raises(SpecError) as caught:
        load(Path("libs.yaml" if inside else "environment.yml"))
    message = str(caught.value)
    assert message.startswith("environment.yml:")
    assert where in message
    assert hint in message


def test_a_bare_name_beside_a_spec_of_it_asks_for_nothing_more(folder: Path) -> None:
    """As many conda files have it: `pip=20.3.4`, then `pip` for the section below."""
    (folder / "environment.yml").write_text("dependencies: [pip=20.3.4, python=3.11, pip, numpy, {pip: [six]}]\n")
    assert [package.spec for package in load(Path("environment.yml")).conda] == ["pip=20.3.4", "python=3.11", "numpy"]
