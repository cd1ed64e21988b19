"""runner.yaml: what names stand for in a project (see docs/names.md), and below it what they stand for to the user.

The project's file is the first `runner.yaml` upward from where the work is; RUNNER_CONFIG or `--config` names another.
The user's is `runner/runner.yaml` in the XDG config folder. An entry of the project's wins over the user's.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from runner.errors import SpecError
from runner.spec.reference import place
from runner.spec.sections import SECTIONS, Sections, sections, shown, unknown_key
from runner.spec.yamldoc import Document, nearest, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.spec.mappings import ComponentFile, Compute, Location, Mapped, Workspace

_T = TypeVar("_T")
FILE = "runner.yaml"
Auth = Literal["acr", "docker", "basic"]
"""How runner signs in to a registry: Azure's token exchange, docker's own logins, RUNNER_REGISTRY_USER/PASSWORD."""

_KEYS = ("registry", "registries", *SECTIONS)
_REGISTRY_KEYS = ("auth",)


@dataclass(frozen=True, slots=True)
class Config:
    """What the files say. registry: `HOST[/PATH]` that images are pushed to. registries: host → how to sign in there.
    files: those that were read, the project's first. named: the hosts in files of the user's own choice, which are the
    user's runner.yaml and one that was named; a project's file that was only found came with a checkout.

    environments, data, components, computes: by name or pattern; ask `runner.spec.names`. datastores: by name. urls: the
    beginning of a URL → where it is instead.
    """

    registry: str | None = None
    registries: Mapping[str, Auth] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    named: frozenset[str] = frozenset()
    environments: Mapping[str, Mapped] = field(default_factory=dict)
    datastores: Mapping[str, Location] = field(default_factory=dict)
    data: Mapping[str, Location] = field(default_factory=dict)
    urls: Mapping[str, Location] = field(default_factory=dict)
    components: Mapping[str, ComponentFile] = field(default_factory=dict)
    computes: Mapping[str, Compute] = field(default_factory=dict)
    workspace: Workspace | None = None


def load(start: Path, environ: Mapping[str, str], explicit: Path | None = None) -> Config:
    """The settings for work in the folder `start`.

    Args:
        start: where the search for the project's file begins: the libs file's folder, or the working directory.
        environ: RUNNER_CONFIG, XDG_CONFIG_HOME and HOME are looked at.
        explicit: the file that `--config` names; wins over RUNNER_CONFIG.

    Raises:
        SpecError: a file that was named is missing, or anything wrong in one, with file, line and key.
    """
    named = explicit or (Path(environ["RUNNER_CONFIG"]) if environ.get("RUNNER_CONFIG") else None)
    project = named or upward(start.absolute(), FILE)
    user = _user_file(environ)
    if user is not None and project is not None and _same(user, project):
        named = project
    found = [_parsed(project, named=named is not None)] if project else []
    if project and not named and any(auth == "acr" for auth in found[0].registries.values()):
        _refuse_foreign(project)
    own = found[:1] if named else []
    if user is not None and user.is_file() and (project is None or not _same(user, project)):
        found.append(_parsed(user, named=True))
        own = [*own, found[-1]]
    return Config(
        registry=next((config.registry for config in found if config.registry), None),
        registries=_merged(*(config.registries for config in found)),
        files=tuple(path for config in found for path in config.files),
        named=frozenset(host for config in own for host in _hosts(config)),
        environments=_merged(*(config.environments for config in found)),
        datastores=_merged(*(config.datastores for config in found)),
        data=_merged(*(config.data for config in found)),
        urls=_merged(*(config.urls for config in found)),
        components=_merged(*(config.components for config in found)),
        computes=_merged(*(config.computes for config in found)),
        workspace=next((config.workspace for config in found if config.workspace), None),
    )


def _merged(*tables: Mapping[str, _T]) -> dict[str, _T]:
    """Entry by entry; those of the tables that come first win."""
    merged: dict[str, _T] = {}
    for table in reversed(tables):
        merged |= table
    return merged


def _hosts(config: Config) -> Iterator[str]:
    yield from config.registries
    if config.registry:
        yield place(config.registry).host


def _refuse_foreign(project: Path) -> None:
    """A file that came with a checkout must not send the user's Azure token to a host of its choice."""
    document = read(project)
    host = next(host for host, given in document.data["registries"].items() if given.get("auth") == "acr")
    raise document.error(
        ("registries", host, "auth"),
        f"a project's file may not have your Azure sign-in sent to {host}",
        "if you trust it, put this into your own ~/.config/runner/runner.yaml, or name the file: --config, RUNNER_CONFIG",
    )


