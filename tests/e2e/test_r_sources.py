"""R packages that no repository of sources has: a commit, a folder with C code, an archive, and a dated binary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.errors import SpecError
from runner.spec import lock as locks
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


def put_folder(folder: Path) -> None:
    """A package with C code in `folder`/infolder, and an object file of some other machine beside it."""
    content = {
        **files("infolder", "twice <- function(x) .Call(runner_twice, x)\n", "Imports: fromgithub\n"),
        "NAMESPACE": "useDynLib(infolder, runner_twice)\nimport(fromgithub)\nexport(twice)\n",
        "src/twice.c": C_CODE,
        "src/twice.o": "not for this machine",
    }
    for name, text in content.items():
        path = folder / "infolder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


LIBS = """
name: runner-test-r-remotes
r:
  github:
    - o/repo/pkg@v1
    - boxed={address}/boxed.tar.gz
    - ./infolder
  snapshot: {day}
"""


def test_they_are_built_locked_and_loaded(
    make: Callable[..., Any], compilers: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    put_folder(tmp_path)
    text = LIBS.format(address=site.address, day=DAY)

    made = make(text)

    assert {each.name: each.version for each in made.image.libraries} == dict.fromkeys(
        ("fromgithub", "boxed", "infolder"), "1.0.9000"
    )
    assert docker("run", "--rm", "--network", "none", made.image.tag, "Rscript", "-e", CHECK) == "1.0.9000 \n"
    lock = locks.read(tmp_path / "libs.lock")
    assert lock is not None
    where = {each.name: each.source.removeprefix(site.address) for each in lock.of("r")}
    assert where["fromgithub"] == f"/repos/o/repo/tarball/{SHA}#ref=v1&subdir=pkg"
    assert where["infolder"] == "./infolder"
    assert docker("run", "--rm", made.image.tag, "sh", "-c", "command -v gcc || echo none") == "none\n"

    site.pages.clear()  # what is locked and in the cache needs nobody
    again = make(text, locked=True, no_cache=True)
    assert again.image.libraries == made.image.libraries

    (tmp_path / "infolder" / "R" / "code.R").write_text("twice <- function(x) 43\n")
    with pytest.raises(SpecError) as caught:
        make(text, locked=True)
    assert "r: + github ./infolder" in str(caught.value)
