"""R packages in source, to be compiled: the upstream archives that Debian keeps, so that CRAN need not be reached.

These need nothing beyond R itself.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path
from typing import IO

SOURCES = {
    "Rcpp": "rcpp",
    "cli": "r-cran-cli",
    "glue": "r-cran-glue",
    "jsonlite": "r-cran-jsonlite",
    "magrittr": "r-cran-magrittr",
    "R6": "r-cran-r6",
}
"""R package → its Debian source package. All but R6 are compiled."""
REPOSITORY = """\
COPY cran /cran
RUN Rscript -e 'tools::write_PACKAGES("/cran", type = "source")'
"""
INSTALL = """\
RUN Rscript -e 'options(warn = 2); install.packages(c({names}), contriburl = "file:///cran", Ncpus = {cores})'
"""
_OWN = ["apt-get", "indextargets", "--format", "deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
"""This machine's own mirrors, as a list that asks them for sources."""
_ARCHIVE = re.compile(r"^'(\S+\.orig\.tar\.\w+)' \S+ \d+ (\S+)", re.MULTILINE)


def contrib(folder: Path) -> None:
    """Fill `folder` with NAME_VERSION.tar.gz of every package of SOURCES. apt's own state is not touched.

    Raises:
        CalledProcessError: the mirror has no sources, or not these.
    """
    state = folder.with_name(f"{folder.name}-apt")
    for path in (folder, state / "lists" / "partial", state / "cache" / "archives" / "partial"):
        path.mkdir(parents=True, exist_ok=True)
    own = subprocess.run(_OWN, check=True, capture_output=True, text=True).stdout
    (state / "sources.list").write_text("".join(f"{line}\n" for line in sorted(set(own.splitlines()))))
    places = {
        "Dir::Etc::sourcelist": state / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": state / "lists", "Dir::Cache": state / "cache", "APT::Sandbox::User": "root",
    }  # fmt: skip
    options = [item for key, value in places.items() for item in ("-o", f"{key}={value}")]
    subprocess.run(["apt-get", *options, "-q", "-q", "update"], check=True)
    argv = ["apt-get", *options, "source", "--print-uris", *SOURCES.values()]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    found = {
        address.rsplit("/", 1)[1].partition("_")[0]: (address, digest) for address, digest in _ARCHIVE.findall(told)
    }
    for name, source in SOURCES.items():
        address, digest = found[source]
        archive = state / source
        subprocess.run(["/usr/lib/apt/apt-helper", "download-file", address, str(archive), digest], check=True)
        _repack(name, archive, folder)


def _repack(name: str, archive: Path, folder: Path) -> None:
    """As CRAN has it: the folder inside is called as the package, the file by its version."""
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        description = next(each for each in members if re.fullmatch(r"[^/]+/DESCRIPTION", each.name))
        top = description.name.partition("/")[0]
        version = re.search(rb"^Version: *(\S+)", _stream(tar, description).read(), re.MULTILINE)
        assert version is not None
        with tarfile.open(folder / f"{name}_{version[1].decode()}.tar.gz", "w:gz") as out:
            for each in members:
                stream = _stream(tar, each) if each.isreg() else None
                each.name = name + each.name.removeprefix(top)
                out.addfile(each, stream)


def _stream(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(member)
    assert stream is not None
    return stream
