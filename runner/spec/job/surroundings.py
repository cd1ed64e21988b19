"""What a step runs in: `environment` and `code` . Paths become absolute; that they are there is not asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.job import Code, Environment
from runner.spec.job.members import ENVIRONMENT
from runner.spec.job.source import Source, has_scheme
from runner.spec.yamldoc import read

if TYPE_CHECKING:
    from runner.spec.yamldoc import KeyPath

_GIT = re.compile(r"git\+(https|ssh)://.+")
_PLAIN_GIT = re.compile(r"https://[^\s?#]+\.git(?:[@#].*)?")
_FILE = (".yml", ".yaml")
_ONE_OF = ("image", "build", "libs")


def environment(source: Source, path: KeyPath, given: Any) -> Environment | None:
    """`environment:`, in whatever form it stands."""
    if given is None:
        return None
    if isinstance(given, dict):
        return _mapping(source, path, given)
    text = str(given).strip()
    if text.startswith("azureml:"):
        return Environment(reference=text, where=source.where(path))
    if text.startswith("file:") or text.lower().endswith(_FILE):
        return _file(source, path, text)
    source.wrong(
        path, f"{text!r} is not an environment",
        "expected azureml:NAME@LABEL, azureml:NAME:VERSION, {image: NAME}, {libs: libs.yaml} or file:./environment.yml",
        f"for an image: environment: {{image: {text}}}",
    )  # fmt: skip
    return None


def _file(source: Source, path: KeyPath, text: str) -> Environment | None:
    place = source.local(path, text)
    if place is None:
        return None
    try:
        document = read(place)
    except SpecError as error:
        source.wrong(path, f"the environment cannot be read: {error.message}", *error.hints)
        return None
    inner = Source(document, place.parent, source.findings)
    return _mapping(inner, (), document.data) if inner.check(ENVIRONMENT, document.data, ()) else None


def _mapping(source: Source, path: KeyPath, given: dict[str, Any]) -> Environment | None:
    kinds = [key for key in _ONE_OF if given.get(key) is not None]
    where = source.where(path)
    if len(kinds) > 1:
        source.wrong(path, f"{' and '.join(kinds)} are both given", "expected one of image, build and libs")
        return None
    if not kinds:
        if given.get("name"):
            version = given.get("version")
            suffix = f":{source.text((*path, 'version'), version)}" if version is not None else "@latest"
            return Environment(reference=f"azureml:{given['name']}{suffix}", where=where)
        source.wrong(path, "names no image", "expected one of image, build and libs")
        return None
    if str(given.get("os_type") or "").lower() == "windows":
        source.cannot("environment.windows", (*path, "os_type"))
    if kinds == ["build"]:
        return _build(source, (*path, "build"), given)
    if kinds == ["libs"]:
        return Environment(libs=source.local((*path, "libs"), given["libs"]), where=where)
    return Environment(image=given["image"].strip(), conda=_conda(source, path, given), where=where)


def _build(source: Source, path: KeyPath, given: dict[str, Any]) -> Environment | None:
    build = given["build"]
    where = source.where(path)
    if given.get("conda_file") is not None:
        source.wrong(path, "conda_file goes with an image, not with build", "install the packages in the Dockerfile")
    text = str(build["path"])
    if has_scheme(text) and not text.startswith("file:"):
        source.cannot("environment.build_address", (*path, "path"))
        return Environment(context=Path(source.folder), where=where)
    file = build.get("dockerfile_path")
    return Environment(
        context=source.local((*path, "path"), text), dockerfile=str(file) if file is not None else None, where=where
    )


def _conda(source: Source, path: KeyPath, given: dict[str, Any]) -> Path | dict[str, Any] | None:
    conda = given.get("conda_file")
    if conda is None or isinstance(conda, dict):
        return conda
    return source.local((*path, "conda_file"), conda)


def code(source: Source, path: KeyPath, data: dict[str, Any], *, beside: Path | None = None) -> Code | None:
    """`code:` and `additional_includes`.

    Args:
        beside: the component's file, which an `.additional_includes` may lie beside.
    """
    includes = _includes(source, (*path, "additional_includes"), data.get("additional_includes"), beside)
    given = data.get("code")
    if given is None:
        return Code(includes=includes, where=source.where(path)) if includes else None
    where, at = source.where((*path, "code")), (*path, "code")
    text = given.strip()
    if text.startswith("azureml:"):
        source.cannot("code.azureml", at)
        return None
    if _GIT.fullmatch(text):
        return Code(git=text, includes=includes, where=where)
    if _PLAIN_GIT.fullmatch(text):
        return Code(git=f"git+{text}", includes=includes, where=where)
    if has_scheme(text) and not text.startswith("file:"):
        source.cannot("code.address", at, f"{text}:")
        return None
    local = source.local(at, text)
    return Code(local, includes=includes, where=where) if local else None


def _includes(source: Source, path: KeyPath, given: Any, beside: Path | None) -> tuple[Path, ...]:
    found: list[Path] = []
    for index, item in enumerate(given or ()):
        if isinstance(item, dict):
            source.cannot("additional_includes.artifact", (*path, index))
        elif local := source.local((*path, index), item):
            found.append(local)
    return (*found, *_listed(source, beside))


def _listed(source: Source, beside: Path | None) -> tuple[Path, ...]:
    """The lines of NAME.additional_includes beside the component NAME.yml."""
    if beside is None:
        return ()
    listing = beside.with_suffix(".additional_includes")
    try:
        lines = listing.read_text("utf-8").splitlines() if listing.is_file() else []
    except (OSError, UnicodeDecodeError):
        source.findings.wrong(source.where(()), f"{listing.name} cannot be read as text")
        return ()
    paths = []
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        local = source.local((), line.strip())
        if local:
            paths.append(local)
    return tuple(paths)
