"""renv.lock: alone and named by a libs.yaml; every source that renv records, and the error of those that cannot be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.errors import SpecError
from runner.spec import jsondoc, yamldoc
from runner.spec.libs import Libs, Remote, load


def lock(**packages: dict[str, Any]) -> dict[str, Any]:
    """A lock as renv writes it; keywords are the fields beside Package and Version."""
    found = {name: {"Package": name, "Version": "1.2-3", **fields} for name, fields in packages.items()}
    return {
        "R": {"Version": "4.2.2", "Repositories": [{"Name": "CRAN", "URL": "https://cran.example/"}]},
        "Packages": found,
    }


GITHUB = {
    "Source": "GitHub", "RemoteType": "github", "RemoteHost": "api.github.com", "RemoteUsername": "r-lib",
    "RemoteRepo": "cli", "RemoteRef": "main", "RemoteSha": "0123abc", "RemoteSubdir": "r/pkg",
}  # fmt: skip
WHOLE = lock(
    DBI={"Source": "Repository", "Repository": "CRAN", "Hash": "65b9", "Requirements": ["R", "methods"]},
    zoo={"Source": "Repository", "Repository": "https://universe.example"},
    limma={"Source": "Bioconductor"},
    edgeR={"Source": "Repository", "Repository": "BioCsoft"},
    cli=GITHUB,
    plain={"Source": "GitHub", "RemoteUsername": "o", "RemoteRepo": "plain", "RemoteRef": "v1"},
    web={"Source": "URL", "RemoteUrl": "https://example.org/web_1.2-3.tar.gz"},
    own={"Source": "Local", "RemoteUrl": "own"},
    cellar={"Source": "Local"},
) | {"Bioconductor": {"Version": "3.16"}, "Python": {"Version": "3.11.2", "Type": "virtualenv", "Name": "./v"}}


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "renv" / "cellar").mkdir(parents=True)
    (tmp_path / "renv" / "cellar" / "cellar_1.2-3.tar.gz").write_bytes(b"archive")
    write(tmp_path, WHOLE)
    return tmp_path


def write(folder: Path, data: Any) -> None:
    (folder / "renv.lock").write_text(json.dumps(data, indent=2))


def content(libs: Libs) -> tuple[object, ...]:
    return libs.r, libs.r_packages, libs.repos, libs.r_version_wanted, libs.bioconductor_version, libs.python


def test_alone(folder: Path) -> None:
    libs = load(Path("renv.lock"))
    assert (libs.r, libs.r_version_wanted, libs.bioconductor_version, libs.python) == (True, "4.2.2", "3.16", "3.11.2")
    assert libs.repos == ("https://cran.example", "https://universe.example")
    assert [(p.kind, p.name, p.remote) for p in libs.r_packages] == [
        ("cran", "DBI", None),
        ("cran", "zoo", None),
        ("bioconductor", "limma", None),
        ("bioconductor", "edgeR", None),
        ("github", "cli", Remote("github", "r-lib/cli", "0123abc", "r/pkg")),
        ("github", "plain", Remote("github", "o/plain", "v1")),
        ("github", "web", Remote("url", "https://example.org/web_1.2-3.tar.gz")),
        ("github", "own", Remote("path", str(folder / "own"))),
        ("github", "cellar", Remote("path", str(folder / "renv" / "cellar" / "cellar_1.2-3.tar.gz"))),
    ]
    assert {(p.constraints, p.file, p.key) for p in libs.r_packages if p.name == "DBI"} == {
        ((("==", "1.2-3"),), "renv.lock", "Packages.DBI")
    }
    text = (folder / "renv.lock").read_text().splitlines()
    assert all(f'"{package.name}": {{' in text[package.line - 1] for package in libs.r_packages)


def test_inside_is_as_alone(folder: Path) -> None:
    (folder / "libs.yaml").write_text("r: {file: renv.lock}\n")
    assert content(load(Path("renv.lock"))) == content(load(Path("libs.yaml")))


def test_inside_comes_on_top(folder: Path) -> None:
    (folder / "libs.yaml").write_text(
        "python: '3.11'\nr: {cran: [jsonlite], repos: ['https://own.example'], file: renv.lock}\n"
    )
    libs = load(Path("libs.yaml"))
    assert libs.repos == ("https://own.example", "https://cran.example", "https://universe.example")
    assert [package.name for package in libs.r_packages][:2] == ["jsonlite", "DBI"]
    assert (libs.python, libs.python_line) == ("3.11", 1)


def test_a_package_in_both_is_twice(folder: Path) -> None:
    (folder / "libs.yaml").write_text("r: {cran: [DBI], file: renv.lock}\n")
    with pytest.raises(
        SpecError, match=r"^renv\.lock:\d+: Packages\.DBI: DBI is listed twice \(first in libs\.yaml:1\)"
    ):
        load(Path("libs.yaml"))


@pytest.mark.parametrize(
    ("data", "where", "hint"),
    [
        (lock(a={"Source": "GitLab"}), "Packages.a: its source 'GitLab' is not supported", "supported: Repository"),
        (lock(a={"Source": "unknown"}), "Packages.a: its source 'unknown' is not supported", "renv::snapshot()"),
        (lock(a={"Source": 7}), "Packages.a: its source 7 is not supported", ""),
        (lock(a={"Source": "GitHub"}), "Packages.a: has no RemoteUsername", "renv::snapshot()"),
        (lock(a=GITHUB | {"RemoteHost": "git.corp.example"}), "Packages.a: comes from 'git.corp.example'", "source archive"),
        (lock(a=GITHUB | {"RemoteSha": "x y"}), "Packages.a: 'r-lib/cli/r/pkg@x y' is not a package on GitHub", ""),
        (lock(a={"Source": "URL"}), "Packages.a: has no RemoteUrl", ""),
        (lock(a={"Source": "URL", "RemoteUrl": "ftp://x"}), "Packages.a: 'ftp://x' is not an address", ""),
        (lock(a={"Source": "Local"}), "Packages.a: its source archive is not there", "renv/cellar/a_1.2-3.tar.gz"),
        (lock(a={"Source": "Local", "Path": "none"}), "Packages.a: no such file: none", ""),
        (lock(a={"Source": "Local", "Path": "../x"}), "Packages.a: ../x is outside the folder", ""),
        (lock(a={"Version": None}), "Packages.a: has no Version", ""),
        (lock(a={"Version": "new"}), "Packages.a.Version: 'new' is not a version", ""),
        (lock(**{"a-b": {}}), "Packages.a-b: 'a-b' is not an R package", ""),
        (lock(a={"RemoteUrl": "https://me:hunter2@x.test"}), "Packages.a.RemoteUrl: a login stands in", "UV_INDEX_"),
        (lock() | {"Packages": {"a": 1}}, "Packages.a: expected an object", ""),
        (lock() | {"Packages": []}, "Packages: expected an object", ""),
        (lock() | {"Julia": {}}, "Julia: unknown key of a renv.lock", "known: R, Packages"),
        (lock() | {"R": {"Version": "x"}}, "R.Version: 'x' is not a version", ""),
        (lock() | {"R": {"Repositories": 1}}, "R.Repositories: expected a list", ""),
        (lock() | {"R": {"Repositories": [{"Name": "CRAN"}]}}, "R.Repositories: expected an address", ""),
        (lock() | {"R": {"Repositories": [{"URL": "@CRAN@"}]}}, "R.Repositories: '@CRAN@' is not an address", ""),
        (lock() | {"Python": {"Version": "2.7.1"}}, "Python.Version: '2.7.1' is not a version of Python", ""),
        (lock() | {"Bioconductor": 3}, "Bioconductor: expected an object", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_had(folder: Path, data: Any, where: str, hint: str) -> None:
    write(folder, data)
    with pytest.raises(SpecError) as caught:
        load(Path("renv.lock"))
    message = str(caught.value)
    assert message.startswith("renv.lock:")
    assert where in message
    assert hint in message
    assert "hunter2" not in message
    key = where.partition(": ")[0].rpartition(".")[2]
    assert caught.value.line is not None
    line = (folder / "renv.lock").read_text().splitlines()[caught.value.line - 1]
    assert f'"{key}"' in line or "Repositories" in where


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"R": {}, "Packages": {}', "renv.lock:1: not valid JSON"),
        ('{"R": {},\n"Packages": {"a": {},\n"a": {}}}', "renv.lock:3: Packages.a: the key is given twice (first in line 2)"),
        ("{\n<<<<<<< HEAD\n", "renv.lock:2: it holds the marks of a git conflict"),
        ('{"a": 1}', "renv.lock: no libs file: of JSON only renv.lock is taken"),
        ('{"version": 1, "base": {}, "declared": {}, "packages": []}', "renv.lock: this is a lock of runner"),
        ('{"a": ' + "[" * 100_000, "renv.lock: "),
        ('{"R": ' + "9" * 5000 + ', "Packages": {}}', "renv.lock: "),
    ],
)  # fmt: skip
def test_what_is_no_lock(folder: Path, text: str, where: str) -> None:
    (folder / "renv.lock").write_text(text)
    with pytest.raises(SpecError) as caught:
        load(Path("renv.lock"))
    assert str(caught.value).startswith(where)


def test_lines_of_json_in_any_layout() -> None:
    text = '{"a" :\n {"b,{": [1,\n {"c"\n: 2}, "x:\\"}"],\n "d": {}}, "e": []}'
    document = jsondoc.parse(text, "f")
    lines = {path: document.line(path) for path in [("a",), ("a", "b,{"), ("a", "b,{", 1), ("a", "d"), ("e",)]}
    assert lines == {("a",): 1, ("a", "b,{"): 2, ("a", "b,{", 1): 3, ("a", "d"): 5, ("e",): 5}


def test_three_hundred_packages_with_their_whole_description(folder: Path) -> None:
    """As renv 1.1 writes them: what is read and where it stands is what the YAML reader says, which takes JSON too."""
    fields = {"Source": "Repository", "Repository": "CRAN", "Description": "x y z, [" * 20, "Imports": ["a", "b"] * 20}
    write(folder, lock(**{f"pkg{number}": fields for number in range(300)}))
    assert len(load(Path("renv.lock")).r_packages) == 300
    text = (folder / "renv.lock").read_text()
    ours, slower = jsondoc.parse(text, "renv.lock"), yamldoc.parse(text, "renv.lock")
    assert ours.data == slower.data
    for number in range(300):
        path = ("Packages", f"pkg{number}", "Imports")
        assert ours.line(path) == slower.line(path)
