"""Dated repositories laid out as Posit Package Manager's: binaries by User-Agent, sources, and when Debian's is taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.builder.r.repository import make_repository, sources_from_lock
from runner.builder.r.resolver import Resolver
from runner.errors import BuildError
from tests.unit.r_material import DEBIAN, Bench, asked, by_name, versions
from tests.unit.r_sites import Answer, Cran, Site, package

pytestmark = pytest.mark.usefixtures("r_environment")

DAY = "2026-06-01"
AGENT = "R (4.2.2 x86_64-pc-linux-gnu x86_64 linux-gnu)"


class Ppm:
    """Source packages of a day, and their binaries for bookworm, which only an R of the right version gets."""

    def __init__(self, site: Site, day: str = DAY) -> None:
        self.site = site
        self.source = Cran(site, f"/ppm/{day}", listed=False)
        self.binaries = Cran(site, f"/ppm/__linux__/bookworm/{day}", listed=False)

    def add(self, name: str, version: str, fields: str = "", *, built: str | None = "4.2.3") -> None:
        self.source.add(name, version, fields)
        self.binaries.add(name, version, fields)
        source = package(name, version, fields)
        binary = package(name, version, f"{fields}Built: R {built}; x86_64-pc-linux-gnu; 2026-05-31; unix\n")

        def answer(headers: Mapping[str, str]) -> Answer:
            return Answer(binary if built and headers["User-Agent"].startswith("R (4.") else source)

        self.site.pages[f"{self.binaries.prefix}/src/contrib/{name}_{version}.tar.gz"] = answer
        # One index for both, with the hash of the source.
        self.site.pages[f"{self.binaries.prefix}/src/contrib/PACKAGES.gz"] = self.site.pages[
            f"{self.source.prefix}/src/contrib/PACKAGES.gz"
        ]


@pytest.fixture(name="ppm")
def _ppm(site: Site, monkeypatch: pytest.MonkeyPatch) -> Ppm:
    monkeypatch.setenv("RUNNER_PPM", f"{site.address}/ppm")
    ppm = Ppm(site)
    ppm.add("tiny", "1.0")
    ppm.add("curly", "5.0", "Imports: tiny\nSystemRequirements: libcurl\nNeedsCompilation: yes\n")
    ppm.add("zoo", "1.8-11")
    ppm.add("jsonlite", "2.0")
    return ppm


@pytest.fixture(name="resolve")
def _resolve(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_binaries_of_the_day(resolve: Bench, ppm: Ppm, site: Site) -> None:
    resolved = resolve("curly", snapshot=DAY)
    assert versions(resolved) == {"curly": "5.0", "tiny": "1.0"}
    curly = resolved.source["curly"]
    assert (curly.binary, curly.compiled, curly.kind) == (True, False, "cran")
    path = f"/ppm/__linux__/bookworm/{DAY}/src/contrib/curly_5.0.tar.gz"
    assert curly.url == f"{site.address}{path}"
    assert site.headers(path)["User-Agent"] == AGENT
    # It is linked to libcurl, also where somebody else compiled it.
    assert resolved.sysreqs == ("libcurl4-openssl-dev",)


def test_r_is_told_that_a_binary_needs_no_compiler(resolve: Bench, ppm: Ppm) -> None:
    files = make_repository(resolve("curly", snapshot=DAY).source.values())
    entries = files["src/contrib/PACKAGES"].decode()
    assert "Package: curly\nVersion: 5.0\nImports: tiny\nNeedsCompilation: no\n" in entries


def test_without_a_suite_the_source_of_the_day(resolve: Bench, ppm: Ppm, site: Site) -> None:
    resolved = resolve("curly", snapshot=DAY, debian_suite=None)
    assert resolved.source["curly"].url == f"{site.address}/ppm/{DAY}/src/contrib/curly_5.0.tar.gz"
    assert resolved.source["curly"].compiled
    assert not any("__linux__" in path for path in site.paths)


def test_a_binary_for_another_r_is_not_used(resolve: Bench, ppm: Ppm, site: Site) -> None:
    ppm.add("stale", "1.0", "NeedsCompilation: yes\n", built="4.1.3")
    stale = resolve("stale", snapshot=DAY).source["stale"]
    assert stale.url == f"{site.address}/ppm/{DAY}/src/contrib/stale_1.0.tar.gz"
    assert (stale.binary, stale.compiled) == (False, True)


def test_where_nothing_was_built_the_source_is_handed_out(resolve: Bench, ppm: Ppm) -> None:
    ppm.add("plain", "1.0", built=None)
    assert not resolve("plain", snapshot=DAY).source["plain"].binary


def test_debian_is_taken_where_its_version_is_the_days_or_is_asked_for(resolve: Bench, ppm: Ppm) -> None:
    """zoo is the same in both; jsonlite 1.8.4 is older than the day's; Rcpp is not in the snapshot at all."""
    resolved = resolve("zoo", "jsonlite", "Rcpp", snapshot=DAY)
    assert set(resolved.binary) == {"zoo", "Rcpp"}
    assert versions(resolved) == {"jsonlite": "2.0"}
    assert set(resolve("jsonlite==1.8.4", snapshot=DAY).binary) == {"jsonlite"}
    assert versions(resolve("jsonlite>=1.8", snapshot=DAY)) == {"jsonlite": "2.0"}


