"""A build from the lock alone: each file fetched or found, checked by its hash, and handed to R."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier

import pytest

from runner.builder.r.description import parse_dcf
from runner.builder.r.repository import make_repository, sources_from_lock
from runner.builder.r.source import Source
from runner.errors import BuildError
from runner.spec.lock import Locked
from tests.unit.r_material import Bench
from tests.unit.r_sites import Answer, Cran, Site

pytestmark = pytest.mark.usefixtures("r_environment")


@pytest.fixture(name="cran")
def _cran(site: Site) -> Cran:
    cran = Cran(site)
    cran.add("tiny", "1.0")
    cran.add("mid", "2.0", "Imports: tiny (>= 0.5), jsonlite,\n    methods\nNeedsCompilation: no\n", "Title: Mid\n")
    return cran


@pytest.fixture(name="locked")
def _locked(cran: Cran, tmp_path: Path) -> tuple[Locked, ...]:
    return Bench(tmp_path, (cran.address,))("mid").locked()


def again(folder: Path, locked: tuple[Locked, ...], told: list[str] | None = None) -> list[Source]:
    report = (told if told is not None else []).append
    return sources_from_lock(locked, libs_folder=folder, ca_bundle=None, r_version="4.2.2", report=report)


@pytest.fixture(name="empty_cache")
def _empty_cache(locked: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "another"))


def test_from_the_cache_nothing_is_asked(locked: tuple[Locked, ...], site: Site, tmp_path: Path) -> None:
    site.asked.clear()
    assert [source.name for source in again(tmp_path, locked)] == ["mid", "tiny"]
    assert site.asked == []


@pytest.mark.usefixtures("empty_cache")
def test_from_the_addresses(locked: tuple[Locked, ...], site: Site, tmp_path: Path) -> None:
    told: list[str] = []
    site.asked.clear()
    sources = again(tmp_path, locked, told)
    assert sorted(site.paths) == ["/src/contrib/mid_2.0.tar.gz", "/src/contrib/tiny_1.0.tar.gz"]
    assert [source.locked() for source in sources] == [each for each in locked if each.source != "debian"]
    assert sorted(text.split(" (")[0] for text in told) == ["mid 2.0", "tiny 1.0"]


@pytest.mark.usefixtures("empty_cache")
def test_a_version_that_went_to_the_archive(locked: tuple[Locked, ...], site: Site, cran: Cran, tmp_path: Path) -> None:
    page = site.pages.pop("/src/contrib/tiny_1.0.tar.gz")
    site.pages["/src/contrib/Archive/tiny/tiny_1.0.tar.gz"] = page
    assert [source.name for source in again(tmp_path, locked)] == ["mid", "tiny"]


@pytest.mark.usefixtures("empty_cache")
def test_what_is_gone_or_changed_is_named(locked: tuple[Locked, ...], site: Site, cran: Cran, tmp_path: Path) -> None:
    site.pages.pop("/src/contrib/tiny_1.0.tar.gz")
    cran.add("mid", "2.0", "Title: Changed\n")
    with pytest.raises(BuildError) as caught:
        again(tmp_path, locked)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("mid 2.0 is locked, but http://127.0.0.1")
    assert "it has changed: its sha256 is " in lines[0]
    assert lines[1].strip().startswith("tiny 1.0 is locked, but http://127.0.0.1")
    assert lines[1].endswith("HTTP 404 Not Found")
    assert "runner build --upgrade mid --upgrade tiny" in lines[2]


@pytest.mark.usefixtures("empty_cache")
def test_files_come_side_by_side(locked: tuple[Locked, ...], site: Site, tmp_path: Path) -> None:
    """Each answer waits until the other is asked for: one after the other would never end."""
    both = Barrier(2, timeout=20)

    def when_both(page: Answer) -> Answer:
        both.wait()
        return page

    for name in ("tiny_1.0", "mid_2.0"):
        page = site.pages[f"/src/contrib/{name}.tar.gz"]
        assert isinstance(page, Answer)
        site.pages[f"/src/contrib/{name}.tar.gz"] = lambda _, page=page: when_both(page)  # type: ignore[misc]
    assert len(again(tmp_path, locked)) == 2


def test_the_repository_holds_exactly_what_is_needed(locked: tuple[Locked, ...], tmp_path: Path) -> None:
    files = make_repository(again(tmp_path, locked))
    assert files.keys() == {"src/contrib/PACKAGES", "src/contrib/mid_2.0.tar.gz", "src/contrib/tiny_1.0.tar.gz"}
    entries = {entry["Package"]: entry for entry in parse_dcf(files["src/contrib/PACKAGES"].decode())}
    assert entries == {
        "mid": {
            "Package": "mid",
            "Version": "2.0",
            "Imports": "tiny (>= 0.5), jsonlite, methods",
            "NeedsCompilation": "no",
        },
        "tiny": {"Package": "tiny", "Version": "1.0", "NeedsCompilation": "no"},
    }
