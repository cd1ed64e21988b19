"""The files that a libs file consists of: what kind each is, and what they ask for together. No pydantic: submit asks too.

A libs file is a libs.yaml, or one of the files that people already have: requirements.txt, environment.yml, renv.lock.
What reads one kind of file is imported where such a file is met, for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runner.errors import SpecError
from runner.spec import yamldoc
from runner.spec.credentials import refuse_logins
from runner.spec.places import Asked, asked, files_below, inside, listed
from runner.spec.requirements import Requirements, collect, moved

if TYPE_CHECKING:
    from pathlib import Path

    from runner.spec.environment import Environment
    from runner.spec.libs import Package
    from runner.spec.renv import Renv
    from runner.spec.yamldoc import Document

FileKind = Literal["libs", "requirements", "environment", "renv"]
_MAX_JSON_BYTES = 8 << 20
"""A lock of 300 R packages with all their descriptions is 0.6 MB."""
_YAML = (".yaml", ".yml")
_USUAL = ("libs.yaml", "libs.yml", "requirements.txt", "environment.yml", "renv.lock")
_EXPORTS = {
    "pyproject.toml": "write its dependencies out: uv export --no-emit-project -o requirements.txt",
    "uv.lock": "write it out: uv export --no-emit-project -o requirements.txt",
    "poetry.lock": "write it out: poetry export -o requirements.txt",
    "pipfile": "write it out: pipenv requirements > requirements.txt",
    "pipfile.lock": "write it out: pipenv requirements > requirements.txt",
    "conda-lock.yml": "name the environment.yml that it was made from",
    "pixi.toml": "write it out: pixi project export conda-environment",
    "description": "name its packages under r.cran",
}
"""Files that are not taken, and the way to one that is."""


@dataclass(frozen=True, slots=True)
class Source:
    """A libs file as read. folder: where it is, resolved; all that it names lies there. document: None of requirements."""

    path: Path
    folder: Path
    kind: FileKind
    raw: bytes
    document: Document | None


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a libs file and the files that it names ask for.

    files: absolute, each once: all that decide the content, but not the libs file itself.
    """

    pip_lines: tuple[str, ...]
    requirements: Requirements
    environment: Environment | None
    environment_folder: Path
    renv: Renv | None
    remotes: tuple[Package, ...]
    files: tuple[Path, ...]


def open_source(path: Path) -> Source:
    """Read a libs file and tell its kind, by its name and what is in it.

    Raises:
        SpecError: not readable, of no kind that is taken, or with a login in an address.
    """
    if path.name.lower() not in _EXPORTS and not path.exists():
        there = [name for name in _USUAL if (path.parent / name).is_file()]
        raise SpecError(
            "no such file", *(f"there is {name}: --libs {path.parent / name}" for name in there), file=str(path)
        )
    return _opened(path, str(path))


def gather(source: Source) -> Gathered:
    """Follow a libs file through all the files that it names. It need not be checked: what is no text is passed over.

    Raises:
        SpecError: a file is missing or outside the folder, or asks for what cannot be had.
    """
    pip, remotes = _own(source)
    parts = [part for part in (_part(source, "environment"), _part(source, "renv")) if part is not None]
    environment, environment_folder, renv = None, source.folder, None
    for part in parts:
        document, folder = part.document, part.path.resolve().parent
        if part.kind == "environment" and document:
            from runner.spec.environment import read_environment

            environment, environment_folder = read_environment(document), folder
            pip += [moved(item, folder.relative_to(source.folder).as_posix()) for item in environment.pip]
        elif document:
            from runner.spec.renv import read_renv

            renv = read_renv(document, source.folder, folder)
    requirements = collect(pip, source.folder, source.path.parent)
    files = [*requirements.files, *(part.path.resolve() for part in parts)]
    for package in (*remotes, *(renv.packages if renv else ())):
        if package.remote and package.remote.kind == "path":
            files += files_below(source.folder / package.remote.target)
    own = source.path.resolve()
    return Gathered(
        pip_lines=tuple(item.text for item in pip),
        requirements=requirements,
        environment=environment,
        environment_folder=environment_folder,
        renv=renv,
        remotes=remotes,
        files=tuple(file for file in dict.fromkeys(files) if file != own),
    )


def _own(source: Source) -> tuple[list[Asked], tuple[Package, ...]]:
    """What the libs file itself lists: pip lines, and R packages that no repository offers."""
    if source.kind == "requirements":
        return [Asked(f"-r {source.path.resolve().name}", str(source.path), 1, None)], ()
    if source.kind != "libs" or source.document is None:
        return [], ()
    pip = [moved(item, "") for item in listed(source.document, ("pip",))]
    remotes = listed(source.document, ("r", "github"))
    if not remotes:
        return pip, ()
    from runner.spec.remotes import located

    return pip, tuple(located(item, source.folder) for item in remotes)


def _part(source: Source, kind: FileKind) -> Source | None:
    """The environment.yml or renv.lock: the libs file itself, or what it names as `conda.file` or `r.file`."""
    if source.kind == kind:
        return source
    section = {"environment": "conda", "renv": "r"}[kind]
    values = source.document.data.get(section) if source.kind == "libs" and source.document else None
    name = values.get("file") if isinstance(values, dict) else None
    if source.document is None or not isinstance(name, str):
        return None
    item = asked(source.document, (section, "file"), name)
    found = inside(item, source.folder, source.folder, name)
    part = _opened(found, str(source.path.parent / found.relative_to(source.folder)))
    if part.kind != kind:
        raise item.error(f"{name} is no {'environment.yml' if kind == 'environment' else 'renv.lock'}")
    return part


def _opened(path: Path, shown: str) -> Source:
    if hint := _EXPORTS.get(path.name.lower()):
        raise SpecError("this kind of file is not taken", hint, file=shown)
    requirements, yaml = _is_requirements(path), path.suffix.lower() in _YAML
    raw = yamldoc.read_bytes(path, shown=shown, limit=yamldoc.MAX_BYTES if yaml or requirements else _MAX_JSON_BYTES)
    folder = path.resolve().parent
    if requirements:
        return Source(path, folder, "requirements", raw, None)
    text = yamldoc.decode(raw, shown)
    if not yaml and text.lstrip().startswith("{"):
        kind, document = _from_json(text, shown)
    else:
        document = yamldoc.parse(text, shown)
        kind = "environment" if _is_environment(path, document) else "libs"
    refuse_logins(document)
    return Source(path, folder, kind, raw, document)


def _from_json(text: str, shown: str) -> tuple[FileKind, Document]:
    from runner.spec import jsondoc

    document = jsondoc.parse(text, shown)
    if document.data.keys() >= {"declared", "packages", "base"}:
        raise SpecError("this is a lock of runner", "name the libs file that stands beside it", file=shown)
    if not document.data.keys() >= {"R", "Packages"}:
        raise SpecError("no libs file: of JSON only renv.lock is taken, which has R and Packages", file=shown)
    return "renv", document


def _is_requirements(path: Path) -> bool:
    return path.suffix.lower() in {".txt", ".in"}


def _is_environment(path: Path, document: Document) -> bool:
    if path.name.lower().startswith("libs."):
        return False
    return path.name.lower().startswith("environment") or "dependencies" in document.data
