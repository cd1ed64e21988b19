"""Checks of the single values in libs.yaml. Each raises ValueError: the first line says what is wrong, others are hints."""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator

from runner.spec import rversion
from runner.spec.requirements import local_archive

APT = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?:=([A-Za-z0-9.+:~*?\[\]-]+))?")
CRAN = re.compile(r"([A-Za-z][A-Za-z0-9.]*[A-Za-z0-9])\s*((?:[=<>!~]).*)?")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
BASE = re.compile(r"[a-z0-9][\w.:/@-]*", re.ASCII)
MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


def matching(pattern: re.Pattern[str], wanted: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"{value!r} is not {wanted}")
        return value

    return AfterValidator(check)


def apt_item(value: str) -> str:
    if not APT.fullmatch(value):
        fix = re.sub(r"\s*[=~<>!]=\s*", "=", value).lower()
        hint = f"\ndid you mean {fix}?" if fix != value and APT.fullmatch(fix) else ""
        raise ValueError(f"{value!r} is not a Debian package: expected NAME or NAME=VERSION (* allowed){hint}")
    return value


def pip_item(value: str) -> str:
    if value.startswith("-") or local_archive(value) is not None or re.match(r"(\w+\+)?https?://", value):
        return value
    try:
        Requirement(value)
    except InvalidRequirement as error:
        fix = re.sub(r"^([\w.-]+(?:\[[\w.,-]+\])?)\s*(?:=(?!=)|\s)\s*([\d*].*)$", r"\1==\2", value)
        hint = f"\ndid you mean {fix}?" if fix != value else "\nexpected NAME, NAME==1.2, NAME[extra]>=1, or -r FILE"
        raise ValueError(f"{value!r} is not a requirement: {str(error).splitlines()[0]}{hint}") from None
    return value


def cran_item(value: str) -> str:
    match = CRAN.fullmatch(value)
    if match is None:
        hint = (
            "\npackages on GitHub are not supported yet"
            if "/" in value
            else "\nexpected NAME, NAME==1.2.3 or NAME>=1.2"
        )
        raise ValueError(f"{value!r} is not an R package{hint}")
    try:
        rversion.parse_constraints(match[2]) if match[2] else ()
    except ValueError as error:
        fix = re.sub(r"(?<![=<>!~])=(?!=)", "==", value)
        hint = f"\ndid you mean {fix}?" if fix != value else "\nexpected ==, >=, <=, >, < or != and a version"
        raise ValueError(f"{error} is not a version constraint of R{hint}") from None
    return value


def repository(value: str) -> str:
    if not value.startswith(("https://", "http://", "file:///")):
        raise ValueError(f"{value!r} is not an address: expected https://…, http://… or file:///…")
    return value.rstrip("/")
