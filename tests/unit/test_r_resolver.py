"""R packages of Debian and of CRAN-like repositories: what is taken, and what is said when nothing fits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from runner.builder.r.resolved import Binary
from runner.builder.r.services import repositories
from runner.errors import BuildError, SpecError
from runner.spec.lock import Locked
from tests.unit.r_material import Bench, asked, by_name, versions
from tests.unit.r_sites import Answer, Cran, Site

pytestmark = pytest.mark.usefixtures("r_environment")


@pytest.fixture(name="cran")
def _cran(site: Site) -> Cran:
    cran = Cran(site, "/cran")
    cran.add("tiny", "1.0")
    cran.add("mid", "2.0", "Imports: tiny (>= 0.5), jsonlite,\n    methods\nNeedsCompilation: no\n")
    cran.add("native", "1.0", "LinkingTo: Rcpp (>= 1.0)\nNeedsCompilation: yes\n", "SystemRequirements: OpenSSL >= 1\n")
    cran.add("future", "1.0", "Depends: R (>= 99.1)\n")
    cran.add("orphan", "1.0", "Imports: nowhere\n")
    cran.add("old", "3.0")
    cran.add("jsonlite", "9.0")
    cran.add("pinned", "1.0", "Imports: tiny (>= 5)\n")
    cran.add("modern", "3.0", "Depends: R (>= 4.3)\n")
    cran.retire("old", "2.0", "Imports: tiny\n")
    cran.retire("old", "1.1-3")
    cran.retire("old", "1.0")
    cran.retire("modern", "2.0", "Depends: R (>= 4.2)\n")
    cran.retire("modern", "2.5", "Depends: R (>= 4.3)\n")
    cran.retire("removed", "1.4")
    return cran


@pytest.fixture(name="resolve")
def _resolve(cran: Cran, tmp_path: Path) -> Bench:
    return Bench(tmp_path, (cran.address,))


def test_debian_first_and_then_no_repository_is_asked(resolve: Bench, site: Site) -> None:
    resolved = resolve("jsonlite", "zoo>=1.8-9")
    assert resolved.binary == {
        "jsonlite": Binary("jsonlite", "r-cran-jsonlite", "1.8.4+dfsg-1"),
        "zoo": Binary("zoo", "r-cran-zoo", "1.8-11-1"),
    }
    assert resolved.source == {}
    assert site.asked == []


def test_an_older_version_of_debian_is_taken_where_it_is_asked_for(resolve: Bench) -> None:
    assert resolve("Rcpp==1.0.9").binary["Rcpp"].debian_version == "1.0.9-1"


def test_a_version_that_debian_does_not_have_comes_from_source(resolve: Bench, cran: Cran) -> None:
    resolved = resolve("jsonlite>=2")
    assert versions(resolved) == {"jsonlite": "9.0"}
    source = resolved.source["jsonlite"]
    assert source.url == f"{cran.address}/src/contrib/jsonlite_9.0.tar.gz"
    assert source.sha256 == hashlib.sha256(source.path.read_bytes()).hexdigest()
    assert source.kind == "cran"
    assert source.locked() == Locked("r", "jsonlite", "9.0", source.url, (f"sha256:{source.sha256}",))


def test_without_debian_all_is_source(resolve: Bench) -> None:
    resolve.debian = {}
    assert resolve("mid").binary == {}
    assert versions(resolve("mid")) == {"mid": "2.0", "tiny": "1.0", "jsonlite": "9.0"}


def test_what_the_base_image_has_is_not_installed_again(resolve: Bench, site: Site) -> None:
    resolve.debian = {}
    resolved = resolve("tiny", "jsonlite>=2", installed={"tiny": "0.9", "jsonlite": "1.8"})
    assert versions(resolved) == {"jsonlite": "9.0"}
    assert [locked.name for locked in resolved.locked()] == ["jsonlite"]


def test_what_packages_need_comes_along(resolve: Bench) -> None:
    resolved = resolve("mid", "native")
    assert versions(resolved) == {"mid": "2.0", "tiny": "1.0", "native": "1.0"}
    assert {name: binary.package for name, binary in resolved.binary.items()} == {
        "jsonlite": "r-cran-jsonlite",
        "Rcpp": "r-cran-rcpp",
    }
    assert {name for name, source in resolved.source.items() if source.compiled} == {"native"}
    assert resolved.sysreqs == ("libssl-dev",)
    assert any(text.startswith("native 1.0 (") for text in resolve.told)


@pytest.mark.parametrize(
    ("item", "version"),
    [("old==2.0", "2.0"), ("old<=2", "1.1-3"), ("old>=1,<1.1", "1.0"), ("old==1.1.3", "1.1-3"), ("old", "3.0")],
)
def test_the_archive_gives_the_newest_version_that_fits(resolve: Bench, item: str, version: str) -> None:
    assert resolve(item).source["old"].version == version


def test_an_older_version_for_an_older_r(resolve: Bench) -> None:
    assert versions(resolve("modern")) == {"modern": "2.0"}
    resolve.r_version = "4.3.1"
    assert versions(resolve("modern")) == {"modern": "3.0"}


def test_an_archive_without_listing_gives_exact_versions_only(site: Site, tmp_path: Path) -> None:
    cran = Cran(site, "/bare", listed=False)
    cran.add("old", "3.0")
    cran.retire("old", "2.0")
    resolve = Bench(tmp_path, (cran.address,))
    assert versions(resolve("old==2.0")) == {"old": "2.0"}
    with pytest.raises(SpecError, match="no version of old fits <= 2") as caught:
        resolve("old<=2")
    assert "no Archive of them lists versions: an older one must be asked for exactly" in str(caught.value)


def test_repositories_on_this_machine(resolve: Bench, cran: Cran, site: Site, tmp_path: Path) -> None:
    for path, answer in site.pages.items():
        if isinstance(answer, Answer) and not path.endswith("/"):
            file = tmp_path / "copy" / path.removeprefix("/cran/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(answer.body)
    resolve.repos = ((tmp_path / "copy").as_uri(),)
    assert versions(resolve("old<=2", "tiny")) == {"old": "1.1-3", "tiny": "1.0"}
    assert site.asked == []


def test_repositories_in_the_order_in_which_they_are_named(site: Site, cran: Cran, tmp_path: Path) -> None:
    own = Cran(site, "/own")
    own.add("tiny", "0.7")
    assert versions(Bench(tmp_path, (own.address, cran.address))("tiny", "old")) == {"tiny": "0.7", "old": "3.0"}
    assert versions(Bench(tmp_path, (own.address, cran.address))("tiny>=1")) == {"tiny": "1.0"}


def test_a_wish_that_comes_later_changes_an_earlier_choice(site: Site, tmp_path: Path) -> None:
    """Debian's jsonlite serves the first package; the second wants a newer one, and with it all that one needs."""
    cran = Cran(site, "/two")
    cran.add("first", "1.0", "Imports: jsonlite\n")
    cran.add("second", "1.0", "Imports: third\n")
    cran.add("third", "1.0", "Imports: jsonlite (>= 2)\n")
    cran.add("jsonlite", "2.1", "Imports: extra\n")
    cran.add("extra", "0.1")
    resolved = Bench(tmp_path, (cran.address,))("first", "second")
    assert resolved.binary == {}
    assert versions(resolved)["jsonlite"] == "2.1"
    assert "extra" in resolved.source


