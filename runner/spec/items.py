"""Checks of the single values in libs.yaml. Each raises ValueError: the first line says what is wrong, others are hints.

Free of pydantic, since the files that people already have (environment.yml, renv.lock) hold the same values.
"""

from __future__ import annotations

import re
from datetime import date

from runner.spec import rversion
from runner.spec.requirements import LONGEST_NAME, NAME, fit_name, local_archive

APT = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?:=([A-Za-z0-9.+:~*?\[\]-]+))?")
CRAN = re.compile(r"([A-Za-z][A-Za-z0-9.]*[A-Za-z0-9])\s*((?:[=<>!~]).*)?")
ENV_NAME = re.compile(r"(?!(?:PATH|HOME|PYTHONHOME)$)[A-Za-z_][A-Za-z0-9_]*")
"""PATH, HOME and PYTHONHOME are runner's own: with others neither Python nor R would be found."""
BASE = re.compile(r"[a-z0-9][\w.:/@-]*", re.ASCII)
MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
PYTHON = re.compile(r"3\.[0-9]{1,2}(?:\.[0-9]{1,2})?")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}|[0-9]{1,9}(?::[0-9]{1,9})?")
REGISTRY = re.compile(
    r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:[0-9]))(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
)
SNAPSHOT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_CONDA_RELATION = r"(?:==?|!=|~=|>=?|<=?)\s*[\w.!+*-]+"
_CONDA_VERSION = rf"(?:{_CONDA_RELATION}|[\d*][\w.!+*-]*)"
CONDA = re.compile(
    r"(?:(?P<channel>[A-Za-z0-9](?:(?!::)[\w./:-])*)::)?(?P<name>[A-Za-z0-9_][\w.-]*)"
    rf"(?:\s*(?P<version>{_CONDA_RELATION}|(?<=\s){_CONDA_VERSION})(?:\s*[,|]\s*{_CONDA_VERSION})*"
    r"(?:\s*=\s*[\w.*]+|\s+[\w.*]+)?)?"
    r"\s*(?:\[[^\[\]]*\])?",
    re.ASCII,
)
_CHANNEL = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)*", re.ASCII)
_ADDRESSES = ("https://", "http://", "file:///")


def image_name(value: str) -> str:
    """The name of an image: `churn-r`."""
    if NAME.fullmatch(value):
        return value
    rule = f"up to {LONGEST_NAME} lower-case letters, digits and . _ - between them"
    fix = fit_name(value)
    raise ValueError(f"{value!r} is not an image name: {rule}" + (f"\ndid you mean {fix}?" if fix else ""))


def base(value: str) -> str:
    """An image to start from: `debian:bookworm-slim`."""
    if BASE.fullmatch(value):
        return value
    hint = f"\ndid you mean {value.lower()}?" if BASE.fullmatch(value.lower()) else ""
    raise ValueError(f"{value!r} is not an image, such as debian:bookworm-slim{hint}")


def apt_item(value: str) -> str:
    """`libpq5`, `libxml2=2.9.*`."""
    if not APT.fullmatch(value):
        fix = re.sub(r"\s*[=~<>!]=\s*", "=", value).lower()
        hint = f"\ndid you mean {fix}?" if fix != value and APT.fullmatch(fix) else ""
        raise ValueError(f"{value!r} is not a Debian package: expected NAME or NAME=VERSION (* allowed){hint}")
    return value


def pip_item(value: str) -> str:
    """A line of a requirements file."""
    from packaging.requirements import InvalidRequirement, Requirement

    if "\n" in value or "\r" in value:
        raise ValueError(f"{value!r} is more than one line\nmake each an item of its own")
    if " --hash" in value:
        raise ValueError(f"{value!r} has a hash\nthese stand in a requirements file: -r FILE")
    if value.startswith("-") or local_archive(value) is not None or re.match(r"(\w+\+)?https?://", value):
        return value
    try:
        Requirement(value)
    except InvalidRequirement as error:
        fix = re.sub(r"^([\w.-]+(?:\[[\w.,-]+\])?)\s*(?:=(?!=)|\s)\s*([\d*].*)$", r"\1==\2", value)
        hint = f"\ndid you mean {fix}?" if fix != value else "\nexpected NAME, NAME==1.2, NAME[extra]>=1, or -r FILE"
        raise ValueError(f"{value!r} is not a requirement: {str(error).splitlines()[0]}{hint}") from None
    return value


