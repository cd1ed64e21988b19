"""Versions of R packages compare as R compares them; those of Debian are taken apart."""

from __future__ import annotations

import pytest

from runner.spec import rversion


@pytest.mark.parametrize(
    ("version", "constraint", "fits"),
    [
        ("1.7-10", ">=1.7-9", True),
        ("1.7.10", "==1.7-10", True),
        ("1.10", ">1.9", True),
        ("1.0", "<1.0.0", True),
        ("3.4.1", ">=3.4, <4", True),
        ("4.0", ">=3.4, <4", False),
        ("1.2", "!=1.2", False),
        ("1.2", "<=1.2", True),
    ],
)
def test_versions_compare_as_in_r(version: str, constraint: str, fits: bool) -> None:
    assert rversion.satisfies(version, rversion.parse_constraints(constraint)) is fits


@pytest.mark.parametrize(
    ("debian", "version"),
    [("1.14.8+dfsg-1", "1.14.8"), ("1.7-9-1", "1.7-9"), ("2:1.0-2", "1.0"), ("4.2.2.20221110-2", "4.2.2.20221110"),
     ("1.5-4-1+b1", "1.5-4"), ("1.2", "1.2")],
)  # fmt: skip
def test_the_version_inside_a_debian_version(debian: str, version: str) -> None:
    assert rversion.from_debian(debian) == version
