"""libs.yaml: the libraries that a script needs, checked, with the place of each in the file.

Imports pydantic, so import this module only where a libs file is really parsed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from runner.errors import SpecError
from runner.spec import items, rversion
from runner.spec.requirements import Asked, collect, default_name
from runner.spec.yamldoc import Document, KeyPath, nearest, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

Kind = Literal["apt", "conda", "pip", "cran", "bioconductor", "github"]
R_KINDS: tuple[Kind, ...] = ("cran", "bioconductor", "github")

_LATER = {
    "": {
        "conda": "put the packages under pip, apt or r.cran",
        "python": "the base image decides the Python version: choose another base",
        "run": "build an image of your own and name it as base",
        "user": "every image gets the user `runner`",
        "registry": "tag and push the built image with docker",
    },
    "r": {
        "bioconductor": "name the Debian package (r-bioc-…) under apt",
        "github": "make a source package, put it into a repository of your own and name that under r.repos",
        "snapshot": "name a dated repository under r.repos",
        "sysreqs": "name the system libraries under apt",
    },
}
"""Keys that are planned and must not be ignored silently: key → what to do until then."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Where an R package is had that no repository offers.

    kind: `github` (target `owner/repo`, ref: tag, branch or commit, subdir: folder in it), `url` (of a source archive) or
    `path` (absolute, of a source archive or folder).
    """

    kind: Literal["github", "url", "path"]
    target: str
    ref: str | None = None
    subdir: str | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """One declared library. `spec` is the text as declared, `name` as its package manager calls it."""

    kind: Kind
    name: str
    spec: str
    file: str
    line: int
    key: str | None
    constraints: tuple[rversion.Constraint, ...] = ()
    version: str | None = None
    """apt: the version or pattern asked for."""
    marker: str | None = None
    """pip: the environment marker, when there is one."""
    remote: Remote | None = None
    """github: where its source is. Then `name` is a guess until its DESCRIPTION has been read."""

    def error(self, message: str, *hints: str) -> SpecError:
        """A SpecError at the place where the package is declared."""
        return SpecError(message, *hints, file=self.file, line=self.line, key=self.key)


@dataclass(frozen=True, slots=True)
class Libs:
    """A checked libs.yaml.

    pip_lines: the items of `pip` as uv takes them in a requirements file. pip_rest: options and constraints that bear on
    all of them. files: what the items name, absolute.
    r: R is wanted, even with no package. repos: CRAN-like repositories in the order of preference. snapshot: the day
    (YYYY-MM-DD) whose binary repository is asked. sysreqs: install the system libraries that source packages need.
    python: the version asked for, `3.11`. conda_channels: addresses or names, local folders as absolute `file://`.
    run: shell commands, in order. user: the run-time user, a name or `uid[:gid]`. registry: where the image is pushed to.
    """

    path: Path
    name: str
    base: str | None
    base_line: int | None
    apt: tuple[Package, ...]
    pip: tuple[Package, ...]
    pip_lines: tuple[str, ...]
    pip_rest: tuple[str, ...]
    files: tuple[Path, ...]
    r: bool
    r_packages: tuple[Package, ...]
    repos: tuple[str, ...]
    snapshot: str | None = None
    sysreqs: bool = True
    python: str | None = None
    python_line: int | None = None
    conda: tuple[Package, ...] = ()
    conda_channels: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    user: str | None = None
    registry: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    imports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ca_bundle: Path | None = None
    pip_variables: tuple[str, ...] = ()

    @property
    def declared(self) -> tuple[Package, ...]:
        """Every library that the finished image must contain."""
        return (*self.apt, *self.conda, *self.r_packages, *self.pip)

    def error(self, key: str, line: int | None, message: str, *hints: str) -> SpecError:
        """A SpecError at a key of the file."""
        return SpecError(message, *hints, file=str(self.path), line=line, key=key)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _R(_Model):
    cran: list[Annotated[str, AfterValidator(items.cran_item)]] = []
    repos: list[Annotated[str, AfterValidator(items.repository)]] = []


class _LibsFile(_Model):
    name: (
        Annotated[str, items.matching(items.NAME, "an image name: lower-case letters, digits and . _ - between them")]
        | None
    ) = None
    base: Annotated[str, items.matching(items.BASE, "an image, such as debian:bookworm-slim")] | None = None
    apt: list[Annotated[str, AfterValidator(items.apt_item)]] = []
    pip: list[Annotated[str, AfterValidator(items.pip_item)]] = []
    r: _R | None = None
    env: dict[Annotated[str, items.matching(items.ENV_NAME, "a name of an environment variable")], str] = {}
    imports: dict[
        str,
        Annotated[str, items.matching(items.MODULE, "a name to import")]
        | list[Annotated[str, items.matching(items.MODULE, "a name to import")]],
    ] = {}
    ca_bundle: Annotated[str, Field(min_length=1)] | None = None


def load(path: Path) -> Libs:
    """Read and check a libs file and the requirement files that it names.

    Raises:
        SpecError: anything wrong in them, with file, line, key, what was expected and the nearest right word.
    """
    document = read(path)
    data = _normalized(document)
    try:
        model = _LibsFile.model_validate(data)
    except ValidationError as error:
        raise _translated(error.errors(), document) from None
    return _resolved(model, document, path.absolute())


def _normalized(document: Document) -> dict[str, Any]:
    """The data as the model takes it: empty keys left out, texts of `env` as they were written (not `no` → false).

    Raises:
        SpecError: a key that is planned but not there yet.
    """
    data = _without_empty(document.data)
    for section, later in _LATER.items():
        values = data if not section else data.get(section)
        for key in later.keys() & (values.keys() if isinstance(values, dict) else set()):
            path = (section, key) if section else (key,)
            raise document.error(path, "not supported by this version of runner", later[key])
    if isinstance(data.get("r"), dict):
        data["r"] = _without_empty(data["r"])
    elif "r" in document.data and document.data["r"] is None:
        data["r"] = {}
    if isinstance(env := data.get("env"), dict):
        data["env"] = {
            key: document.text(("env", key)) if not isinstance(value, dict | list) else value
            for key, value in env.items()
        }
    return data


def _without_empty(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}


def _resolved(model: _LibsFile, document: Document, path: Path) -> Libs:
    def asked(key: KeyPath, items: Iterable[str]) -> list[Asked]:
        dotted = ".".join(map(str, key))
        return [Asked(text, document.file, document.line((*key, i)) or 1, dotted) for i, text in enumerate(items)]

    pip_items = asked(("pip",), model.pip)
    requirements = collect(pip_items, path.parent)
    r = model.r or _R()
    apt = tuple(_apt(item) for item in asked(("apt",), model.apt))
    cran = tuple(_cran(item) for item in asked(("r", "cran"), r.cran))
    for packages in (apt, cran):
        _refuse_twice(packages)
    imports = {
        str(canonicalize_name(name)): (value,) if isinstance(value, str) else tuple(value)
        for name, value in model.imports.items()
    }
    pip = tuple(_pip(item) for item in requirements.asked)
    known = {package.name for package in pip}
    for written, name in zip(model.imports, imports, strict=True):
        if name not in known:
            near = nearest(name, known)
            message = f"{written!r} is not among the pip packages"
            raise document.error(("imports", written), message, *([f"did you mean {near}?"] if near else []))
    return Libs(
        path=path,
        name=model.name or default_name(path),
        base=model.base,
        base_line=document.line(("base",)),
        apt=apt,
        pip=pip,
        pip_lines=tuple(model.pip),
        pip_rest=tuple(requirements.rest),
        files=tuple(requirements.files),
        r=model.r is not None,
        r_packages=cran,
        repos=tuple(r.repos),
        env=model.env,
        imports=imports,
        ca_bundle=_ca_bundle(model.ca_bundle, document, path),
    )


def _ca_bundle(value: str | None, document: Document, path: Path) -> Path | None:
    if value is None:
        return None
    bundle = path.parent / value
    if not bundle.is_file():
        raise document.error(("ca_bundle",), f"no such file: {value}", f"looked in {bundle.parent}")
    return bundle


def _apt(item: Asked) -> Package:
    match = items.APT.fullmatch(item.text)
    assert match is not None  # noqa: S101 - the model has checked it
    return Package("apt", match[1], item.text, item.file, item.line, item.key, version=match[2])


def _cran(item: Asked) -> Package:
    match = items.CRAN.fullmatch(item.text)
    assert match is not None  # noqa: S101 - the model has checked it
    constraints = rversion.parse_constraints(match[2]) if match[2] else ()
    return Package("cran", match[1], item.text, item.file, item.line, item.key, constraints)


def _pip(item: Asked) -> Package:
    name, marker = _pip_name(item)
    return Package("pip", name, item.text, item.file, item.line, item.key, marker=marker)


def _pip_name(item: Asked) -> tuple[str, str | None]:
    """(normalized name, marker). Of a bare address the file name tells the name, else it must be given as `name @ …`."""
    try:
        requirement = Requirement(item.text)
        return str(canonicalize_name(requirement.name)), str(requirement.marker) if requirement.marker else None
    except InvalidRequirement as error:
        invalid = str(error).splitlines()[0]
    file = item.text.split(";", 1)[0].strip().split("#", 1)[0].rsplit("/", 1)[-1]
    try:
        parsed = parse_wheel_filename(file) if file.endswith(".whl") else parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        if "://" in item.text:
            invalid = "the package's name cannot be told from this address; write `NAME @ ADDRESS`"
        raise SpecError(f"{item.text!r}: {invalid}", file=item.file, line=item.line, key=item.key) from None
    return str(parsed[0]), None


def _refuse_twice(packages: Iterable[Package]) -> None:
    seen: dict[str, Package] = {}
    for package in packages:
        if package.name in seen:
            raise package.error(f"{package.name} is listed twice (first in line {seen[package.name].line})")
        seen[package.name] = package


def _translated(errors: Iterable[ErrorDetails], document: Document) -> SpecError:
    """The first thing wrong by line, with the others as hints."""
    found: dict[KeyPath, tuple[str, ...]] = {}
    for error in errors:
        path = tuple(part for part in error["loc"] if not _is_branch(part))
        found.setdefault(path, _described(error, path))
    (path, (message, *hints)), *others = sorted(found.items(), key=lambda item: document.line(item[0]) or 0)
    also = [f"also: {document.error(other, message).message}" for other, (message, *_) in others]
    return document.error(path, message, *hints, *also)


def _is_branch(part: str | int) -> bool:
    """Pydantic names the branch of a union in the location; the user did not write it."""
    return isinstance(part, str) and ("function-" in part or part in {"str", "[key]"} or part.startswith("list["))


def _described(error: ErrorDetails, path: KeyPath) -> tuple[str, ...]:
    """What is wrong, then the hints."""
    kind, value = error["type"], error.get("input")
    if kind == "extra_forbidden":
        model: type[BaseModel] = _R if path[0] == "r" and len(path) > 1 else _LibsFile
        near = nearest(str(path[-1]), model.model_fields)
        known = ", ".join(model.model_fields)
        return ("unknown key", *([f"did you mean {near}?"] if near else []), f"known: {known}")
    if kind == "value_error":
        return tuple(error["msg"].removeprefix("Value error, ").split("\n"))
    expected = {
        "string_type": "text",
        "list_type": "a list ([a, b], or `- item` lines)",
        "dict_type": "a mapping (`key: value` lines)",
        "model_type": "a mapping (`key: value` lines)",
        "model_attributes_type": "a mapping (`key: value` lines)",
        "string_too_short": "text that is not empty",
    }.get(kind, error["msg"])
    quotes = ("put it in quotes",) if isinstance(value, int | float) and kind == "string_type" else ()
    return (f"expected {expected}, found {_shown(value)}", *quotes)


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f"the text {value!r}"
        case _:
            return f"{value!r}"