def conda_item(value: str) -> str:
    """A conda match spec: `numpy`, `numpy=1.26`, `numpy >=1.20,<2`, `conda-forge::numpy`."""
    extras = re.match(r"[\w.:-]+\[[\w,\s]+\]", value)
    if CONDA.fullmatch(value) and not extras:
        return value
    if "://" in value or value.endswith((".conda", ".tar.bz2")):
        raise ValueError(
            f"{value!r} is one file\nput it into a channel (a folder will do) and name that under channels"
        )
    fix = re.sub(r"=([<>!~])(?!=)", r"\1=", value)
    hint = "expected NAME, NAME=1.2, NAME >=1.2,<2 or CHANNEL::NAME"
    if fix != value and CONDA.fullmatch(fix):
        hint = f"did you mean {fix}?"
    elif extras:
        hint = "conda has no extras: put it under pip, or name the packages of the extra"
    raise ValueError(f"{value!r} is not a conda package\n{hint}")


def conda_name(value: str) -> str:
    """The package's name in a match spec that `conda_item` has let pass; conda's names are lower case."""
    match = CONDA.fullmatch(value)
    return match["name"].lower() if match else value


def channel(value: str) -> str:
    """A conda channel: a name, an address, or a folder on this machine (`./…`, `/…`)."""
    if re.search(r"/t/[^/]+/", value):
        raise ValueError("a token stands in the channel's address, and would get into the lock\nlog in by ~/.netrc")
    if value.startswith(("./", "../", "/")) or value in {".", ".."}:
        return value
    if value.startswith(_ADDRESSES):
        return repository(value)
    if not _CHANNEL.fullmatch(value):
        wanted = "expected a name (conda-forge), an address (https://…) or a folder (./…)"
        raise ValueError(f"{value!r} is not a conda channel\n{wanted}")
    return value


def cran_item(value: str) -> str:
    """`DBI`, `DBI==1.2.3`, `ggplot2 >= 3.4, < 4`."""
    match = CRAN.fullmatch(value)
    if match is None:
        fix = _as_cran(value)
        hint = f"did you mean {fix}?" if CRAN.fullmatch(fix) else "expected NAME, NAME==1.2.3 or NAME>=1.2"
        raise ValueError(f"{value!r} is not an R package\n{'put it under r.github' if '/' in value else hint}")
    try:
        rversion.parse_constraints(match[2]) if match[2] else ()
    except ValueError as error:
        fix = re.sub(r"(?<![=<>!~])=(?!=)", "==", value)
        hint = f"\ndid you mean {fix}?" if fix != value else "\nexpected ==, >=, <=, >, < or != and a version"
        raise ValueError(f"{error} is not a version constraint of R{hint}") from None
    return value


def _as_cran(value: str) -> str:
    """What DESCRIPTION files, renv and slips write, as `cran` has it: `DBI (>= 1.0)`, `DBI@1.0`, `data_table`."""
    bare = re.sub(r"\s*\(\s*([^()]+?)\s*\)$", r"\1", value).replace("_", ".")
    return re.sub(r"@(?=[0-9])", "==", bare)


def repository(value: str) -> str:
    """An address, without the slashes at its end."""
    if not value.startswith(_ADDRESSES) or re.search(r"\s", value):
        raise ValueError(f"{value!r} is not an address: expected https://…, http://… or file:///…")
    if "${" in value:
        way = "for a login see RUNNER_CRAN and RUNNER_CONDA"
        raise ValueError(f"{value!r}: variables are expanded in pip lines only\n{way}")
    return value.rstrip("/")


def python(value: str) -> str:
    """`3.11` or `3.11.2`."""
    if not PYTHON.fullmatch(value):
        found = re.search(r"3\.[0-9]{1,2}(?:\.[0-9]{1,2})?", value)
        hint = f'\ndid you mean "{found[0]}"?' if found else ""
        raise ValueError(f"{value!r} is not a version of Python: expected 3.11 or 3.11.2{hint}")
    return value


def snapshot(value: str) -> str:
    """A day, `2026-06-01`."""
    wrong = f"{value!r} is not a day: expected YYYY-MM-DD, such as 2026-06-01"
    if not SNAPSHOT.fullmatch(value):
        raise ValueError(wrong)
    try:
        date.fromisoformat(value)
    except ValueError:
        raise ValueError(wrong) from None
    return value


def user(value: str) -> str:
    """A name, or numbers: `app`, `1000`, `1000:1000`."""
    if not USER.fullmatch(value):
        raise ValueError(f"{value!r} is not a user: expected a name, or numbers as UID or UID:GID")
    return value


def registry(value: str) -> str:
    """HOST[:PORT][/PATH…]."""
    if REGISTRY.fullmatch(value):
        return value
    fix = re.sub(r"^https?://", "", value).rstrip("/").lower()
    head, _, last = fix.rpartition("/")
    if head:
        fix = f"{head}/{last.split('@', 1)[0].split(':', 1)[0]}"
    hint = f"did you mean {fix}?" if REGISTRY.fullmatch(fix) else "such as myregistry.azurecr.io/team"
    raise ValueError(f"{value!r} is not a registry: expected HOST[:PORT]/PATH without tag or digest\n{hint}")


def command(value: str) -> str:
    """A shell command that is not empty."""
    if not value.strip():
        raise ValueError("the command is empty")
    return value
