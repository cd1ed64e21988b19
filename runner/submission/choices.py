"""Decisions and checks that scripts and jobs have in common."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.backends import find_target, open_backend
from runner.errors import CapabilityError, SpecError, UnavailableError, UsageError
from runner.spec.reference import place
from runner.spec.values import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from runner.backends.base import Backend
    from runner.model import Step
    from runner.spec.config import Config
    from runner.store import Store
    from runner.submission.accepting import Say

_HERE = frozenset({"process", "docker"})
ENGINES_OWN = ("localhost/", "sha256:")
"""How names of images begin that only this machine's engine knows: for a service elsewhere they are pushed."""
_LEAST_MEMORY = 6 * 1024**2
"""What Docker's engine asks for; the same on every backend."""


def choose_backend(backend: str | None, compute: str | None, say: Say) -> str:
    """--backend; else --compute other than local; else Docker if an engine answers; else process."""
    if compute == "":
        raise UsageError("--compute is empty", "name one (runner compute list), or leave it out")
    if compute == "local" and backend is not None and backend not in _HERE:
        raise UsageError(f"--compute local is this machine, and --backend {backend} is not", "leave one of them out")
    compute = compute if compute != "local" else None
    if backend is not None:
        if compute is not None and backend in _HERE:
            raise UsageError(
                f"--compute {compute} is a compute of Azure ML, and --backend {backend} has none",
                "leave one of them out",
            )
        return backend
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


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a new run is to go. target, config, start: see `runner.backends.find_target`."""

    backend: str
    target: Mapping[str, str] | None
    config: Callable[[], Config]
    start: Path


def opened(asked: Asked, store: Store, say: Say) -> tuple[Backend, Mapping[str, str] | None]:
    """The backend of a new run, and what the run keeps to reach it again (`Prepared.target`).

    Raises:
        UsageError, SpecError, UnavailableError, CapabilityError: it cannot be used.
    """
    target, told = find_target(asked.backend, asked.target or {}, asked.config, asked.start)
    if told:
        say("workspace", told)
    return open_backend(asked.backend, store, target), target


def check_vaulted(vaulted: Mapping[str, str], backend: Backend) -> None:
    """Refuse secrets by reference where no job could read them.

    Raises:
        CapabilityError: naming them.
    """
    if vaulted and not backend.capabilities.remote:
        raise CapabilityError(
            f"--secret {next(iter(vaulted))}=keyvault:…: backend {backend.name} reads no vault; nothing was started",
            f"give the value: export it, and say --secret {next(iter(vaulted))}",
        )


def check_registry(registry: str | None, backend: Backend, image: str | None = None) -> None:
    """Refuse a registry to push to where nothing is pushed. image: the one that the user named.

    Raises:
        UsageError: naming it. SpecError: it is none.
    """
    if registry is None:
        return
    if not backend.capabilities.remote:
        raise UsageError(
            f"--registry {registry}: backend {backend.name} runs images of this machine's engine and pushes none",
            "leave it out; to push an image: runner push",
        )
    if image is not None and not image.startswith(ENGINES_OWN):
        raise UsageError(
            f"--registry {registry}: the image {image} is pulled as it is named, and none is pushed",
            "leave one of them out",
        )
    place(registry, key="--registry")


def check_limits(step: Step) -> None:
    """Refuse limits that no backend could keep.

    Raises:
        SpecError: naming it.
    """
    memory = step.limits.memory_bytes
    if memory is not None and memory < _LEAST_MEMORY:
        raise SpecError(
            "no script can start in so little memory", f"expected {human_size(_LEAST_MEMORY)} or more", key="--memory"
        )


def check_arguments(step: Step) -> None:
    """Refuse what the kernel would: an argument or variable that is too long, or holds a NUL byte.

    Raises:
        UsageError: saying how long it is.
    """
    for argument in (*step.argv, *(f"{name}={value}" for name, value in step.env.items())):
        if "\0" in argument:
            raise UsageError("an argument or variable holds a NUL byte, which no program can be given")
        if len(os.fsencode(argument)) >= 128 * 1024:
            raise UsageError(
                f"an argument or variable is {len(argument) // 1024} KiB long, and Linux allows 128 KiB each",
                "write it to a file and pass that with --input",
            )
