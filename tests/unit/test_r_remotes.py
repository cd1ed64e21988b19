"""R packages of GitHub, of addresses and of this machine: found, made into packages, kept by the lock, and explained."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.builder.r import archive
from runner.builder.r.repository import sources_from_lock
from runner.errors import BuildError, SpecError
from runner.spec.libs import Remote
from tests.unit.r_material import Bench, by_name, remote, versions
from tests.unit.r_sites import Answer, Cran, Site, package, serving, tarball

pytestmark = pytest.mark.usefixtures("r_environment")

SHA = "3fa1c0de" * 5
OTHER = "beefcafe" * 5
CLI = remote("r-lib/cli@v3.6.0", Remote("github", "r-lib/cli", "v3.6.0"))


@pytest.fixture(name="codeload")
def _codeload() -> Iterator[Site]:
    with serving() as site:
        yield site


class GitHub:
    """The API of a site, which sends whoever wants an archive to another host, with a token in the address."""

    def __init__(self, api: Site, codeload: Site) -> None:
        self.api, self.codeload = api, codeload

    def commit(self, repo: str, ref: str, sha: str, files: dict[str, str], **options: int) -> None:
        self.api.put(f"/repos/{repo}/commits/{ref}", f'{{"sha": "{sha}"}}'.encode())
        there = f"/{repo}/legacy.tar.gz/{sha}?token=one-time"
        self.api.pages[f"/repos/{repo}/tarball/{sha}"] = Answer(
            status=302, headers={"Location": f"{self.codeload.address}{there}"}
        )
        self.codeload.put(there, tarball(f"{repo.replace('/', '-')}-{sha[:7]}", files, **options))


@pytest.fixture(name="github")
def _github(site: Site, codeload: Site, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    monkeypatch.setenv("RUNNER_GITHUB_API", site.address)
    github = GitHub(site, codeload)
    github.commit("r-lib/cli", "v3.6.0", SHA, {
        "DESCRIPTION": "Package: cli\nVersion: 3.6.0\nImports: utils, tiny (>= 1.0)\nSystemRequirements: libxml2\n",
        "R/cli.R": "f <- 1\n", "src/a.c": "int a;\n", "src/a.o": "stale", ".Rbuildignore": "^docs$\n",
        "docs/index.html": "<p>", ".github/x.yml": "a: 1\n",
    })  # fmt: skip
    return github


@pytest.fixture(name="resolve")
def _resolve(site: Site, tmp_path: Path) -> Bench:
    cran = Cran(site, "/cran")
    cran.add("tiny", "1.0")
    return Bench(tmp_path, (cran.address,))


def names(path: Path) -> set[str]:
    with tarfile.open(path) as made:
        return {member.name for member in made}


def test_a_tag_becomes_a_commit_and_the_commit_a_package(resolve: Bench, github: GitHub) -> None:
    resolved = resolve(CLI)
    source = resolved.source["cli"]
    assert (source.version, source.kind, source.compiled) == ("3.6.0", "github", True)
    assert source.url == f"{github.api.address}/repos/r-lib/cli/tarball/{SHA}#ref=v3.6.0"
    assert names(source.path) == {"cli/DESCRIPTION", "cli/R/cli.R", "cli/src/a.c", "cli/.github/x.yml"}
    assert versions(resolved) == {"cli": "3.6.0", "tiny": "1.0"}
    assert resolved.sysreqs == ("libxml2-dev",)


def test_a_commit_is_taken_as_it_is(resolve: Bench, github: GitHub) -> None:
    resolve(remote(f"r-lib/cli@{SHA}", Remote("github", "r-lib/cli", SHA)))
    assert not any("/commits/" in path for path in github.api.paths)


def test_the_name_is_read_from_the_package(resolve: Bench, github: GitHub) -> None:
    github.commit("o/r-thing", "HEAD", OTHER, {"DESCRIPTION": "Package: thing\nVersion: 0.1\n"})
    resolved = resolve(remote("o/r-thing", Remote("github", "o/r-thing")))
    assert [package.name for package in resolved.packages] == ["thing"]
    assert not resolved.source["thing"].compiled
    fine = remote("thing=o/r-thing", Remote("github", "o/r-thing"))
    assert set(resolve(fine).source) == {"thing"}
    with pytest.raises(SpecError, match=r"libs.yaml:7: r.github: .* holds the package thing, not other"):
        resolve(remote("other=o/r-thing", Remote("github", "o/r-thing")))


def test_a_folder_of_a_repository(resolve: Bench, github: GitHub) -> None:
    files = {"README": "no", "r/pkg/DESCRIPTION": "Package: inner\nVersion: 2\n", "r/pkg/R/a.R": "", "r/x/b": ""}
    github.commit("o/mono", "main", OTHER, files)
    source = resolve(remote("o/mono/r/pkg@main", Remote("github", "o/mono", "main", "r/pkg"))).source["inner"]
    assert names(source.path) == {"inner/DESCRIPTION", "inner/R/a.R"}
    assert source.url.endswith(f"/tarball/{OTHER}#ref=main&subdir=r%2Fpkg")
    with pytest.raises(SpecError, match="there is no DESCRIPTION in its folder r/nope"):
        resolve(remote("o/mono/r/nope@main", Remote("github", "o/mono", "main", "r/nope")))


def test_remotes_of_a_package_are_followed(resolve: Bench, github: GitHub) -> None:
    github.commit("o/top", "HEAD", SHA, {"DESCRIPTION": (
        "Package: top\nVersion: 1\nImports: dev (>= 1.0.9000), tiny\nSuggests: never\n"
        "Remotes: github::o/dev@next, o/never, gitlab::o/other\n"
    )})  # fmt: skip
    github.commit("o/dev", "next", OTHER, {"DESCRIPTION": "Package: dev\nVersion: 1.0.9001\n"})
    resolved = resolve(remote("o/top", Remote("github", "o/top")))
    assert versions(resolved) == {"top": "1", "dev": "1.0.9001", "tiny": "1.0"}
    assert [package.name for package in resolved.packages] == ["top"]
    assert not any("never" in path for path in github.api.paths)
    assert "top: Remotes: gitlab::o/other is not followed …" in resolve.told


def test_a_commit_that_another_package_cannot_use(resolve: Bench, github: GitHub, site: Site) -> None:
    cran = Cran(site, "/more")
    cran.add("user", "1.0", "Imports: cli (>= 4)\n")
    resolve.repos = (*resolve.repos, cran.address)
    with pytest.raises(SpecError) as caught:
        resolve("user", CLI)
    place, _, rest = str(caught.value).partition(" is had from ")
    assert place == "libs.yaml:7: r.github: cli 3.6.0"
    assert rest.endswith(f"/tarball/{SHA}, but asked for is >= 4 (needed by user 1.0, libs.yaml:4)")


def test_the_hash_is_of_the_files_and_not_of_how_they_were_compressed(
    resolve: Bench, github: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"DESCRIPTION": "Package: thing\nVersion: 1\n", "R/a.R": "x <- 1\n" * 500}
    github.commit("o/thing", "HEAD", OTHER, files)
    locked = resolve(remote("o/thing", Remote("github", "o/thing"))).locked()
    github.commit("o/thing", "HEAD", OTHER, files, level=1, mtime=99)
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "another"))
    (again,) = sources_from_lock(locked, libs_folder=tmp_path, ca_bundle=None, r_version="4.2.2")
    assert again.locked() == locked[0]
    github.commit("o/thing", "HEAD", OTHER, {**files, "R/a.R": "evil"})
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "third"))
    with pytest.raises(BuildError, match=r"thing 1 is locked, but .*: it has changed: its sha256"):
        sources_from_lock(locked, libs_folder=tmp_path, ca_bundle=None, r_version="4.2.2")


def test_the_locked_commit_is_kept_until_another_is_asked_for(resolve: Bench, github: GitHub) -> None:
    before = by_name(resolve(CLI))
    github.commit("r-lib/cli", "v3.6.0", OTHER, {"DESCRIPTION": "Package: cli\nVersion: 3.6.0.1\n"})
    github.api.asked.clear()
    assert versions(resolve(CLI, preferred=before)) == {"cli": "3.6.0", "tiny": "1.0"}
    assert github.api.asked == []
    github.commit("r-lib/cli", "v3.6.1", OTHER, {"DESCRIPTION": "Package: cli\nVersion: 3.6.1\n"})
    moved = remote("r-lib/cli@v3.6.1", Remote("github", "r-lib/cli", "v3.6.1"))
    assert versions(resolve(moved, preferred=before)) == {"cli": "3.6.1"}
    # No longer declared as a remote: a repository must have it.
    with pytest.raises(SpecError, match="no package named 'cli'"):
        resolve("cli", preferred=before)


@pytest.mark.parametrize("variable", ["GITHUB_TOKEN", "GITHUB_PAT"])
def test_the_token_goes_to_the_api_alone(
    resolve: Bench, github: GitHub, monkeypatch: pytest.MonkeyPatch, variable: str, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, "ghp_secret")
    resolved = resolve(CLI)
    api = github.api
    assert api.headers("/repos/r-lib/cli/commits/v3.6.0")["Authorization"] == "Bearer ghp_secret"
    assert api.headers(f"/repos/r-lib/cli/tarball/{SHA}")["Authorization"] == "Bearer ghp_secret"
    assert github.codeload.asked
    assert all("Authorization" not in headers for _, headers in github.codeload.asked)
    assert "ghp_secret" not in repr(resolved.locked())
    assert "one-time" not in repr(resolved.locked())
    cached = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert cached
    assert not any(b"ghp_secret" in raw for raw in cached)


def test_the_token_goes_in_clear_text_to_no_other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.builder.r.services import logins

    monkeypatch.setenv("GITHUB_TOKEN", "ghp_secret")
    monkeypatch.setenv("RUNNER_GITHUB_API", "http://github.example.org/api/v3")
    assert logins() == {}
    monkeypatch.setenv("RUNNER_GITHUB_API", "https://github.example.org/api/v3")
    assert logins() == {"https://github.example.org:443": "Bearer ghp_secret"}


@pytest.mark.parametrize(
    ("status", "token", "message"),
    [
        (401, "t", "refuses the login"),
        (403, "", "set GITHUB_TOKEN"),
        (429, "t", "asked too often"),
        (404, "", "there is no repository r-lib/cli on .*\n.*or it is private: set GITHUB_TOKEN"),
        (404, "t", "there is no repository r-lib/cli on .*\n.*the token may not read it"),
        (418, "", "answers with: HTTP 418"),
    ],
)
def test_what_github_may_say(
    resolve: Bench, github: GitHub, monkeypatch: pytest.MonkeyPatch, status: int, token: str, message: str
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", token)
    github.api.pages["/repos/r-lib/cli/commits/v3.6.0"] = Answer(b"{}", status)
    with pytest.raises((SpecError, BuildError), match=message) as caught:
        resolve(CLI)
    assert str(caught.value).startswith("libs.yaml:7: r.github: ")


def test_a_tag_that_is_not_there(resolve: Bench, github: GitHub) -> None:
    github.api.put("/repos/r-lib/cli/tags?per_page=100", b'[{"name": "v3.6.0"}, {"name": "v3.5.0"}]')
    with pytest.raises(SpecError) as caught:
        resolve(remote("r-lib/cli@v3.60", Remote("github", "r-lib/cli", "v3.60")))
    assert "r-lib/cli has no tag, branch or commit 'v3.60'" in str(caught.value)
    assert "did you mean @v3.6.0?" in str(caught.value)
    assert "its newest tags: v3.6.0, v3.5.0" in str(caught.value)


def test_github_that_cannot_be_reached(resolve: Bench) -> None:
    with pytest.raises(BuildError, match=r"cannot be had: .* answers with: Connection refused") as caught:
        resolve(CLI)
    assert "RUNNER_GITHUB_API" in str(caught.value)


def test_the_newest_release(resolve: Bench, github: GitHub) -> None:
    github.api.put("/repos/r-lib/cli/releases/latest", b'{"tag_name": "v3.6.0"}')
    assert versions(resolve(remote("r-lib/cli@*release", Remote("github", "r-lib/cli", "*release"))))["cli"] == "3.6.0"


def test_an_address(resolve: Bench, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("/files/proper_1.0.tar.gz", package("proper", "1.0", "Imports: tiny\n"))
    address = f"{site.address}/files/proper_1.0.tar.gz"
    declared = remote(address, Remote("url", address))
    resolved = resolve(declared)
    assert versions(resolved) == {"proper": "1.0", "tiny": "1.0"}
    assert (resolved.source["proper"].kind, resolved.source["proper"].url) == ("url", address)
    site.asked.clear()
    site.put("/files/proper_1.0.tar.gz", package("proper", "1.0.1", "Imports: tiny\n"))
    assert resolve(declared, preferred=by_name(resolved)).locked() == resolved.locked()
    assert site.asked == []
    assert versions(resolve(declared))["proper"] == "1.0.1"
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "another"))
    site.pages.clear()
    with pytest.raises(BuildError, match=r"proper_1.0.tar.gz cannot be had from .*HTTP 404"):
        resolve(declared)


def test_a_login_in_an_address_is_used_and_never_shown(resolve: Bench, site: Site) -> None:
    site.put("/proper.tar.gz", package("proper", "1.0"))
    address = site.address.replace("//", "//me:hush@")
    resolved = resolve(remote(f"proper={address}/proper.tar.gz", Remote("url", f"{address}/proper.tar.gz")))
    assert site.headers("/proper.tar.gz")["Authorization"].startswith("Basic ")
    assert resolved.source["proper"].url == f"{site.address}/proper.tar.gz"
    for name in ("other", "gone"):
        declared = remote(f"{name}={address}/{name}.tar.gz", Remote("url", f"{address}/{name}.tar.gz"))
        site.put("/other.tar.gz", package("proper", "1.0"))
        with pytest.raises((SpecError, BuildError)) as caught:
            resolve(declared)
        assert "hush" not in str(caught.value)
    assert not any("hush" in text for text in resolve.told)


def test_a_folder_of_this_machine(resolve: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "pkgs" / "mine"
    (folder / "R").mkdir(parents=True)
    (folder / "DESCRIPTION").write_text("Package: mine\nVersion: 0.1\nImports: tiny\n")
    (folder / "R" / "a.R").write_text("a <- 1\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")
    declared = remote("./pkgs/mine", Remote("path", str(folder)))
    first = resolve(declared)
    source = first.source["mine"]
    assert (source.url, source.kind) == ("./pkgs/mine", "path")
    assert names(source.path) == {"mine/DESCRIPTION", "mine/R/a.R"}
    assert versions(first) == {"mine": "0.1", "tiny": "1.0"}

    (folder / "R" / "a.R").touch()
    (folder / ".git" / "HEAD").write_text("another")
    assert resolve(declared).source["mine"].sha256 == source.sha256
    (again,) = sources_from_lock([source.locked()], libs_folder=tmp_path, ca_bundle=None, r_version="4.2.2")
    assert again == source

    (folder / "R" / "a.R").write_text("a <- 2\n")
    assert resolve(declared, preferred=by_name(first)).source["mine"].sha256 != source.sha256


def test_an_archive_of_this_machine(resolve: Bench, tmp_path: Path) -> None:
    (tmp_path / "mine_0.1.tar.gz").write_bytes(package("mine", "0.1"))
    resolved = resolve(remote("./mine_0.1.tar.gz", Remote("path", str(tmp_path / "mine_0.1.tar.gz"))))
    assert resolved.source["mine"].url == "./mine_0.1.tar.gz"


def test_what_is_no_package(resolve: Bench, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=r"./empty is no R package .* its DESCRIPTION cannot be read: No such file"):
        resolve(remote("./empty", Remote("path", str(tmp_path / "empty"))))
    (tmp_path / "a.tar.gz").write_bytes(b"something else")
    with pytest.raises(SpecError, match="it is no tar archive"):
        resolve(remote("./a.tar.gz", Remote("path", str(tmp_path / "a.tar.gz"))))
    with pytest.raises(SpecError, match=r"\./gone is no R package"):
        resolve(remote("./gone", Remote("path", str(tmp_path / "gone"))))


def test_a_link_to_a_file_beside_the_folder_of_a_package(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for name, text, link in [
            ("other/r/DESCRIPTION2", "of something else", ""),
            ("top/LICENSE", "free", ""),
            ("top/r/DESCRIPTION", "Package: p\nVersion: 1\n", ""),
            ("top/r/LICENSE", "", "../LICENSE"),
            ("top/r/R/a.R", "", "../DESCRIPTION"),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = tarfile.SYMTYPE if link else tarfile.REGTYPE, link, len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    made = io.BytesIO()
    archive.repack(tmp_path / "a.tar.gz", "r", made)
    made.seek(0)
    with tarfile.open(fileobj=made) as tar:
        assert set(tar.getnames()) == {"p/DESCRIPTION", "p/LICENSE", "p/R/a.R"}
        license_file = tar.extractfile("p/LICENSE")
        assert tar.getmember("p/LICENSE").isfile()
        assert license_file is not None
        assert license_file.read() == b"free"
        assert tar.getmember("p/R/a.R").linkname == "../DESCRIPTION"


def hostile(**change: object) -> bytes:
    """An archive whose second member is not what it should be."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        text = b"Package: evil\nVersion: 1\n"
        info = tarfile.TarInfo("evil/DESCRIPTION")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
        second = tarfile.TarInfo("evil/R/a.R")
        for key, value in change.items():
            setattr(second, key, value)
        tar.addfile(second)
    return made.getvalue()


