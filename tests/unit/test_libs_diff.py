"""Locks, libs files, images' records and answers of machines, compared two and two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.builder.stock import inventory
from runner.builder.stock.diff import Comparison, compare
from runner.builder.stock.inventory import Inventory
from runner.spec.libs import load
from runner.spec.lock import Base, Lock, Locked
from runner.spec.rversion import from_debian

MADE_HERE = Base("localhost/runner-debian:bookworm", "sha256:1", recipe="5c81")
PULLED = Base("debian:bookworm-slim", "sha256:2", digest="sha256:3")

PACKAGES = (
    Locked("apt", "libc6", "2.36-9", stage="base"),
    Locked("apt", "r-base-core", "4.2.2.20221110-2", stage="r"),
    Locked("apt", "libpq5", "15.5-0+deb12u1", stage="apt"),
    Locked("apt", "r-cran-zoo", "1.8-11-1", stage="r-binary"),
    Locked("apt", "r-cran-lattice", "0.20-45-3", stage="r-binary"),
    Locked("r", "zoo", "1.8-11-1", source="debian"),
    Locked("r", "rntiny", "0.9", source="https://cran.example.org"),
    Locked("pip", "pandas", "2.2.3"),
    Locked("pip", "numpy", "1.26.4"),
)
DECLARED = {"apt": ("libpq5",), "r": ("cran zoo", "cran rntiny==0.9"), "pip": ("pandas==2.2.*",)}


def lock(*packages: Locked, base: Base = MADE_HERE, declared: dict[str, tuple[str, ...]] | None = None) -> Lock:
    return Lock(base, "linux/amd64", "3.11.2", "4.2.2", declared or {}, packages or PACKAGES)


def of_lock(*packages: Locked, base: Base = MADE_HERE) -> Inventory:
    declared = None if packages else DECLARED
    return inventory.of_lock(lock(*packages, base=base, declared=declared), "libs.lock")


def without(*names: str) -> tuple[Locked, ...]:
    return tuple(each for each in PACKAGES if each.name not in names)


def image(**changes: dict[str, str | None]) -> Inventory:
    """The record of an image that was made of PACKAGES, with changes: kind → name → version, None for none."""
    installed: dict[str, dict[str, str]] = {
        "apt": {each.name: each.version for each in PACKAGES if each.kind == "apt"},
        "r": {"zoo": "1.8-11", "lattice": "0.20-45", "rntiny": "0.9", "base": "4.2.2", "stats4": "4.2.2"},
        "pip": {"pandas": "2.2.3", "numpy": "1.26.4"},
    }
    for kind, packages in changes.items():
        of_kind = {**installed.get(kind, {}), **packages}
        installed[kind] = {name: version for name, version in of_kind.items() if version is not None}
    return inventory.of_manifest({"installed": installed}, lock(declared=DECLARED), "churn-r:1")


def machine(*lines: str, python: str = "3.12.1", r: str = "") -> Inventory:
    """What the probes say of a machine."""
    facts = [f"version|python|{python}", f"version|R|{r}", "all|pip|", "all|conda|", "all|r|", *lines]
    return inventory.of_answers("".join(f"runner:{fact}\n" for fact in facts), "local", "local")


def rows(found: Comparison) -> list[tuple[str, str, str, str | None, str | None]]:
    return [(each.kind, each.name, each.what, each.a.version, each.b.version) for each in found.differences]


def libs(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "libs.yaml"
    path.write_text(text)
    return load(path)


def test_a_lock_and_the_image_made_of_it_are_the_same() -> None:
    found = compare(of_lock(), image())
    assert rows(found) == []
    # Debian's two R packages are compared as R's, with the one from source.
    assert found.compared == 3 + 3 + 2


def test_what_differs_between_a_lock_and_an_image() -> None:
    found = compare(
        of_lock(), image(pip={"pandas": "1.5.3", "numpy": None}, r={"zoo": "1.8-12"}, apt={"libpq5": "16.1"})
    )
    assert rows(found) == [
        ("pip", "pandas", "constraint", "2.2.3", "1.5.3"),
        ("r", "zoo", "version", "1.8-11", "1.8-12"),
        ("apt", "libpq5", "version", "15.5-0+deb12u1", "16.1"),
        ("pip", "numpy", "missing", "1.26.4", None),
    ]
    assert [each.declared for each in found.differences] == [True, True, True, False]


@pytest.mark.parametrize(
    ("debian", "of_r"),
    [
        ("1.8-11-1", "1.8.11"), ("2:1.7-9-1", "1.7-9"), ("3.4.1+dfsg-1", "3.4.1"), ("1.14.8+dfsg-1~bpo12+1", "1.14.8"),
        ("0.20-45-3+b1", "0.20-45"),
    ],
)  # fmt: skip
def test_debians_r_packages_compare_by_rs_version(debian: str, of_r: str) -> None:
    a = of_lock(
        Locked("r", "Matrix", debian, source="debian"), Locked("apt", "r-cran-matrix", debian, stage="r-binary")
    )
    b = machine(f"r|Matrix|{of_r}", r="4.2.2", python="3.11.2")
    assert [row for row in rows(compare(a, b)) if row[0] != "apt"] == []
    newer = machine("r|Matrix|99.1", r="4.2.2", python="3.11.2")
    assert rows(compare(a, newer)) == [("r", "Matrix", "version", from_debian(debian), "99.1")]


def test_a_debian_package_is_known_to_r_by_rs_own_spelling() -> None:
    a = of_lock(Locked("apt", "r-cran-dbi", "1.1.3-1", stage="r-binary"), Locked("apt", "r-base-core", "4", stage="r"))
    found = compare(a, machine("r|DBI|1.2.0", r="4.2.2", python="3.11.2"))
    assert rows(found) == [("r", "DBI", "version", "1.1.3", "1.2.0")]


def test_what_a_lock_cannot_know_is_not_missing() -> None:
    """The packages of a base from a registry are in no lock, nor are those of an R that came with it."""
    kept = without("libc6", "r-base-core", "r-cran-lattice")
    assert rows(compare(of_lock(*kept, base=PULLED), image())) == []
    # The other way round: what the lock has, the image must have.
    gone = compare(of_lock(*kept, base=PULLED), image(r={"rntiny": None}))
    assert rows(gone) == [("r", "rntiny", "missing", "0.9", None)]


def test_the_interpreters() -> None:
    found = compare(of_lock(), machine("pip|pandas|2.2.3", "pip|numpy|1.26.4"))
    assert rows(found)[:2] == [
        ("python", "Python", "version", "3.11.2", "3.12.1"),
        ("r-version", "R", "missing", "4.2.2", None),
    ]
    assert all(each.alone for each in found.differences if each.kind == "r")


def test_a_machine_without_python_lacks_it_and_all_that_belongs_to_it() -> None:
    found = compare(machine(python=""), of_lock())
    assert rows(found)[0] == ("python", "Python", "missing", None, "3.11.2")
    assert ("pip", "pandas", "missing", None, "2.2.3") in rows(found)


def test_numpy_is_numpy_whichever_manager_brought_it() -> None:
    conda = machine("conda|numpy|1.26.4", "conda|python|3.12.1", "conda|r-zoo|1.8_11")
    assert rows(compare(machine("pip|numpy|1.26.4"), conda)) == [
        ("conda", "python", "missing", None, "3.12.1"),
        ("conda", "r-zoo", "missing", None, "1.8_11"),
    ]
    other = compare(conda, machine("pip|numpy|2.0.0"))
    row = next(each for each in other.differences if each.name == "numpy")
    assert (row.kind, row.what, row.a.via, row.b.via) == ("pip", "version", "conda", None)
    # Debian's own Python packages are seen from the virtual environment of an image.
    debian = machine("apt|python3-numpy|1:1.24.2-1|installed", "all|apt|")
    assert [row for row in rows(compare(debian, machine("pip|numpy|1.24.2"))) if row[0] == "pip"] == []
    newer = [row for row in rows(compare(debian, machine("pip|numpy|2.0.0"))) if row[0] == "pip"]
    assert newer == [("pip", "numpy", "version", "1.24.2", "2.0.0")]


def test_what_is_r_itself_is_not_missing_where_it_is_asked_for(tmp_path: Path) -> None:
    asks = inventory.of_libs(libs(tmp_path, "r: {cran: [stats, zoo]}\n"), "libs.yaml", None)
    assert [row[1] for row in rows(compare(asks, machine("all|r|", r="4.2.2"))) if row[0] == "r"] == ["zoo"]


def test_spellings_of_one_name() -> None:
    found = compare(
        machine("pip|Scikit_Learn|1.5.0", "pip|zope.interface|6.0"),
        machine("pip|scikit-learn|1.5", "pip|Zope-Interface|6"),
    )
    assert rows(found) == []


def test_versions_that_are_no_versions_are_compared_as_they_stand() -> None:
    assert rows(compare(machine("pip|odd|1.0-weird+"), machine("pip|odd|1.0-weird+"))) == []
    assert len(compare(machine("pip|odd|1.0-weird+"), machine("pip|odd|2-weirder!")).differences) == 1


def test_removed_debian_packages_are_not_there() -> None:
    found = inventory.of_answers("runner:apt|gone|1.0|config-files\nrunner:apt|there|2:1|installed\n", "x", "image")
    assert list(found.of("apt")) == ["there"]
    assert found.whole == frozenset()
    assert (found.python, found.r) == (None, None)


def test_only_what_is_told_is_known() -> None:
    """Where dpkg is missing, its packages are no difference."""
    assert [row for row in rows(compare(machine(), of_lock())) if row[0] == "apt"] == []


def test_libs_without_a_lock_are_checked_by_what_they_ask_for(tmp_path: Path) -> None:
    pip = "pip: [pandas==1.*, numpy, nothere, six; sys_platform == 'win32']\n"
    declared = libs(tmp_path, pip + "apt: [libpq5=15*, libxml2]\nr: {cran: [zoo>=9]}\n")
    found = compare(inventory.of_libs(declared, "libs.yaml", None), image())
    assert rows(found) == [
        ("pip", "pandas", "constraint", None, "2.2.3"),
        ("pip", "nothere", "missing", None, None),
        ("r", "zoo", "constraint", None, "1.8-11"),
        ("apt", "libxml2", "missing", None, None),
    ]
    assert found.differences[0].a.ask == "pandas==1.*"
    other = compare(image(), inventory.of_libs(declared, "libs.yaml", None))
    assert [row[:3] for row in rows(other)] == [row[:3] for row in rows(found)]


def test_two_libs_files_without_locks(tmp_path: Path) -> None:
    one = inventory.of_libs(libs(tmp_path, "pip: [pandas==1.*, numpy, six]\n"), "a", None)
    two = inventory.of_libs(libs(tmp_path, "pip: [pandas==2.*, numpy]\n"), "b", None)
    assert rows(compare(one, two)) == [("pip", "pandas", "asked", None, None), ("pip", "six", "asked", None, None)]
    assert rows(compare(one, one)) == []


def test_a_lock_whose_libs_file_moved_on_counts_where_it_still_fits(tmp_path: Path) -> None:
    declared = libs(tmp_path, "pip: [pandas==1.*, numpy, attrs]\n")
    moved = inventory.of_libs(declared, "libs.yaml", lock(declared=DECLARED))
    found = [row for row in rows(compare(moved, image())) if row[0] == "pip"]
    assert found == [("pip", "pandas", "constraint", None, "2.2.3"), ("pip", "attrs", "missing", None, None)]


def test_a_version_not_known_before_it_is_built_is_no_difference() -> None:
    packages = (*without("rntiny"), Locked("r", "rntiny", "", source="https://github.com/team/rntiny"))
    found = compare(of_lock(*packages), inventory.of_answers("runner:r|rntiny|3.7\nrunner:all|r|\n", "x", "image"))
    assert "rntiny" not in [each.name for each in found.differences]


def test_a_virtual_package_of_debian_is_not_missing() -> None:
    asking = inventory.of_lock(lock(declared={"apt": ("default-mta",)}), "libs.lock")
    assert rows(compare(asking, image())) == []


def test_python_as_it_was_asked_for(tmp_path: Path) -> None:
    one = inventory.of_libs(libs(tmp_path, "pip: [numpy]\n"), "libs.yaml", None)
    asking = replace(one, python_ask="3.11")
    assert [row for row in rows(compare(asking, machine(python="3.11.9"))) if row[0] == "python"] == []
    found = compare(asking, machine(python="3.12.1")).differences[0]
    assert (found.what, found.b.version, found.broken) == ("constraint", "3.12.1", (("3.12.1", "python: 3.11"),))
    assert compare(asking, machine(python="3.1.1")).differences[0].what == "constraint"


def test_the_json_of_a_difference() -> None:
    found = compare(of_lock(), image(pip={"pandas": "1.5.3"}))
    assert found.differences[0].to_json() == {
        "kind": "pip", "name": "pandas", "what": "constraint", "declared": True,
        "a": {"version": "2.2.3", "ask": "pandas==2.2.*", "via": None},
        "b": {"version": "1.5.3", "ask": "pandas==2.2.*", "via": None},
    }  # fmt: skip