@pytest.mark.parametrize(
    ("item", "message", "hint"),
    [
        ("tinny", "no package named 'tinny'", "did you mean tiny?"),
        ("Jsonlit", "no package named 'Jsonlit'", "did you mean jsonlite?"),
        ("xyzzy", "no package named 'xyzzy'", "searched: Debian r-cran-*, r-bioc-*, http://127.0.0.1"),
        ("limma", "no package named 'limma'", "put it under r.bioconductor"),
        ("tiny==7", "no version of tiny fits == 7", "there is: 1.0"),
        ("zoo>=2", "no version of zoo fits >= 2", "there is: 1.8-11"),
        ("old>=4", "no version of old fits >= 4", "there is: 3.0, 2.0, 1.1-3, 1.0"),
        ("removed", "removed was removed from the repositories", "ask for removed==1.4"),
        ("future", "future 1.0 needs R >= 99.1; the image has R 4.2.2", "older version"),
        (
            "orphan",
            "no package named 'nowhere' in the repositories that can be reached (needed by orphan 1.0)",
            "searched",
        ),
        ("pinned", "no version of tiny fits >= 5 (needed by pinned 1.0)", "there is: 1.0"),
    ],
)
def test_what_cannot_be_had(resolve: Bench, item: str, message: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve("jsonlite", item)
    assert str(caught.value).startswith("libs.yaml:5: r.cran: ")
    assert message in str(caught.value)
    assert hint in str(caught.value)
    assert "must be asked for exactly" not in str(caught.value)


def test_a_conflict_names_both_sides(resolve: Bench, cran: Cran) -> None:
    cran.add("needs", "1.1", "Imports: old (>= 3)\n")
    with pytest.raises(SpecError) as caught:
        resolve("needs", "old==2.0")
    assert str(caught.value).startswith(
        "libs.yaml:5: r.cran: no version of old fits all that is asked for: "
        "== 2.0 (declared in libs.yaml:5); >= 3 (needed by needs 1.1, libs.yaml:4)"
    )


def test_two_packages_that_cannot_stand_together(resolve: Bench, cran: Cran) -> None:
    cran.add("low", "1.0", "Imports: old (< 3)\n")
    cran.add("high", "1.0", "Imports: mean\n")
    cran.add("mean", "1.0", "Imports: old (>= 3)\n")
    with pytest.raises(SpecError) as caught:
        resolve("low", "high")
    assert "< 3 (needed by low 1.0, libs.yaml:4)" in str(caught.value)
    assert ">= 3 (needed by mean 1.0 for high, libs.yaml:5)" in str(caught.value)


def test_a_repository_that_cannot_be_reached_is_named(resolve: Bench) -> None:
    resolve.repos = ("http://user:secret@127.0.0.1:9/cran",)
    with pytest.raises(SpecError) as caught:
        resolve("nothere")
    assert "no package named 'nothere' in the repositories that can be reached" in str(caught.value)
    assert "http://127.0.0.1:9/cran (not reachable: Connection refused)" in str(caught.value)
    assert "RUNNER_CRAN" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_what_the_index_says(resolve: Bench, site: Site, cran: Cran) -> None:
    site.put("/cran/src/contrib/tiny_1.0.tar.gz", b"damaged")
    with pytest.raises(BuildError, match=r"libs.yaml:4: .*tiny_1.0.tar.gz cannot be had: damaged: its checksum"):
        resolve("tiny")
    site.pages.pop("/cran/src/contrib/mid_2.0.tar.gz")
    with pytest.raises(BuildError) as caught:
        resolve("jsonlite", "mid")
    mid, tiny, *_ = str(caught.value).splitlines()
    assert mid.startswith("libs.yaml:5: r.cran: mid 2.0: ")
    assert mid.endswith("/mid_2.0.tar.gz cannot be had: HTTP 404 Not Found")
    assert tiny.strip().startswith("tiny 1.0: ")


def test_what_the_lock_holds_is_kept_and_nothing_is_asked(resolve: Bench, cran: Cran, site: Site) -> None:
    before = resolve("mid", "native", "old==2.0", "Rcpp==1.0.9")
    site.asked.clear()
    cran.add("tiny", "1.1")
    again = resolve("mid", "native", "old", "Rcpp", preferred=by_name(before))
    assert again.locked() == before.locked()
    assert site.asked == []


def test_what_no_longer_fits_is_resolved_and_the_rest_kept(resolve: Bench, cran: Cran) -> None:
    before = by_name(resolve("mid", "old==2.0", "jsonlite"))
    cran.add("tiny", "1.1")
    after = resolve("mid", "old>=3", "jsonlite>=2", preferred=before)
    assert versions(after) == {"mid": "2.0", "tiny": "1.0", "old": "3.0", "jsonlite": "9.0"}


def test_what_can_no_longer_be_had_is_resolved_anew(
    resolve: Bench, cran: Cran, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = by_name(resolve("tiny", "Rcpp"))
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "another"))
    site.pages.pop("/cran/src/contrib/tiny_1.0.tar.gz")
    cran.add("tiny", "1.1")
    resolve.debian = {"r-cran-rcpp": ("1.0.11-1",)}
    after = resolve("tiny", "Rcpp", preferred=before)
    assert versions(after) == {"tiny": "1.1"}
    assert after.binary["Rcpp"].debian_version == "1.0.11-1"


def test_a_package_declared_twice(resolve: Bench) -> None:
    with pytest.raises(SpecError, match=r"libs.yaml:9: .*tiny is listed twice \(first in line 4"):
        resolve("tiny", asked("tiny", "bioconductor", line=9))


def test_where_repositories_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(repositories(())) == 1
    monkeypatch.setenv("RUNNER_CRAN", "https://one.example/ https://two.example")
    assert repositories(()) == ("https://one.example", "https://two.example")
    assert repositories(["https://own.example"]) == ("https://own.example",)