def test_what_the_day_does_not_have_comes_from_the_repositories(resolve: Bench, ppm: Ppm, site: Site) -> None:
    cran = Cran(site, "/cran")
    cran.add("tiny", "9.0")
    cran.add("brandnew", "0.1", "Imports: tiny\n")
    resolve.repos = (cran.address,)
    assert versions(resolve("brandnew", snapshot=DAY)) == {"brandnew": "0.1", "tiny": "1.0"}


def test_an_exact_version_of_the_days_archive(resolve: Bench, ppm: Ppm) -> None:
    ppm.binaries.retire("tiny", "0.5")
    assert versions(resolve("tiny==0.5", snapshot=DAY)) == {"tiny": "0.5"}


def test_a_snapshot_that_cannot_be_had_is_no_reason_to_take_other_versions(
    resolve: Bench, site: Site, ppm: Ppm
) -> None:
    cran = Cran(site, "/cran")
    cran.add("tiny", "9.0")
    resolve.repos = (cran.address,)
    with pytest.raises(BuildError, match="2099-01-01 cannot be had: HTTP 404") as caught:
        resolve("tiny", snapshot="2099-01-01")
    assert "RUNNER_PPM" in str(caught.value)


def test_another_day_gives_up_what_was_locked(resolve: Bench, ppm: Ppm, site: Site) -> None:
    before = by_name(resolve("tiny", snapshot=DAY))
    later = Ppm(site, "2026-07-01")
    later.add("tiny", "1.2")
    site.asked.clear()
    assert versions(resolve("tiny", snapshot=DAY, preferred=before)) == {"tiny": "1.0"}
    assert site.asked == []
    assert versions(resolve("tiny", snapshot="2026-07-01", preferred=before)) == {"tiny": "1.2"}


def test_a_locked_binary_is_had_again_and_fits_one_r_only(
    resolve: Bench, ppm: Ppm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    locked = resolve("tiny", snapshot=DAY).locked()
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "another"))
    (again,) = sources_from_lock(locked, libs_folder=tmp_path, ca_bundle=None, r_version="4.2.1")
    assert again.binary
    with pytest.raises(BuildError, match=r"it was built for R 4\.2; the image has R 4\.3\.0"):
        sources_from_lock(locked, libs_folder=tmp_path, ca_bundle=None, r_version="4.3.0")


def test_the_machine_is_part_of_the_question(ppm: Ppm, site: Site, tmp_path: Path) -> None:
    resolver = Resolver(
        DEBIAN, (), "4.2.2", None, snapshot=DAY, debian_suite="bookworm", libs_folder=tmp_path, machine="aarch64"
    )
    resolver.resolve([asked("tiny")], {})
    agent = site.headers(f"/ppm/__linux__/bookworm/{DAY}/src/contrib/tiny_1.0.tar.gz")["User-Agent"]
    assert agent == "R (4.2.2 aarch64-pc-linux-gnu aarch64 linux-gnu)"
