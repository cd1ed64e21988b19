"""Bioconductor: Debian's r-bioc-* first, then the release for R, across its parts and CRAN."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.builder.r import services
from runner.errors import SpecError
from tests.unit.r_material import Bench, asked, versions
from tests.unit.r_sites import Cran, Site

pytestmark = pytest.mark.usefixtures("r_environment")


@pytest.fixture(name="resolve")
def _resolve(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("RUNNER_BIOCONDUCTOR", f"{site.address}/packages/")
    bioc = Cran(site, "/packages/3.16/bioc")
    bioc.add("limma", "3.54.2", "Depends: R (>= 3.6.0)\nImports: statmod\n")
    bioc.add("GSVA", "1.46.0", "Imports: limma (>= 3.54.2), org.Hs.eg.db, onlycran\n")
    bioc.retire("GSVA", "1.46.0-1")
    Cran(site, "/packages/3.16/data/annotation").add("org.Hs.eg.db", "3.16.0")
    Cran(site, "/packages/3.16/data/experiment").add("ALL", "1.40.0")
    cran = Cran(site, "/cran")
    cran.add("onlycran", "1.0")
    cran.add("statmod", "1.5.0")
    cran.add("WGCNA", "1.72", "Imports: impute\n")
    bioc.add("impute", "1.72.3")
    return Bench(tmp_path, (cran.address,))


def test_debian_has_it(resolve: Bench, site: Site) -> None:
    assert resolve(asked("limma", "bioconductor")).binary["limma"].package == "r-bioc-limma"
    assert site.asked == []


def test_the_release_for_r_and_dependencies_on_both_sides(resolve: Bench, site: Site) -> None:
    resolved = resolve(asked("GSVA", "bioconductor"), asked("ALL", "bioconductor"), "WGCNA")
    assert versions(resolved) == {
        "ALL": "1.40.0", "GSVA": "1.46.0", "WGCNA": "1.72", "impute": "1.72.3", "limma": "3.54.2", "onlycran": "1.0",
        "org.Hs.eg.db": "3.16.0", "statmod": "1.5.0",
    }  # fmt: skip
    kinds = {name: source.kind for name, source in resolved.source.items()}
    assert {name for name, kind in kinds.items() if kind == "cran"} == {"WGCNA", "onlycran", "statmod"}
    assert resolved.source["ALL"].url == (f"{site.address}/packages/3.16/data/experiment/src/contrib/ALL_1.40.0.tar.gz")


def test_a_declared_package_of_cran_is_not_looked_for_there(resolve: Bench, site: Site) -> None:
    with pytest.raises(SpecError, match="no package named 'impute'"):
        resolve("impute")
    assert not any(path.startswith("/packages") for path in site.paths)


def test_a_misspelt_name(resolve: Bench) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(asked("GSVB", "bioconductor"))
    assert str(caught.value).startswith("libs.yaml:4: r.bioconductor: no package named 'GSVB'")
    assert "did you mean GSVA?" in str(caught.value)
    assert "/packages/3.16/data/annotation" in str(caught.value)


def test_an_r_that_the_table_does_not_know(resolve: Bench, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve.r_version, resolve.debian = "9.9.0", {}
    with pytest.raises(SpecError, match=r"no release of Bioconductor is known for R 9.9.0") as caught:
        resolve(asked("ALL", "bioconductor"))
    assert "RUNNER_BIOCONDUCTOR" in str(caught.value)
    monkeypatch.setenv("RUNNER_BIOCONDUCTOR", f"{site.address}/packages/3.16")
    assert versions(resolve(asked("ALL", "bioconductor"))) == {"ALL": "1.40.0"}


@pytest.mark.parametrize(("r", "release"), [("4.0.5", "3.12"), ("4.2.2", "3.16"), ("4.5.1", "3.22")])
def test_releases(r: str, release: str) -> None:
    parts = services.bioconductor(r)
    assert parts is not None
    assert [part.rsplit("not-named/", 1)[-1] for part in parts] == [
        f"{release}/bioc", f"{release}/data/annotation", f"{release}/data/experiment",
    ]  # fmt: skip