HOSTILE = [
    ({"name": "../outside"}, "written outside"),
    ({"name": "evil/../../outside"}, "written outside"),
    ({"name": "evil/../beside"}, "written outside"),
    ({"name": "/etc/outside"}, "written outside"),
    ({"type": tarfile.SYMTYPE, "linkname": "../../outside"}, "outside the package's folder"),
    ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "outside the package's folder"),
    ({"type": tarfile.LNKTYPE, "linkname": "../outside"}, "outside the package's folder"),
    ({"type": tarfile.CHRTYPE}, "a device or pipe"),
    ({"type": tarfile.FIFOTYPE}, "a device or pipe"),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE)
def test_a_hostile_archive_is_refused_and_not_kept(
    resolve: Bench, site: Site, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    site.put("/evil.tar.gz", hostile(**change))
    with pytest.raises(BuildError, match=message):
        resolve(remote("evil", Remote("url", f"{site.address}/evil.tar.gz")))
    (tmp_path / "evil.tar.gz").write_bytes(hostile(**change))
    with pytest.raises(SpecError, match=message):
        resolve(remote("evil", Remote("path", str(tmp_path / "evil.tar.gz"))))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_link_that_leaves_a_folder_is_refused_and_one_inside_kept(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "DESCRIPTION").write_text("Package: p\nVersion: 1\n")
    (tmp_path / "p" / "NEWS").symlink_to("DESCRIPTION")
    made = io.BytesIO()
    archive.pack(tmp_path / "p", made)
    made.seek(0)
    with tarfile.open(fileobj=made) as tar:
        assert tar.getmember("p/NEWS").linkname == "DESCRIPTION"
    (tmp_path / "p" / "secret").symlink_to("../../etc")
    with pytest.raises(archive.BadArchiveError, match=r"secret is a link to \.\./\.\./etc"):
        archive.pack(tmp_path / "p", io.BytesIO())
