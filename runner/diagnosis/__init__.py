"""Looks at this machine for what runner needs. Reads only, changes nothing, and never raises for what it finds."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.backends import names, open_backend
from runner.errors import RunnerError
from runner.spec.values import human_size
from runner.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.backends.base import Capabilities

_ROOM = 2 * 1024**3
"""The default image takes about half of this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `needed`: without it runner cannot do its main job."""

    name: str
    ok: bool
    text: str
    fix: str = ""
    needed: bool = False


def diagnose() -> list[Finding]:
    """Every check of this machine, in the order in which a new user needs them."""
    return [*_python(), *_store(), *_engine(), *_base(), *_process(), *_secrets()]


def diagnose_azure(asked: Mapping[str, str]) -> list[Finding]:
    """Every check of Azure ML. asked: what was said of the workspace; see `runner.backends.find_target`."""
    from runner.diagnosis.azure import findings

    return list(findings(asked))


def _python() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("python", ok=True, text=f"{version} at {sys.executable}")


def _store() -> Iterator[Finding]:
    store = Store()
    try:
        count = len(store.list())
        store.remember("doctor", 1)
    except RunnerError as error:
        yield Finding("run store", ok=False, text=error.message, fix=" ".join(error.hints), needed=True)
        return
    yield Finding("run store", ok=True, text=f"{store.home}, {count} runs")
    free = shutil.disk_usage(store.home).free
    yield Finding("disk", ok=free >= _ROOM, text=f"{human_size(free)} free at {store.home}",
                  fix="free some space, or set RUNNER_HOME to a folder with room")  # fmt: skip


def _engine() -> Iterator[Finding]:
    from runner.docker_api.containers import Engine

    engine = Engine()
    try:
        version, info = engine.version(), engine.info()
    except RunnerError as error:
        fix = " ".join(error.hints) + _install()
        yield Finding("container engine", ok=False, text=error.message, fix=fix)
        return
    finally:
        engine.close()
    cgroup = info.get("CgroupVersion", "1")
    yield Finding("container engine", ok=True, text=f"{version.get('Version')} at {engine.host}, cgroup v{cgroup}")
    driver = info.get("Driver", "")
    yield from _images()
    yield Finding("image storage", ok=driver != "vfs", text=f"{driver} at {info.get('DockerRootDir', '')}",
                  fix="vfs copies every layer: use a file system that overlay2 supports")  # fmt: skip


def _images() -> Iterator[Finding]:
    from runner.builder.stock import prune
    from runner.docker_api import stock

    with stock.opened() as opened:
        try:
            count, size = prune.space(opened)
        except RunnerError:  # told by the finding before
            return
    text = f"{count} images and layers of runner take {human_size(size)} beyond their bases"
    yield Finding("images", ok=True, text=text + ("; see: runner image list" if count else ""))


def _install() -> str:
    if shutil.which("dockerd"):
        return ""
    if shutil.which("apt-get"):
        return " (to install one: sudo apt-get install --no-install-recommends docker.io)"
    return " (to install one, see the manual of Docker or Podman)"


def _base() -> Iterator[Finding]:
    found = shutil.which("mmdebstrap")
    yield Finding(
        "base image", ok=found is not None,
        text="mmdebstrap can make the base from Debian's packages" if found else
             "mmdebstrap is not installed: the base can only come from a registry",
        fix="sudo apt-get install mmdebstrap (only needed where no registry can be reached)",
    )  # fmt: skip


def _process() -> Iterator[Finding]:
    for program, what in (("python3", "Python"), ("Rscript", "R"), ("bash", "shell")):
        path = shutil.which(program)
        yield Finding(f"{what} here", ok=path is not None, text=path or f"{program} is not on this machine",
                      fix="only --backend process needs it; with --backend docker the image has it")  # fmt: skip
    can = open_backend("process", Store()).capabilities
    yield Finding("process limits", ok=can.memory,
                  text="memory and processor limits hold on backend process" if can.memory else
                       "backend process cannot hold --memory and --cpus on this machine",
                  fix="use --backend docker for limits (or run as root, or with a delegated control group)")  # fmt: skip


def _secrets() -> Iterator[Finding]:
    shm = Path("/dev/shm")  # noqa: S108 - looked at, not written to
    ok = shm.is_dir() and os.access(shm, os.W_OK)
    yield Finding("secrets", ok=ok, text=f"tmpfs at {shm}" if ok else f"no writable tmpfs at {shm}",
                  fix="mount one: --secret needs it")  # fmt: skip


def backend_list() -> list[dict[str, Any]]:
    """Each backend: name, state (`ready`, or why not), and the names of what it can do."""
    store = Store()
    found = []
    for name in names():
        if name == "azureml":
            from runner.diagnosis.azure import summary

            can, state = summary()
            found.append({"name": name, "state": state, "capabilities": _named(can)})
            continue
        capabilities: list[str] = []
        try:
            backend = open_backend(name, store)
            capabilities = _named(backend.capabilities)
            backend.poll(["0:0:none"] if name == "process" else ["none"])
            backend.close()
            state = "ready"
        except RunnerError as error:
            state = error.message
        found.append({"name": name, "state": state, "capabilities": capabilities})
    return found


def _named(capabilities: Capabilities) -> list[str]:
    return [can for can, has in asdict(capabilities).items() if has]