def upward(start: Path, name: str) -> Path | None:
    """The first file of that name from the absolute folder `start` up. A folder above it that everyone may write to (/tmp)
    ends the search: a file that a stranger put there would decide where images, code and logins go."""
    for folder in (start, *start.parents):
        try:
            shared = bool(folder.stat().st_mode & stat.S_IWOTH)
        except OSError:
            continue
        if shared and folder != start:
            return None
        if (folder / name).is_file():
            return folder / name
    return None


def _user_file(environ: Mapping[str, str]) -> Path | None:
    xdg = environ.get("XDG_CONFIG_HOME", "")
    if xdg.startswith("/"):
        return Path(xdg) / "runner" / FILE
    home = environ.get("HOME", "")
    return Path(home) / ".config" / "runner" / FILE if home.startswith("/") else None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _parsed(path: Path, *, named: bool) -> Config:
    document = read(path)
    errors = [unknown_key(document, (key,), key, _KEYS) for key in document.data if key not in _KEYS]
    registry, registries = None, {}
    try:
        registry, registries = _registry(document), _registries(document)
    except SpecError as error:
        errors.append(error)
    found, wrong = sections(document, folder=path.absolute().parent, named=named)
    _raise_all(str(path), [*errors, *wrong])
    return _config(registry, registries, path, found)


def _raise_all(file: str, errors: list[SpecError]) -> None:
    """Nothing where there are none; the one; or one error that lists all, in the order of their lines."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        ordered = sorted(errors, key=lambda each: each.line or 0)
        raise SpecError(f"{len(errors)} things are wrong", *(str(each) for each in ordered), file=file)


def _config(registry: str | None, registries: dict[str, Auth], path: Path, found: Sections) -> Config:
    return Config(registry, registries, (path,), **{key: getattr(found, key) for key in SECTIONS})


def _registry(document: Document) -> str | None:
    registry = document.data.get("registry")
    if registry is None:
        return None
    if not isinstance(registry, str):
        raise document.error(("registry",), f"expected text, found {shown(registry)}", "such as HOST/PATH")
    asked = place(registry, file=document.file, line=document.line(("registry",)), key="registry")
    if asked.tag is not None:
        raise document.error(("registry",), "a tag is chosen for each image", f"leave out :{asked.tag}")
    return registry


def _registries(document: Document) -> dict[str, Auth]:
    given = document.data.get("registries")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise document.error(("registries",), f"expected HOST: {{auth: …}} lines, found {shown(given)}")
    return {host: _auth(document, host, settings) for host, settings in given.items()}


def _auth(document: Document, host: str, settings: object) -> Auth:
    path = ("registries", host)
    asked = place(host, file=document.file, line=document.line(path), key="registries")
    if asked.path:
        raise document.error(path, "expected a host alone", f"did you mean {asked.host}?")
    if not isinstance(settings, dict):
        raise document.error(path, f"expected {{auth: …}}, found {shown(settings)}")
    for key in settings:
        if key not in _REGISTRY_KEYS:
            raise unknown_key(document, (*path, key), key, _REGISTRY_KEYS)
    auth = settings.get("auth")
    for kind in get_args(Auth):
        if auth == kind:
            return kind  # type: ignore[no-any-return]  # get_args tells no types
    near = nearest(str(auth), get_args(Auth))
    hints = [f"did you mean {near}?"] if near else []
    message = f"expected one of {', '.join(get_args(Auth))}, found {shown(auth)}"
    raise document.error((*path, "auth"), message, *hints)
