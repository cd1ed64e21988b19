"""R packages: versions as R compares them, and what is taken from Debian, a repository, its archive, or nowhere."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.builder.cran import Resolved, Resolver, repositories
from runner.builder.repository import make_repository, parse_dcf
from runner.errors import BuildError, SpecError
from runner.spec import rversion
from runner.spec.libs import load


@pytest.mark.parametrize(
    ("version", "constraint", "fits"),
    [
        ("1.7-10", ">=1.7-9", True),
        ("1.7.10", "==1.7-10", True),
        ("1.10", ">1.9", True),
        ("1.0", "<1.0.0", True),
        ("3.4.1", ">=3.4, <4", True),
        ("4.0", ">=3.4, <4", False),
        ("1.2", "!=1.2", False),
        ("1.2", "<=1.2", True),
    ],
)
def test_versions_compare_as_in_r(version: str, constraint: str, fits: bool) -> None:
    assert rversion.satisfies(version, rversion.parse_constraints(constraint)) is fits


@pytest.mark.parametrize(
    ("debian", "version"),
    [("1.14.8+dfsg-1", "1.14.8"), ("1.7-9-1", "1.7-9"), ("2:1.0-2", "1.0"), ("4.2.2.20221110-2", "4.2.2.20221110"),
     ("1.5-4-1+b1", "1.5-4"), ("1.2", "1.2")],
)  # fmt: skip
def test_the_version_inside_a_debian_version(debian: str, version: str) -> None:
    assert rversion.from_debian(debian) == version


@pytest.fixture(name="repo")
def _repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "cran" / "src" / "contrib"
    (folder / "Archive" / "old").mkdir(parents=True)
    index = [
        package(folder, "tiny", "1.0", ""),
        package(folder, "mid", "2.0", "Imports: tiny (>= 0.5), jsonlite,\n    methods\nNeedsCompilation: no\n"),
        package(folder, "native", "1.0", "LinkingTo: Rcpp (>= 1.0)\nNeedsCompilation: yes\n"),
        package(folder, "future", "1.0", "Depends: R (>= 99.1)\n"),
        package(folder, "orphan", "1.0", "Imports: nowhere\n"),
        package(folder, "old", "3.0", ""),
        package(folder, "jsonlite", "9.0", ""),
        package(folder, "pinned", "1.0", "Imports: tiny (>= 5)\n"),
    ]
    package(folder / "Archive" / "old", "old", "2.0", "Imports: tiny\n")
    (folder / "PACKAGES").write_text("\n".join(index))
    return tmp_path / "cran"


def package(folder: Path, name: str, version: str, fields: str) -> str:
    """Write a source archive; its entry for PACKAGES."""
    entry = f"Package: {name}\nVersion: {version}\n{fields}"
    with tarfile.open(folder / f"{name}_{version}.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo(f"{name}/DESCRIPTION")
        info.size = len(entry)
        archive.addfile(info, io.BytesIO(entry.encode()))
    md5 = hashlib.md5((folder / f"{name}_{version}.tar.gz").read_bytes()).hexdigest()
    return f"{entry}MD5sum: {md5}\n"


@pytest.fixture(name="resolve")
def _resolve(repo: Path, tmp_path: Path) -> Callable[..., Resolved]:
    def run(*cran: str, repos: tuple[str, ...] = (f"file://{repo}",)) -> Resolved:
        items = "".join(f'    - "{item}"\n' for item in cran)
        (tmp_path / "libs.yaml").write_text(f"r:\n  cran:\n{items}")
        debian = {"jsonlite": "1.8.4", "rcpp": "1.0.10", "zoo": "1.8-11"}
        return Resolver(debian, repos, "4.2.2", None).resolve(load(tmp_path / "libs.yaml").r_packages)

    return run


def versions(resolved: Resolved) -> dict[str, str]:
    return {name: source.version for name, source in resolved.source.items()}


def test_debian_first_and_then_no_repository_is_asked(resolve: Callable[..., Resolved]) -> None:
    resolved = resolve("jsonlite", "zoo>=1.8-9", repos=("http://127.0.0.1:9",))
    assert resolved.binary == {"r-cran-jsonlite": "1.8.4", "r-cran-zoo": "1.8-11"}
    assert resolved.source == {}


def test_a_version_that_debian_does_not_have_comes_from_source(resolve: Callable[..., Resolved]) -> None:
    assert versions(resolve("jsonlite>=2")) == {"jsonlite": "9.0"}
    assert versions(resolve("old==2.0")) == {"old": "2.0", "tiny": "1.0"}


def test_what_packages_need_comes_along(resolve: Callable[..., Resolved]) -> None:
    resolved = resolve("mid", "native")
    assert versions(resolved) == {"mid": "2.0", "tiny": "1.0", "native": "1.0"}
    assert resolved.binary == {"r-cran-jsonlite": "1.8.4", "r-cran-rcpp": "1.0.10"}
    assert {name for name, source in resolved.source.items() if source.compiled} == {"tiny", "native"}


@pytest.mark.parametrize(
    ("item", "message", "hint"),
    [
        ("tinny", "no package named 'tinny'", "did you mean tiny?"),
        ("Jsonlit", "no package named 'Jsonlit'", "did you mean jsonlite?"),
        ("xyzzy", "no package named 'xyzzy'", "searched: Debian r-cran-*, file://"),
        ("tiny==7", "no version of tiny fits == 7", "there is: 1.0"),
        ("zoo>=2", "no version of zoo fits >= 2", "there is: 1.8-11"),
        ("future", "future 1.0 needs R >= 99.1; the image has R 4.2.2", "older version"),
        ("orphan", "no package named 'nowhere' in the repositories (needed by orphan)", "searched"),
        ("pinned", "no version of tiny fits >= 5", "there is: 1.0"),
    ],
)
def test_what_cannot_be_had(resolve: Callable[..., Resolved], item: str, message: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve("jsonlite", item)
    assert caught.value.line == 4
    assert message in str(caught.value)
    assert hint in str(caught.value)


def test_two_wishes_that_cannot_both_hold(resolve: Callable[..., Resolved]) -> None:
    with pytest.raises(SpecError, match="tiny"):
        resolve("tiny", "pinned")


def test_a_repository_that_cannot_be_reached_is_named(resolve: Callable[..., Resolved]) -> None:
    with pytest.raises(SpecError) as caught:
        resolve("nothere", repos=("http://127.0.0.1:9/cran",))
    assert "http://127.0.0.1:9/cran (not reachable: " in str(caught.value)
    assert "RUNNER_CRAN" in str(caught.value)


def test_the_repository_for_the_image_holds_exactly_what_is_needed(resolve: Callable[..., Resolved]) -> None:
    files = make_repository(resolve("mid").source.values(), None, lambda _text: None)
    assert files.keys() == {"src/contrib/PACKAGES", "src/contrib/mid_2.0.tar.gz", "src/contrib/tiny_1.0.tar.gz"}
    entries = {entry["Package"]: entry for entry in parse_dcf(files["src/contrib/PACKAGES"].decode())}
    assert entries["mid"]["Imports"] == "tiny (>= 0.5), jsonlite, methods"


def test_a_damaged_archive_is_refused(resolve: Callable[..., Resolved], repo: Path) -> None:
    sources = resolve("tiny").source.values()
    (repo / "src" / "contrib" / "tiny_1.0.tar.gz").write_bytes(b"damaged")
    with pytest.raises(BuildError, match="damaged"):
        make_repository(sources, None, lambda _text: None)


def test_where_repositories_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNNER_CRAN", raising=False)
    assert len(repositories(())) == 1
    monkeypatch.setenv("RUNNER_CRAN", "https://one.example/ https://two.example")
    assert repositories(()) == ("https://one.example", "https://two.example")
    assert repositories(["https://own.example"]) == ("https://own.example",)
