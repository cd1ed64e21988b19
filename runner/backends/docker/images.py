"""What must be known of an image before a task can run in it: its Python, its user, whether it has the bootstrapper."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.bootstrapper import LABEL, contract
from runner.errors import BackendError, CapabilityError, ImageError, UnavailableError

if TYPE_CHECKING:
    from runner.backends.base import Facts, Task
    from runner.docker_api.containers import Engine, ImageInfo

_PROBE_S = 60.0


@dataclass(frozen=True, slots=True)
class Image:
    """What must be known of an image to run a task in it. `python` is None where it has none."""

    id: str
    python: str | None
    carries: bool
    user: str


class Images:
    """Facts of images, remembered by image id."""

    def __init__(self, engine: Engine, facts: Facts) -> None:
        self._engine, self._facts = engine, facts
        self._known_ids: dict[str, Image] = {}

    def of(self, task: Task) -> Image:
        """Facts of the task's image, remembered by image id.

        Raises:
            ImageError: it is not on this engine.
            CapabilityError: it has no Python, and the task has secrets.
        """
        reference = task.image or ""
        if reference not in self._known_ids:
            info = self._engine.image(reference)
            if info is None:
                raise ImageError(f"the image {reference} is not on this engine", retryable=False)
            self._known_ids[reference] = self._known(info)
        image = self._known_ids[reference]
        if image.python is None and task.secrets != {}:
            raise CapabilityError(
                f"the image {reference} has no python3 (3.8 or newer), so secrets cannot reach the script unseen",
                "add python3 to the image, or build one with runner build",
            )
        return image

    def _known(self, info: ImageInfo) -> Image:
        if info.labels.get(LABEL) == str(contract()):
            python = info.labels.get("runner.python", "python3")
            return Image(info.id, python, carries=True, user=info.labels.get("runner.user", info.user))
        key = f"image.python.{info.id}"
        python = self._facts.fact(key)
        if python is None:
            python = self._probe(info)
            self._facts.remember(key, python)
        return Image(info.id, python or None, carries=False, user=info.labels.get("runner.user", info.user))

    def _probe(self, info: ImageInfo) -> str:
        """The image's `python3` if it is 3.8 or newer, else "". Costs one container, once per image."""
        name = f"runner-probe-{info.id.rpartition(':')[2][:12]}-{os.getpid()}"
        config: dict[str, Any] = {
            "Image": info.id,
            "Entrypoint": ["python3", "-I", "-S", "-c", "import sys; sys.exit(sys.version_info < (3, 8))"],
            "Cmd": [],
            "Labels": {"runner.probe": "1"},
            "HostConfig": {"NetworkMode": "none"},
        }
        for old in self._engine.labelled("runner.probe=1"):  # of a process that was killed in the lines below
            if time.time() - old["Created"] > _PROBE_S * 5:
                self._engine.remove(old["Id"])
        container = self._engine.create(name, config)
        try:
            self._engine.start(container)
            if not self._engine.wait_stopped(container, _PROBE_S):
                raise UnavailableError(
                    "the engine does not end a container that asks an image for its Python", "try again"
                )
            found = self._engine.inspect(container)
            return "python3" if found and found["State"]["ExitCode"] == 0 else ""
        except BackendError as error:
            # The answer is remembered, so an engine's passing trouble must not be taken for an image without Python.
            if error.code == 400:  # no such executable, or not for this machine
                return ""
            raise
        finally:
            self._engine.remove(container)
