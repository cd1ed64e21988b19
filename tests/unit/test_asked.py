"""What is asked for, and which versions fit it: by each manager's own rules."""

from __future__ import annotations

import pytest

from runner.builder.stock.asked import of_package, of_text
from runner.spec.libs import Package


@pytest.mark.parametrize(
    ("kind", "text", "name", "fits", "fits_not"),
    [
        ("apt", "libpq5", "libpq5", ["15.5-0+deb12u1"], []),
        ("apt", "libxml2=2.9.*", "libxml2", ["2.9.14+dfsg-1.3"], ["2.10.1"]),
        ("apt", "g++=4:12.2.0-3", "g++", ["4:12.2.0-3"], ["12.2.0-3"]),
        ("pip", "pandas==2.2.*", "pandas", ["2.2.3", "2.2"], ["2.3.0", "1.5.3"]),
        ("pip", "Scikit_Learn[extra]>=1,<2", "Scikit_Learn", ["1.5.0rc1"], ["2.0", "0.24"]),
        ("pip", "torch==2.1.0", "torch", ["2.1.0+cpu"], ["2.1.1"]),
        ("pip", "./wheels/rnwheel-1.0-py3-none-any.whl", "rnwheel", ["1.0"], ["1.1"]),
        ("pip", "thing @ https://example.org/thing.zip", "thing", ["0.1"], []),
        ("pip", "odd>=1", "odd", ["not a version"], []),
        ("r", "cran data.table", "data.table", ["1.14.8"], []),
        ("r", "cran DBI==1.1.3", "DBI", ["1.1.3", "1.1-3"], ["1.2.3"]),
        ("r", "cran ggplot2>=3.4, <4", "ggplot2", ["3.4.1"], ["3.3.9", "4.0.0"]),
        ("r", "bioconductor limma", "limma", ["3.54.0"], []),
        ("r", "github r-lib/cli@v3.6.0", "cli", ["3.6.0"], []),
        ("r", "github https://example.org/fun_1.2.tar.gz", "fun", ["1.2"], []),
        ("conda", "numpy", "numpy", ["1.26.4"], []),
        ("conda", "numpy=1.26", "numpy", ["1.26", "1.26.4"], ["1.27.0", "1.2"]),
        ("conda", "numpy==1.26", "numpy", ["1.26", "1.26.0"], ["1.26.4"]),
        ("conda", "conda-forge::numpy >=1.2,<2 py311*", "numpy", ["1.26.4"], ["2.0"]),
        ("conda", "numpy=1.26.4=py311h64a7726_0", "numpy", ["1.26.4"], ["1.26.3"]),
        ("conda", "python 3.11.*|3.12.*", "python", ["3.11.9", "3.12.1"], ["3.10.0"]),
        ("conda", "libgdal >= 3.6", "libgdal", ["3.8.1"], ["3.5"]),
        ("conda", "numpy[version='>=1.2']", "numpy", ["1.26"], ["1.1"]),
    ],
)
def test_an_item_and_what_fits_it(kind: str, text: str, name: str, fits: list[str], fits_not: list[str]) -> None:
    ask = of_text(kind, text)  # type: ignore[arg-type]  # parametrized
    assert ask is not None
    assert ask.name == name
    assert [version for version in (*fits, *fits_not) if ask.allows(version)] == fits


@pytest.mark.parametrize(("kind", "text"), [("pip", "https://example.org/main.zip"), ("r", "R"), ("conda", "[]")])
def test_what_names_no_package_is_no_item(kind: str, text: str) -> None:
    assert of_text(kind, text) is None  # type: ignore[arg-type]  # parametrized


def test_a_checked_package_keeps_its_own_name_and_constraints() -> None:
    def ask(kind: str, name: str, spec: str, **more: object) -> object:
        return of_package(Package(kind, name, spec, "libs.yaml", 1, None, **more))  # type: ignore[arg-type]

    remote = ask("github", "realname", "team/repo@main")
    assert (remote.kind, remote.name, remote.constraint) == ("r", "realname", "")  # type: ignore[attr-defined]
    assert ask("cran", "DBI", "DBI==1.1.3", constraints=(("==", "1.1.3"),)).constraint == "==1.1.3"  # type: ignore[attr-defined]
    assert ask("apt", "g++", "g++=4:12*", version="4:12*").allows("4:12.2.0-3")  # type: ignore[attr-defined]
    conditional = ask("pip", "six", "six<2; sys_platform == 'win32'", marker="sys_platform == 'win32'")
    assert conditional.conditional  # type: ignore[attr-defined]
    assert not conditional.allows("2.0")  # type: ignore[attr-defined]


def test_a_version_that_is_not_known_breaks_nothing() -> None:
    ask = of_text("r", "cran DBI==1.1.3")
    assert ask is not None
    assert ask.allows("")
