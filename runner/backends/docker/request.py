"""What a container is made of, and where in it everything is. Pure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runner.backends import secretfile
from runner.backends.base import Layout, with_files
from runner.bootstrapper import COMPILED, FILE, arguments, direct_argv
from runner.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from runner.backends.base import Task
    from runner.backends.docker.images import Image

BOX = "/mnt/runner"
INJECTED = "/mnt/runner-bootstrap"
_INPUTS = "/mnt/inputs"
_IN_IMAGE = "/opt/runner"
_SECRETS = "/mnt/runner-secrets"
_ARGUMENTS_MAX = 2_000_000
"""A quarter of the usual stack, with room for the bootstrapper's own. Above, runc ends with 1 and without an error."""


def layout(inputs: Mapping[str, str], outputs: Mapping[str, str | None], files: Collection[str] = ()) -> Layout:
    """The paths in the container; a file keeps its own name, since scripts look at extensions."""
    work = f"{BOX}/work"
    return Layout(
        work=work,
        home=f"{BOX}/home",
        inputs={name: input_target(name, source) for name, source in inputs.items()},
        outputs=with_files(
            {name: f"{work}/{folder}" if folder else f"{BOX}/outputs/{name}" for name, folder in outputs.items()},
            files,
        ),
        tracking=f"{BOX}/tracking",
    )


def body(task: Task, image: Image, *, local: bool, staged: Path | None) -> dict[str, object]:
    """The body of `POST /containers/create`.

    Args:
        local: whether the engine sees this machine's files. staged: the folder of the bootstrapper here, for an image that
            does not carry it.
    """
    paths = layout(task.inputs, task.outputs)
    env = {"HOME": paths.home, "USER": "runner", "LOGNAME": "runner", **task.env}
    config: dict[str, object] = {
        "Image": task.image,
        "WorkingDir": paths.work,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {**task.labels, "runner.key": task.key, "runner.bootstrapped": "1" if image.python else "0"},
        "StopSignal": "SIGTERM",
        # The bootstrapper's grace must end before the engine's, or the final record is never written.
        "StopTimeout": int(task.limits.grace_s) + 15,
        "HostConfig": _host(task, _mounts(task, staged) if local else []),
        **_command(task, image),
    }
    if user := user_of(image):
        config["User"] = user
    return config


def _host(task: Task, mounts: list[dict[str, object]]) -> dict[str, object]:
    limits = task.limits
    host: dict[str, object] = {
        "Mounts": mounts,
        "LogConfig": {"Type": "json-file", "Config": {}},  # `local` lost 31 of 100 MB
        "RestartPolicy": {"Name": "no"},
    }
    if limits.memory_bytes is not None:
        # The same for memory and swap: a script over its limit is told so at once, not after swapping for hours.
        host |= {"Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes}
    if limits.cpus is not None:
        host["NanoCpus"] = round(limits.cpus * 1e9)
    if limits.shm_bytes is not None:
        host["ShmSize"] = limits.shm_bytes
    if limits.ulimits:
        host["Ulimits"] = [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in limits.ulimits.items()]
    if limits.host_ipc:
        host["IpcMode"] = "host"
    if limits.gpus is not None:
        host["DeviceRequests"] = [{"Count": limits.gpus, "Capabilities": [["gpu"]]}]
    return host


def _command(task: Task, image: Image) -> dict[str, list[str]]:
    if image.python is None:
        return {"Entrypoint": [], "Cmd": direct_argv(task.argv)}
    file = f"{_IN_IMAGE}/{COMPILED}" if image.carries else f"{INJECTED}/{FILE}"
    folders = {folder: f"{BOX}/outputs/{name}" for name, folder in task.outputs.items() if folder}
    return {
        "Entrypoint": [image.python, "-I", "-S", file],
        "Cmd": arguments(
            task.argv, key=task.key, record=f"{BOX}/record/status.json", limits=task.limits, outputs=folders,
            secrets=f"{_SECRETS}/{secretfile.NAME}" if task.secrets != {} else None,
        ),
    }  # fmt: skip


def _mounts(task: Task, staged: Path | None) -> list[dict[str, object]]:
    # Bind mounts by the API fail on a missing source, where `-v` would create it.
    mounts = [_bind(str(task.box.root), BOX, read_only=False)]
    mounts += [
        _bind(source, input_target(name, source), read_only=name not in task.writable)
        for name, source in task.inputs.items()
    ]
    if staged is not None:
        mounts.append(_bind(str(staged), INJECTED))
    if task.secrets != {}:
        mounts.append(_bind(str(secretfile.folder(task.key)), _SECRETS, read_only=False))
    return mounts


def user_of(image: Image) -> str:
    """uid:gid inside: the caller's own; for root the user that the image was built for ("" = as the image says)."""
    if os.getuid() != 0:
        return f"{os.getuid()}:{os.getgid()}"
    return image.user


def check(task: Task) -> None:
    """Refuse what would not arrive as it is, or would fail in a way that looks like the script's own end.

    Raises:
        SpecError: an argument or variable is no text, or all together are more than Linux takes.
    """
    words = [*task.argv, *(f"{name}={value}" for name, value in task.env.items())]
    for word in words:
        if not word.isascii() and word != os.fsencode(word).decode("utf-8", "replace"):
            raise SpecError(
                f"{word!r} is not UTF-8, and an engine takes nothing else", "pass it in a file, with --input"
            )
    if (size := sum(len(os.fsencode(word)) + 9 for word in words)) > _ARGUMENTS_MAX:
        raise SpecError(
            f"arguments and variables have {size:,} bytes together, and Linux takes 2 MiB", "pass them in a file"
        )


def _bind(source: str, target: str, *, read_only: bool = True) -> dict[str, object]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def input_target(name: str, source: str) -> str:
    path = Path(source)
    return f"{_INPUTS}/{name}" if path.is_dir() else f"{_INPUTS}/{name}/{path.name}"
