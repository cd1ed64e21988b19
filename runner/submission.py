"""From a script and options to an accepted run: what image, what backend, what code, and then the supervisor."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner import composer, environments, snapshot
from runner.backends import open_backend
from runner.errors import (
    CodeFolderError,
    ConflictError,
    NotFoundError,
    SpecError,
    UnavailableError,
    UsageError,
)
from runner.model import Limits, RetryPolicy, Step
from runner.spec.values import human_size
from runner.supervisor import launch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.backends.base import Backend
    from runner.store import RunRow, Store

    Say = Callable[[str, str], None]


_LEAST_MEMORY = 6 * 1024**2
"""What Docker's engine asks for; the same on every backend."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, as typed but checked: paths exist, sizes are bytes, durations seconds."""

    script: Path
    args: tuple[str, ...] = ()
    backend: str | None = None
    compute: str | None = None
    libs: Path | None = None
    image: str | None = None
    code: Path | None = None
    inputs: Mapping[str, Path] = field(default_factory=dict)
    outputs: Mapping[str, str | None] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    name: str | None = None
    experiment: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with every decision taken, and nothing started."""

    request: Request
    step: Step
    backend: str
    image_name: str | None
    code: Path
    snapshot: snapshot.Snapshot
    experiment: str


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
    backend_name = _backend(request, say)
    backend = open_backend(backend_name, store)
    try:
        step = Step(
            name=script.stem,
            argv=(relative, *request.args),
            image=request.image or (str(request.libs) if request.libs else None),
            env=dict(request.env),
            inputs={name: str(_input(name, path)) for name, path in request.inputs.items()},
            outputs={name: _output(name, folder) for name, folder in request.outputs.items()},
            secrets=tuple(request.secrets),
            limits=request.limits,
            retry=request.retry,
        )
        _check_limits(step)
        composer.check_names(step)
        composer.check_capabilities(step, backend_name, backend.capabilities)
        _check_arguments(step)
        taken = _snapshot(request, script, root, relative, store)
        _check_places(step, taken)
        for note in taken.notes:
            say("note", note)
        image_name = None
        if backend.capabilities.images:
            wanted = environments.beside(script, request.image, request.libs, say)
            image = environments.resolve(wanted, say, build=build)
            step, image_name = replace(step, image=image.id), image.name
            if step.secrets:
                # Whether this very image can take secrets shows in the request, and has to show before anything starts.
                _render(backend, step, store, request.name)
        elif (script.parent / "libs.yaml").is_file():
            say("note", f"libs.yaml beside the script is not used: backend {backend_name} runs in no image")
    finally:
        backend.close()
    experiment = request.experiment or root.name or "default"
    return Prepared(request, step, backend_name, image_name, root, taken, experiment)


def accept(prepared: Prepared, store: Store, name: str | None = None) -> tuple[RunRow, int]:
    """Copy the code, record the run, start its supervisor: (the run, a descriptor that tells the supervisor's end).

    A kill at any moment leaves either an accepted run, which will end, or nothing that counts.

    Raises:
        RunnerError: nothing was accepted.
        KeyboardInterrupt: with the run's name as its argument when it had been accepted already.
    """
    request = prepared.request
    name, folder = store.reserve(name or request.name)
    lock = store.lock(name)
    if lock is None:
        raise ConflictError(f"the run {name} is being made by another process")
    accepted = False
    try:
        with store.errors():
            snapshot.copy(prepared.code, prepared.snapshot, folder.code)
        run = store.accept(
            name, step=prepared.step, backend=prepared.backend, image=prepared.step.image,
            image_name=prepared.image_name, experiment=_text(prepared.experiment),
            title=_text(str(prepared.step.argv[0])), description=_text(request.description), tags=request.tags,
        )  # fmt: skip
        accepted = True
        return run, launch(store, run, lock, dict(request.secrets))
    except BaseException as error:
        if not accepted:
            os.close(lock)
        # Ctrl-C may come between the commit and our knowing of it: only the store can tell, and its word is final.
        if not store.has(name):
            store.discard(name)
        elif isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(name) from None
        raise


def preview(prepared: Prepared, store: Store) -> dict[str, object]:
    """What submitting would do: the step, and exactly what the backend would be sent. Nothing is started."""
    backend = open_backend(prepared.backend, store)
    try:
        rendered = _render(backend, prepared.step, store, prepared.request.name)
    finally:
        backend.close()
    return {
        "backend": prepared.backend,
        "image": prepared.step.image,
        "image_name": prepared.image_name,
        "code": {"folder": str(prepared.code), "files": len(prepared.snapshot.files), "bytes": prepared.snapshot.size},
        "step": prepared.step.to_json(),
        "request": rendered,
    }


def _render(backend: Backend, step: Step, store: Store, name: str | None) -> Mapping[str, object]:
    """What the backend would be sent for the first attempt."""
    from runner.backends.base import Box

    folder = store.folder(name or "dry-run").attempt(1)
    box = Box(folder.box)
    task = composer.compose_task(
        step, run=name or "dry-run", experiment="", number=1, store_id=store.id,
        secrets=dict.fromkeys(step.secrets, ""), box=box, log=folder.log,
        layout=backend.layout(box, step.inputs, step.outputs),
    )  # fmt: skip
    return backend.render(task)


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


def _backend(request: Request, say: Say) -> str:
    """--backend; else --compute other than local; else Docker if an engine answers; else process."""
    compute = request.compute if request.compute != "local" else None
    if request.backend is not None:
        if compute is not None and request.backend != "azureml":
            raise UsageError(
                f"--compute {compute} is a compute of Azure ML, and --backend {request.backend} has none",
                "leave one of them out",
            )
        return request.backend
    if compute is not None:
        return "azureml"
    from runner.docker_api.wire import Connection, docker_host

    connection = Connection(docker_host(), timeout=5)
    try:
        status, _ = connection.call("GET", "/_ping")
    except UnavailableError as error:
        status = 0
        reason = error.message
    finally:
        connection.close()
    if status == 200:
        say("backend", "docker   (engine answers; --backend to choose)")
        return "docker"
    say("backend", f"process  ({reason if status == 0 else f'the engine answers {status}'}; --backend to choose)")
    return "process"


def _input(name: str, path: Path) -> Path:
    _kind_of(path, f"file or folder for --input {name}")
    return _absolute(path)


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


def _check_limits(step: Step) -> None:
    memory = step.limits.memory_bytes
    if memory is not None and memory < _LEAST_MEMORY:
        raise SpecError(
            "no script can start in so little memory", f"expected {human_size(_LEAST_MEMORY)} or more", key="--memory"
        )


def _check_arguments(step: Step) -> None:
    for argument in (*step.argv, *(f"{name}={value}" for name, value in step.env.items())):
        if "\0" in argument:
            raise UsageError("an argument or variable holds a NUL byte, which no program can be given")
        if len(os.fsencode(argument)) >= 128 * 1024:
            raise UsageError(
                f"an argument or variable is {len(argument) // 1024} KiB long, and Linux allows 128 KiB each",
                "write it to a file and pass that with --input",
            )


def _text(value: str) -> str:
    """As text that SQLite takes: a file's name may hold bytes that are none."""
    return os.fsencode(value).decode("utf-8", "replace")
