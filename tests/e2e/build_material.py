"""Material for the builder's tests: a CRAN-like repository made by R itself, wheels, and an index behind a password."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

C_CODE = """
#include <Rinternals.h>
SEXP runner_twice(SEXP x) { return ScalarReal(2.0 * asReal(x)); }
"""

# R loads a package once when it installs it, and is satisfied then.
UNLOADABLE = """
.onLoad <- function(...) if (Sys.getenv("R_INSTALL_PKG") == "") stop("nothing here to load")
"""

MAKE_REPOSITORY = """
setwd("/repo/src/contrib")
for (folder in list.dirs("/repo/packages", recursive = FALSE)) {
  stopifnot(system2("R", c("CMD", "build", "--no-build-vignettes", "--no-manual", folder)) == 0)
}
dir.create("Archive/rntiny", recursive = TRUE)
file.rename("rntiny_0.9.tar.gz", "Archive/rntiny/rntiny_0.9.tar.gz")
tools::write_PACKAGES(".", type = "source")
"""


def docker(*argv: str) -> str:
    """stdout of a docker command that must succeed."""
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True).stdout


def build_containers(pid: int) -> str:
    """The ids of build containers that belong to a process; others may build on the same engine."""
    return docker("ps", "-aq", "--filter", "label=runner.build=1", "--filter", f"name=-{pid}-").strip()


def make_cran(folder: Path, image: str) -> None:
    """A CRAN-like repository in `folder`, built and indexed by the R of `image`.

    rntiny 1.0 (0.9 in the archive), rnnative 2.1 with C code and imports of rntiny, rnfails, which does not compile,
    rnneeds, which needs rntiny 1.0, rnunloadable, which loads only while it is installed, and rnfuture, which needs R 99.
    """
    _r_package(folder / "packages" / "rntiny", "rntiny", "1.0", code='hello <- function() "new"')
    _r_package(folder / "packages" / "rntiny-old", "rntiny", "0.9", code='hello <- function() "old"')
    native = folder / "packages" / "rnnative"
    _r_package(
        native,
        "rnnative",
        "2.1",
        fields="Imports: rntiny (>= 0.9), jsonlite\n",
        namespace="useDynLib(rnnative, runner_twice)\nimport(rntiny)\nexport(twice)\n",
        code="twice <- function(x) .Call(runner_twice, x)",
    )
    (native / "src").mkdir()
    (native / "src" / "twice.c").write_text(C_CODE)
    broken = folder / "packages" / "rnfails"
    _r_package(broken, "rnfails", "1.0", namespace="useDynLib(rnfails)\n")
    (broken / "src").mkdir()
    (broken / "src" / "broken.c").write_text('#error "header_that_is_not_there"\n')
    _r_package(folder / "packages" / "rnneeds", "rnneeds", "1.0", fields="Imports: rntiny (>= 1.0)\n")
    _r_package(folder / "packages" / "rnunloadable", "rnunloadable", "1.0", code=UNLOADABLE)
    _r_package(folder / "packages" / "rnfuture", "rnfuture", "3.0", fields="Depends: R (>= 99.0)\n")
    (folder / "src" / "contrib").mkdir(parents=True)
    script = folder / "make.R"
    script.write_text(MAKE_REPOSITORY)
    docker("run", "--rm", "--user", "0", "-v", f"{folder}:/repo", image, "Rscript", "--vanilla", "/repo/make.R")
    shutil.rmtree(folder / "packages")


def _r_package(folder: Path, name: str, version: str, *, fields: str = "", namespace: str = "", code: str = "") -> None:
    (folder / "R").mkdir(parents=True)
    (folder / "DESCRIPTION").write_text(
        f"Package: {name}\nVersion: {version}\nTitle: Test Package\nDescription: For tests.\nAuthor: runner\n"
        f"Maintainer: runner <runner@example.org>\nLicense: MIT\n{fields}"
    )
    (folder / "NAMESPACE").write_text(namespace or 'exportPattern("^[a-z]")\n')
    (folder / "R" / "code.R").write_text(code + "\n")


def make_wheel(folder: Path, name: str, version: str, code: str) -> Path:
    """A pure Python wheel with one module of the same name."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/top_level.txt": f"{name}\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        record = "".join(f"{file},{_digest(text)},{len(text.encode())}\n" for file, text in files.items())
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path


def _digest(text: str) -> str:
    raw = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class _Handler(SimpleHTTPRequestHandler):
    """Files of a folder; with `password`, only to those who send it."""

    def __init__(self, *args: object, password: str | None = None, **kwargs: object) -> None:
        self.password = password
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Serve, or ask for the password."""
        wanted = base64.b64encode(f"build:{self.password}".encode()).decode()
        if self.password and self.headers.get("Authorization") != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="tests"')
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


@contextmanager
def served(folder: Path, password: str | None = None) -> Iterator[str]:
    """The folder over http on loopback: its address, without the password."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder), password=password))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
