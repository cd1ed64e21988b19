"""renv.lock: the R packages of a project, exactly. What cannot be had the same way is an error that names it.

Left aside, because exact versions say it already or it means nothing in an image: renv's own hashes, the copies of
DESCRIPTION fields, the name and type of a Python environment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runner.spec import items
from runner.spec.libs import Kind, Package, Remote
from runner.spec.places import asked, inside

if TYPE_CHECKING:
    from pathlib import Path

    from runner.spec.places import Asked
    from runner.spec.yamldoc import Document

_KEYS = ("R", "Packages", "Bioconductor", "Python", "renv")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.]*")
_VERSION = re.compile(r"[0-9]+(?:[.-][0-9]+)*")
_GITHUB_HOSTS = ("api.github.com", "github.com", "https://api.github.com")
_CELLARS = ("renv/cellar/{0}_{1}.tar.gz", "renv/cellar/{0}/{0}_{1}.tar.gz", "renv/local/{0}_{1}.tar.gz",
            "renv/local/{0}/{0}_{1}.tar.gz")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Renv:
    """What a renv.lock asks for. r, bioconductor, python: versions; None where it says none."""

    r: str | None
    bioconductor: str | None
    python: str | None
    repos: tuple[str, ...]
    packages: tuple[Package, ...]


def read_renv(document: Document, root: Path, folder: Path) -> Renv:
    """The lock that a document is.

    Args:
        root: resolved; local packages outside it cannot be taken. folder: of the lock, from which their paths count.

    Raises:
        SpecError: it is none, or holds what cannot be had.
    """
    for key in document.data:
        if key not in _KEYS:
            raise document.error((key,), "unknown key of a renv.lock", f"known: {', '.join(_KEYS)}")
    r = _mapping(document, "R")
    found = _mapping(document, "Packages")
    repos = list(_repositories(document, r.get("Repositories")))
    packages = []
    for name in found:
        packages.append(_package(document, name, root, folder))
        extra = found[name].get("Repository")
        if packages[-1].remote is None and isinstance(extra, str) and "://" in extra:
            repos.append(_address(document, ("Packages", name, "Repository"), extra))
    return Renv(
        r=_version(document, ("R", "Version"), r.get("Version")),
        bioconductor=_version(document, ("Bioconductor", "Version"), _mapping(document, "Bioconductor").get("Version")),
        python=_python(document),
        repos=tuple(dict.fromkeys(repos)),
        packages=tuple(packages),
    )


def _mapping(document: Document, key: str) -> dict[str, Any]:
    value = document.data.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise document.error((key,), "expected an object ({…})")
    return value


def _version(document: Document, path: tuple[str, ...], value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _VERSION.fullmatch(value):
        raise document.error(path, f"{value!r} is not a version")
    return value


def _python(document: Document) -> str | None:
    value = _mapping(document, "Python").get("Version")
    return None if value is None else asked(document, ("Python", "Version"), str(value)).checked(items.python).text


def _address(document: Document, path: tuple[str | int, ...], value: Any) -> str:
    if not isinstance(value, str):
        raise document.error(path, "expected an address in quotes")
    return asked(document, path, value).checked(items.repository).text


def _repositories(document: Document, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise document.error(("R", "Repositories"), "expected a list ([…])")
    return [
        _address(document, ("R", "Repositories", index), item.get("URL") if isinstance(item, dict) else item)
        for index, item in enumerate(value)
    ]


def _package(document: Document, name: str, root: Path, folder: Path) -> Package:
    record = document.data["Packages"][name]
    item = asked(document, ("Packages", name), name)
    if not isinstance(record, dict) or not _NAME.fullmatch(name):
        raise item.error(f"{name!r} is not an R package" if isinstance(record, dict) else "expected an object ({…})")
    version = _version(document, ("Packages", name, "Version"), record.get("Version"))
    if version is None:
        raise item.error("has no Version", "write the lock anew: renv::snapshot()")
    kind, remote = _source(item, record, version, root, folder)
    constraints = (("==", version),)
    return Package(kind, name, f"{name}=={version}", item.file, item.line, item.key, constraints, remote=remote)


def _source(item: Asked, record: dict[str, Any], version: str, root: Path, folder: Path) -> tuple[Kind, Remote | None]:
    source = record.get("Source", "Repository")
    match str(source).lower():
        case "repository" | "cran":
            bioconductor = str(record.get("Repository", "")).lower().startswith(("bioc", "bioconductor"))
            return ("bioconductor" if bioconductor else "cran"), None
        case "bioconductor":
            return "bioconductor", None
        case "github":
            return "github", _github(item, record)
        case "url":
            address = _text(item, record, "RemoteUrl")
            return "github", Remote("url", replace(item, text=address).checked(items.repository).text)
        case "local":
            return "github", Remote("path", str(_local(item, record, version, root, folder)))
        case _:
            raise item.error(
                f"its source {source!r} is not supported",
                "supported: Repository, Bioconductor, GitHub, URL, Local",
                "install it from one of them and write the lock anew: renv::snapshot()",
            )


def _text(item: Asked, record: dict[str, Any], field: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not value:
        raise item.error(f"has no {field}, which its source needs", "write the lock anew: renv::snapshot()")
    return value


def _github(item: Asked, record: dict[str, Any]) -> Remote:
    from runner.spec.remotes import parse_remote

    host = record.get("RemoteHost") or _GITHUB_HOSTS[0]
    if host not in _GITHUB_HOSTS:
        hint = "make a source archive of it and name that as a path under r.github"
        raise item.error(f"comes from {host!r}; only github.com is known", hint)
    ref = record.get("RemoteSha") or record.get("RemoteRef")
    text = f"{_text(item, record, 'RemoteUsername')}/{_text(item, record, 'RemoteRepo')}"
    text += f"/{record['RemoteSubdir']}".rstrip("/") if record.get("RemoteSubdir") else ""
    try:
        return parse_remote(f"{text}@{ref}" if ref else text)[1]
    except ValueError as error:
        message, *hints = str(error).split("\n")
        raise item.error(message, *hints) from None


def _local(item: Asked, record: dict[str, Any], version: str, root: Path, folder: Path) -> Path:
    """Where renv itself looks: the recorded path, then its cellar."""
    for field in ("Path", "RemoteUrl"):
        if isinstance(path := record.get(field), str) and path:
            return inside(item, root, folder, path.removeprefix("file://"))
    for cellar in _CELLARS:
        if (path := folder / cellar.format(item.text, version)).is_file():
            return inside(item, root, folder, str(path))
    looked = f"looked for {_CELLARS[0].format(item.text, version)}"
    raise item.error(
        "its source archive is not there", looked, "put it there, or install the package from a repository"
    )
