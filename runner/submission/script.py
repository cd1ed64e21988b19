"""From a script and options to a prepared run: what image, what backend, what code."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner import composer, snapshot
from runner.errors import (
    CodeFolderError,
    NotFoundError,
    UsageError,
)
from runner.model import Limits, Remote, RetryPolicy, Step
from runner.submission.accepting import WHOLE, CodeFolder, Prepared, render
from runner.submission.choices import (
    Asked,
    check_arguments,
    check_limits,
    check_registry,
    check_vaulted,
    choose_backend,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.backends.base import Backend
    from runner.job import Environment
    from runner.spec.config import Config
    from runner.store import Store
    from runner.submission.accepting import Say


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, as typed but checked: paths exist, sizes are bytes, durations seconds.

    inputs: a path of this machine, or a URI as text, for a backend elsewhere. vaulted: see `runner.model.Remote.secrets`.
    target: which workspace, as far as the user said: any of `workspace`, `resource_group`, `subscription`, `auth`.
    registry: HOST[/PATH] that an image is pushed to.
    """

    script: Path
    args: tuple[str, ...] = ()
    backend: str | None = None
    compute: str | None = None
    libs: Path | None = None
    image: str | None = None
    code: Path | None = None
    inputs: Mapping[str, Path | str] = field(default_factory=dict)
    outputs: Mapping[str, str | None] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    name: str | None = None
    experiment: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    vaulted: Mapping[str, str] = field(default_factory=dict)
    target: Mapping[str, str] | None = None
    registry: str | None = None


def prepare(request: Request, store: Store, say: Say, *, build: bool = True) -> Prepared:
    """Take every decision, and refuse what cannot be done. Builds or pulls the image if `build`.

    Args:
        say: receives (kind, text) for each thing that was decided on the user's behalf.

    Raises:
        RunnerError: of the family that fits; nothing was started, nothing recorded.
    """
    script = _script(request.script)
    root, relative = _code(script, request.code)
    if request.libs is not None:
        _kind_of(request.libs, "libs file")
    backend_name = choose_backend(request.backend, request.compute, say)
    asked = Asked(backend_name, request.target, lambda: _config(root), root)
    backend, target = opened(asked, store, say)
    try:
        check_vaulted(request.vaulted, backend)
        check_registry(request.registry, backend, request.image)
        can = backend.capabilities
        step = Step(
            name=script.stem,
            argv=(relative, *request.args),
            image=request.image or (str(request.libs) if request.libs else None),
            env=dict(request.env),
            inputs={name: _input(name, given, remote=can.remote) for name, given in request.inputs.items()},
            outputs={name: _output(name, folder) for name, folder in request.outputs.items()},
            secrets=tuple(request.secrets),
            limits=request.limits,
            retry=request.retry,
        )
        check_limits(step)
        composer.check_names(step)
        composer.check_capabilities(step, backend_name, can)
        check_arguments(step)
        taken = _snapshot(request, script, root, relative, store)
        _check_places(step, taken)
        for note in taken.notes:
            say("note", note)
        making = _Making(request, script, backend, say, build)
        step, image_names = making.elsewhere(step, store) if can.remote else making.here(step, store)
    finally:
        backend.close()
    experiment = request.experiment or root.name or "default"
    return Prepared(
        relative, step, backend_name, image_names, {WHOLE: CodeFolder(root, taken)}, experiment, name=request.name,
        description=request.description, tags=request.tags, secrets=request.secrets, target=target,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Making:
    """Gives a step its image, which is pulled, built or pushed if `build`: the step, and what to call the image."""

    request: Request
    script: Path
    backend: Backend
    say: Say
    build: bool

    def here(self, step: Step, store: Store) -> tuple[Step, dict[str, str]]:
        """For a backend on this machine."""
        if not self.backend.capabilities.images:
            if (self.script.parent / "libs.yaml").is_file():
                self.say(
                    "note", f"libs.yaml beside the script is not used: backend {self.backend.name} runs in no image"
                )
            return step, {}
        from runner import environments

        image = environments.resolve(self._wanted(), self.say, build=self.build)
        step = replace(step, image=image.id)
        if step.secrets:
            # Whether this very image can take secrets shows in the request, and has to show before anything starts.
            render(self.backend, step, store, self.request.name)
        return step, {image.id: image.name}

    def elsewhere(self, step: Step, store: Store) -> tuple[Step, dict[str, str]]:
        """For a backend elsewhere."""
        from runner.job import DataType
        from runner.submission import elsewhere, images

        request = self.request
        config = _config(self.script.parent)
        pushing = images.Pushing(
            request.registry, images.registry_of(self.backend), config, store.cache / "contexts", self.say, self.build
        )
        wanted = self._wanted()
        remote = Remote(
            images.named_there(wanted),
            request.compute,
            {name: {"type": str(elsewhere.kind_of(path)), "path": path} for name, path in step.inputs.items()},
            {name: {"type": str(DataType.URI_FOLDER)} for name in step.outputs},
            members=elsewhere.told(None, request.description, request.tags),
            secrets=dict(request.vaulted),
        )
        if self.build:
            elsewhere.check(self.backend, [replace(step, remote=remote)])
        environs = images.resolve_all([wanted], pushing)[0]
        named = images.reference(environs)
        return replace(step, image=named, remote=replace(remote, environment=environs.member)), {named: environs.shown}

    def _wanted(self) -> Environment | None:
        from runner import environments

        return environments.beside(self.script, self.request.image, self.request.libs, self.say)


# -- decisions ------------------------------------------------------------------------------------------------------


def _script(path: Path) -> Path:
    mode = _kind_of(path, "script")
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder", f"name the script in it: runner submit {path / 'SCRIPT'}")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is not a file", "expected a script: .py .R .sh .ipynb …, or an executable file")
    return _absolute(path)


