"""Whatever stands in a file, reading it ends in Libs or in a SpecError: never in a traceback, never hanging."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from runner.errors import SpecError
from runner.spec.libs import Libs, load
from runner.spec.named import Named, named

KEYS = ["name", "base", "python", "apt", "pip", "conda", "r", "env", "run", "user", "registry", "imports", "ca_bundle",
        "channels", "packages", "file", "cran", "bioconductor", "github", "repos", "snapshot", "sysreqs", "dependencies",
        "variables", "R", "Packages", "Version", "Source", "Repositories", "Python", "Bioconductor", "URL"]  # fmt: skip
WORDS = ["a", "a==1", "a=1", "-r x.txt", "-e .", "./", "../x", "/", "~", "https://a.example/a_1.tar.gz", "o/r@v1", "file://[",
         "a @ file:///x.whl", "3.11", "a::b >=1", "2026-06-01", "GitHub", "Local", "\x00", "-", "--", "${A}", "x" * 300,
         "https://a:b@c", "é", "a[b", "a;b", "\ud800"]  # fmt: skip

words = st.sampled_from(WORDS) | st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.dates() | words
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | words, inner, max_size=5),
)
documents = st.dictionaries(st.sampled_from(KEYS) | words, values, max_size=6)
FILES = st.sampled_from(["libs.yaml", "environment.yml", "renv.lock", "requirements.txt", "other"])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(name: str, raw: bytes) -> None:
    """Both readers; what `named` takes `load` may refuse, not the other way round."""
    Path(name).write_bytes(raw)
    results = list(_results(Path(name)))
    assert all(str(result) for result in results)
    assert not (isinstance(results[0], Libs) and isinstance(results[1], SpecError))


def _results(path: Path) -> Iterator[Libs | Named | SpecError]:
    for reader in (load, named):
        try:
            yield reader(path)
        except SpecError as error:
            yield error


@given(FILES, st.text(max_size=120))
@example("requirements.txt", "a @ file://[\n-r \x00\n")
@example("requirements.txt", "-r requirements.txt\n-c /\n")
@example("libs.yaml", "conda: {file: libs.yaml}\nr: {file: '.'}")
def test_any_text(name: str, text: str) -> None:
    read(name, text.encode("utf-8", "surrogatepass"))


@given(FILES, st.binary(max_size=60))
def test_any_bytes(name: str, raw: bytes) -> None:
    read(name, raw)


@given(FILES, documents)
def test_any_yaml(name: str, data: object) -> None:
    read(name, yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass"))


@given(FILES, documents)
def test_any_json(name: str, data: object) -> None:
    read(name, json.dumps(data, default=str).encode())


@given(st.dictionaries(words, st.dictionaries(st.sampled_from(
    ["Version", "Source", "Repository", "RemoteUrl", "RemoteHost", "RemoteUsername", "RemoteRepo", "RemoteSha",
     "RemoteSubdir", "Path"]), scalars, max_size=5)))  # fmt: skip
def test_any_packages_of_renv(packages: object) -> None:
    read("renv.lock", json.dumps({"R": {"Version": "4.2.2"}, "Packages": packages}, default=str).encode())


@given(
    st.sampled_from(["apt", "pip", "run"]) | st.tuples(st.sampled_from(["conda", "r"]), st.sampled_from(KEYS)), words
)
def test_any_item(key: str | tuple[str, str], item: str) -> None:
    data = {key: [item]} if isinstance(key, str) else {key[0]: {key[1]: [item]}}
    read("libs.yaml", yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass"))
