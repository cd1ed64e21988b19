"""System libraries: what texts of SystemRequirements ask for, and what stays of -dev packages at run time."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from runner.builder.r.source import Source
from runner.builder.r.sysreqs import debian_packages, needs_of, runtime_of


def source(name: str, text: str = "") -> Source:
    return Source(name, "1.0", "", "", Path(), {"SystemRequirements": text} if text else {})


@pytest.mark.parametrize(
    ("text", "build"),
    [
        # As they stand on CRAN.
        ("libcurl: libcurl-devel (rpm) or libcurl4-openssl-dev (deb).", "libcurl4-openssl-dev"),
        ("OpenSSL >= 1.0.2", "libssl-dev"),
        ("libxml2: libxml2-dev (deb), libxml2-devel (rpm)", "libxml2-dev"),
        ("C++17, GDAL (>= 2.0.1), GEOS (>= 3.4.0), PROJ (>= 4.8.0), sqlite3",
         "gdal-bin libgdal-dev libgeos-dev libproj-dev libsqlite3-dev proj-bin"),
        ("udunits-2", "libudunits2-dev"),
        ("Gnu Scientific Library version >= 1.12", "libgsl-dev"),
        ("gmp (>= 4.2.3), mpfr (>= 3.0.0), tcl/tk", "libgmp-dev libmpfr-dev tcl-dev tk-dev"),
        ("libpq >= 9.0: libpq-dev (deb) or postgresql-devel (rpm)", "libpq-dev"),
        ("freetype2, libpng, libtiff, libjpeg",
         "libfreetype-dev libjpeg-dev libpng-dev libtiff-dev"),
        ("harfbuzz, fribidi, fontconfig, cairo", "libcairo2-dev libfontconfig-dev libfribidi-dev libharfbuzz-dev"),
        ("ImageMagick++: ImageMagick-c++-devel (rpm) or libmagick++-dev (deb)", "libmagick++-dev"),
        ("Java JDK 1.2 or higher", "default-jdk"),
        ("JAGS 4.x.y (see https://mcmc-jags.sourceforge.net)", "jags"),
        ("Cargo (Rust's package manager), rustc", "cargo rustc"),
        ("GNU make, cmake, xz", "cmake liblzma-dev make"),
        ("V8 engine version 6+ is needed", "libnode-dev"),
        ("Google protobuf C++ compiler 'protoc'", "libprotobuf-dev protobuf-compiler"),
        ("libbz2 & liblzma & libzstd and zlib", "libbz2-dev liblzma-dev libzstd-dev zlib1g-dev"),
        ("unixODBC-dev", "unixodbc-dev"),
        ("libmariadbclient-dev | libmysqlclient", "libmariadb-dev libmariadb-dev-compat"),
        ("Poppler C++ API, tesseract, leptonica", "libleptonica-dev libpoppler-cpp-dev libtesseract-dev"),
    ],
)  # fmt: skip
def test_what_a_text_asks_for(text: str, build: str) -> None:
    assert needs_of([source("x", text)]).build == tuple(build.split())


@pytest.mark.parametrize("text", ["", "C++11", "none", "see https://git.example.org/openssl/java", "graphics pngify"])
def test_what_asks_for_nothing(text: str) -> None:
    assert needs_of([source("x", text)]) == ((), ())


def test_packages_that_say_nothing_and_what_running_needs() -> None:
    assert needs_of([source("XML"), source("xml")]).build == ("libxml2-dev",)
    needs = needs_of([source("rJava", "Java JDK 1.2"), source("rmarkdown", "pandoc (>= 1.14)")])
    assert needs.run == ("default-jre-headless", "pandoc")


DEPENDS = """\
libcurl4-openssl-dev
  Depends: libcurl4
  Conflicts: libcurl4-gnutls-dev
 |Suggests: libcurl4-doc
libpq-dev
  Depends: libpq5
  Depends: libssl-dev
libssl-dev
  Depends: libssl3
libjpeg-dev
  Depends: libjpeg62-turbo-dev
libjpeg62-turbo-dev
  Depends: libjpeg62-turbo
  Depends: libc6-dev
zlib1g-dev
  Depends: zlib1g
 |Depends: libc6-dev
  Depends: <libc-dev>
    libc6-dev
libfontconfig-dev
  Depends: libfontconfig1
  Depends: pkg-config
    pkgconf
libmariadb-dev-compat
  Depends: libmariadb-dev
libmariadb-dev
  Depends: libmariadb3
ocl-icd-opencl-dev
  Depends: opencl-c-headers
 |Depends: ocl-icd-libopencl1
  Depends: <libopencl1>
    ocl-icd-libopencl1
uuid-dev
  Depends: libuuid1
libmagick++-dev
  Depends: libmagick++-6.q16-dev
libmagick++-6.q16-dev
 |Depends: <libvirtual1>
    libreal1
  Depends: libmagick++-6.q16-8
  PreDepends: libnever1
"""


@pytest.mark.parametrize(
    ("dev", "libraries"),
    [
        ("libcurl4-openssl-dev", "libcurl4"),
        ("libpq-dev", "libpq5"),
        ("libjpeg-dev", "libjpeg62-turbo"),
        ("zlib1g-dev", "zlib1g"),
        ("libfontconfig-dev uuid-dev", "libfontconfig1 libuuid1"),
        ("libmariadb-dev-compat", "libmariadb3"),
        ("ocl-icd-opencl-dev", "ocl-icd-libopencl1"),
        ("libmagick++-dev", "libmagick++-6.q16-8"),
        ("cmake unknown-dev", ""),
    ],
)
def test_what_stays_at_run_time(dev: str, libraries: str) -> None:
    assert runtime_of(dev.split(), DEPENDS) == tuple(libraries.split())


def test_the_rules_name_packages_of_bookworm() -> None:
    release = Path("/etc/os-release")
    if not release.exists() or "VERSION_CODENAME=bookworm" not in release.read_text():
        pytest.skip("this machine has another release's package lists")
    names = debian_packages()
    policy = subprocess.run(["apt-cache", "policy", "bash", *names], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (?!\(none\))", policy, re.MULTILINE))
    if len(known) < 2:
        pytest.skip("apt has no package lists here")
    assert set(names) - known == set()