def _absolute(path: Path) -> Path:
    """The path without `..` and links above it; a link itself keeps its name, since scripts look at names."""
    absolute = _expanded(path).absolute()
    if absolute.name in {"", ".."}:
        return absolute.resolve()
    return absolute.parent.resolve() / absolute.name


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise NotFoundError(f"{path}: there is no such user") from None


def _kind_of(path: Path, what: str) -> int:
    """The mode of what the user named.

    Raises:
        NotFoundError: it is not there, or cannot be looked at; names what is like it.
    """
    absolute = _expanded(path).absolute()
    try:
        return absolute.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        near = _nearest(path)
        raise NotFoundError(f"no such {what}: {path}", *([f"did you mean {near}?"] if near else [])) from None
    except OSError as error:
        raise NotFoundError(f"cannot use the {what} {path}: {error.strerror}") from None


def _nearest(path: Path) -> Path | None:
    import difflib

    try:
        names = [entry.name for entry in _expanded(path).absolute().parent.iterdir() if entry.is_file()]
    except OSError:
        return None
    found = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return path.parent / found[0] if found else None


def _code(script: Path, code: Path | None) -> tuple[Path, str]:
    """The code folder, and the script's path in it."""
    if code is None:
        return script.parent, script.name
    mode = _kind_of(code, "folder or script for --code")
    if not stat.S_ISDIR(mode):
        if _absolute(code).resolve() != script.resolve():
            raise UsageError(f"--code {code} is a file, and not the script {script.name}", "expected a folder")
        alone = script.resolve()  # a link has no content of its own to take along
        return alone.parent, alone.name
    root = _expanded(code).resolve()
    for candidate in (script, script.resolve()):
        if candidate.is_relative_to(root):
            return root, str(candidate.relative_to(root))
    raise UsageError(f"the script {script} is not in the code folder {root}", "name a folder above it")


def _snapshot(request: Request, script: Path, root: Path, relative: str, store: Store) -> snapshot.Snapshot:
    if request.code is not None and not _expanded(request.code).is_dir():
        return snapshot.single(root / relative)
    taken = snapshot.scan(root, named=request.code is not None, without=store.home)
    if relative in taken.outside:
        raise UsageError(
            f"the script {script} is a link that leads out of its folder",
            f"submit what it points to: runner submit {script.resolve()}",
        )
    if relative not in taken.files and relative not in taken.links:
        raise UsageError(
            f"the script {relative} is itself left out by an ignore rule or its name", "see .amlignore and .gitignore"
        )
    return taken


def _check_places(step: Step, taken: snapshot.Snapshot) -> None:
    """Refuse code that has a file or link where a folder for outputs must be.

    Raises:
        CodeFolderError: naming it.
    """
    for place in (*sorted(composer.RESERVED_OUTPUTS), *(folder for folder in step.outputs.values() if folder)):
        for path in (Path(place), *Path(place).parents):
            if str(path) in taken.files or str(path) in taken.links:
                kind = "link" if str(path) in taken.links else "file"
                raise CodeFolderError(
                    f"{path} in the code folder is a {kind}, and the folder {place} is needed there for outputs",
                    f"rename it, or list /{path} in .amlignore to leave it out",
                )


def _config(folder: Path) -> Config:
    from runner.spec import config as configuration

    return configuration.load(folder, os.environ)


def _input(name: str, given: Path | str, *, remote: bool) -> str:
    """The absolute path, or the URI as it is; what is uploaded must be nothing that no job may be given."""
    if isinstance(given, str):
        if not remote:
            from runner.data.place import without_login

            raise UsageError(
                f"--input {name}={without_login(given)}: a script on this machine is given files and folders",
                "write a job file (docs/jobs.md), which takes addresses too, or download it first",
            )
        return _located(given, name)
    _kind_of(given, f"file or folder for --input {name}")
    path = str(_absolute(given))
    return _located(path, name) if remote else path


def _located(place: str, name: str) -> str:
    from runner.job import Where
    from runner.submission import elsewhere

    return elsewhere.located(place, Where(key=f"--input {name}"))


def _output(name: str, folder: str | None) -> str | None:
    if folder is None:
        return None
    parts = Path(folder).parts
    if folder.startswith(("/", "~")) or ".." in parts or not parts or "=" in folder:
        raise UsageError(
            f"--output {name}={folder}: expected a folder inside the script's working directory, such as {name}=results",
            "to have it on this machine afterwards: runner download RUN --output " + name + " --to DIR",
        )
    if parts[0] in composer.RESERVED_OUTPUTS and len(parts) == 1:
        raise UsageError(f"--output {name}={folder}: ./{parts[0]} is always collected", "leave the option out")
    return str(Path(folder))
