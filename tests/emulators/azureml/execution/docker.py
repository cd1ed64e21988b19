"""The container engine, by its command line: argument lists, one subprocess each."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CALL_S = 300.0
_SEEN_S = 5.0


class EngineError(Exception):
    """What docker said, on one line."""


@dataclass(frozen=True, slots=True)
class Mount:
    source: Path
    target: str
    read_only: bool = False

    @property
    def argument(self) -> str:
        return f"type=bind,source={self.source},target={self.target}{',readonly' if self.read_only else ''}"


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    oom_killed: bool


class Engine:
    """Containers of one emulator: `emu-…`, labelled with the state they belong to."""

    def __init__(self, label: str) -> None:
        """label: what tells this emulator's containers from those of others."""
        self.owner = label[:8]
        self._label = f"runner-emulator={label}"
        self.build_label = f"runner-emulator-build={label}"
        self._seen: dict[str, float] = {}

    def has_image(self, image: str) -> bool:
        """Asked of the engine at most every few seconds, since all steps of a pipeline ask for the same."""
        if time.monotonic() - self._seen.get(image, -_SEEN_S) < _SEEN_S:
            return True
        try:
            call("image", "inspect", "--format", "{{.Id}}", image)
        except EngineError:
            return False
        self._seen[image] = time.monotonic()
        return True

    def run(
        self, name: str, image: str, argv: Sequence[str], *, options: Sequence[str], mounts: Sequence[Mount],
        variables: Mapping[str, str], workdir: str,
    ) -> None:  # fmt: skip
        """Start in the background. EngineError: it could not be; no container is left then."""
        mounted = [part for mount in mounts for part in ("--mount", mount.argument)]
        settings = [part for pair in variables.items() for part in ("--env", "=".join(pair))]
        command = [
            "run", "--detach", "--init", "--pull", "never", "--name", name, "--label", self._label,
            "--workdir", workdir, *mounted, *settings, *options, "--entrypoint", argv[0], image, *argv[1:],
        ]  # fmt: skip
        try:
            call(*command)
        except EngineError:
            self.remove(name)
            raise

    def user(self, image: str) -> tuple[int, int] | None:
        """Whose processes the image's are, by number; None: it names a user that only it knows."""
        text = call("image", "inspect", "--format", "{{.Config.User}}", image).strip() or "0"
        user, _, group = text.partition(":")
        return (int(user), int(group or user)) if user.isdigit() and (group or "0").isdigit() else None

    def wait(self, name: str) -> subprocess.Popen[bytes]:
        """A process that ends when the container does."""
        return subprocess.Popen(
            ["docker", "wait", name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self, name: str, grace_s: float) -> subprocess.Popen[bytes]:
        """SIGTERM, and SIGKILL after the grace; a process that ends with it. 0 s: SIGKILL at once."""
        return subprocess.Popen(
            ["docker", "stop", "-t", str(round(grace_s)), name],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def began(self, name: str) -> bool:
        """Whether there is such a container, running or ended; one that was never started is removed."""
        state = self._state(name)
        if state is not None and state["Status"] == "created":
            self.remove(name)
            return False
        return state is not None

    def ended(self, name: str) -> Ended | None:
        """None: it still runs. EngineError: there is no such container."""
        state = self._state(name)
        if state is None:
            raise EngineError(f"no container {name}")
        if state["Running"]:
            return None
        return Ended(int(state["ExitCode"]), bool(state["OOMKilled"]))

    def remove(self, name: str) -> None:
        with suppress(EngineError):
            call("rm", "--force", "--volumes", name)

    def remove_all(self) -> None:
        """Every container and built image of this emulator, also of an earlier process of it."""
        names = call("ps", "--all", "--quiet", "--filter", f"label={self._label}").split()
        if names:
            call("rm", "--force", "--volumes", *names)
        images = call("images", "--quiet", "--filter", f"label={self.build_label}").split()
        if images:
            with suppress(EngineError):  # somebody else may use one
                call("rmi", "--force", *images)

    def _state(self, name: str) -> dict[str, Any] | None:
        with suppress(EngineError):
            found = json.loads(call("container", "inspect", "--format", "{{json .State}}", name))
            assert isinstance(found, dict)
            return found
        return None


def call(*arguments: str, timeout: float = _CALL_S) -> str:
    """docker's standard output. EngineError: it failed."""
    done = subprocess.run(
        ["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise EngineError(" ".join(done.stderr.split()) or f"docker {arguments[0]} ended with {done.returncode}")
    return done.stdout
