"""R itself takes what the resolver makes: a commit, a folder with C code, an archive, and a binary of another machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.builder.r.repository import make_repository, sources_from_lock
from runner.builder.r.resolver import Resolver
from runner.builder.recipe import STEPS
from runner.spec.libs import Package, Remote
from tests.e2e.build_material import C_CODE, docker
from tests.unit.r_sites import Answer, Cran, Site, package, serving, tarball

pytestmark = [pytest.mark.docker]

DAY = "2026-06-01"
SHA = "0123456789" * 4
# Only Authors@R, as in repositories: `R CMD build` would have written the rest.
AUTHOR = (
    'Title: Test Package\nDescription: For tests.\nAuthors@R: person("A", "B", email = "a@b.org", '
    'role = c("aut", "cre"))\nLicense: MIT\n'
)
CHECK = """
.libPaths("/tmp/library")
stopifnot(infolder::twice(21) == 42, fromgithub::hello() == "commit", ready::made() == "binary", boxed::it() == 1)
cat(format(packageVersion("fromgithub")), "\\n")
"""


@pytest.fixture
def compilers(make: Callable[..., Any]) -> str:
    """An image with R and its compilers."""
    tag: str = make("name: runner-test-r-sources\napt: [r-base-dev]\nr: {}\n").image.tag
    return tag


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as found:
        yield found


def run(image: str, folder: Path, command: str) -> str:
    mounts = ("-v", f"{folder}/in:/mnt/in:ro", "-v", f"{folder}/out:/mnt/out")
    return docker("run", "--rm", "--user", "0", "--network", "none", *mounts, image, "/bin/sh", "-euc", command)


def files(name: str, code: str, fields: str = "") -> dict[str, str]:
    return {
        "DESCRIPTION": f"Package: {name}\nVersion: 1.0.9000\n{AUTHOR}{fields}",
        "NAMESPACE": 'exportPattern("^[a-z]")\n',
        "R/code.R": code,
    }


def built(image: str, folder: Path) -> bytes:
    """A package as a repository of binaries has it: installed by R, packed by R."""
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    content = files("ready", 'made <- function() "binary"\n')
    (folder / "in" / "ready_1.0.9000.tar.gz").write_bytes(tarball("ready", content))
    run(image, folder, "cd /mnt/out; mkdir /tmp/l; R CMD INSTALL --build -l /tmp/l /mnt/in/ready_1.0.9000.tar.gz")
    (made,) = (folder / "out").glob("*.tar.gz")
    return made.read_bytes()


def in_folder(folder: Path) -> Remote:
    """A package with C code, and an object file of some other machine beside it."""
    own = folder / "infolder"
    content = {
        **files("infolder", "twice <- function(x) .Call(runner_twice, x)\n", "Imports: fromgithub\n"),
        "NAMESPACE": "useDynLib(infolder, runner_twice)\nimport(fromgithub)\nexport(twice)\n",
        "src/twice.c": C_CODE,
        "src/twice.o": "not for this machine",
    }
    for name, text in content.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text)
    return Remote("path", str(own))


def test_r_installs_them_all(compilers: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNNER_GITHUB_API", site.address)
    monkeypatch.setenv("RUNNER_PPM", f"{site.address}/ppm")
    binary = built(compilers, tmp_path / "binary")
    ppm = Cran(site, f"/ppm/__linux__/bookworm/{DAY}", listed=False)
    ppm.add("ready", "1.0.9000")

    def answer(headers: Mapping[str, str]) -> Answer:
        return Answer(binary if headers["User-Agent"].startswith("R (4.") else package("ready", "1.0.9000"))

    site.pages[f"{ppm.prefix}/src/contrib/ready_1.0.9000.tar.gz"] = answer
    site.put("/repos/o/repo/commits/v1", f'{{"sha": "{SHA}"}}'.encode())
    code = files("fromgithub", 'hello <- function() "commit"\n', "Imports: ready\n")
    site.put(f"/repos/o/repo/tarball/{SHA}", tarball("o-repo-0123456", {f"pkg/{key}": code[key] for key in code}))
    site.put("/boxed.tar.gz", tarball("boxed-main", files("boxed", "it <- function() 1\n")))

    remotes = [
        in_folder(tmp_path),
        Remote("github", "o/repo", "v1", "pkg"),
        Remote("url", f"{site.address}/boxed.tar.gz"),
    ]
    declared = [Package("github", "?", each.target, "libs.yaml", 1, "r.github", remote=each) for each in remotes]
    r_version = docker("run", "--rm", compilers, "Rscript", "--vanilla", "-e", "cat(format(getRversion()))")
    resolver = Resolver({}, (), r_version, None, snapshot=DAY, debian_suite="bookworm", libs_folder=tmp_path)
    resolved = resolver.resolve(declared, {})
    assert {name for name, source in resolved.source.items() if source.binary} == {"ready"}
    assert {name for name, source in resolved.source.items() if source.compiled} == {"infolder"}

    site.pages.clear()
    sources = sources_from_lock(resolved.locked(), libs_folder=tmp_path, ca_bundle=None, r_version=r_version)
    work = tmp_path / "work"
    for name, raw in make_repository(sources).items():
        path = work / "in" / "cran" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    shutil.copy(STEPS / "install.R", work / "in")
    (work / "in" / "packages").write_text("".join(f"{source.name}\n" for source in sources))
    (work / "in" / "check.R").write_text(CHECK)
    (work / "out").mkdir()
    told = run(compilers, work, "Rscript --vanilla /mnt/in/install.R; Rscript --vanilla /mnt/in/check.R")
    assert told.splitlines()[-1] == "1.0.9000 "
