"""`./outputs` and `./logs` of the working directory, copied to the artifact store while the job runs and at its end."""

from __future__ import annotations

import time
from contextlib import suppress

from tests.emulators.azureml.blobs import files_below
from tests.emulators.azureml.execution.context import Context, Places

FOLDERS = ("outputs", "logs")
_EVERY_S = 2.0


class Artifacts:
    """Of one run. A file is sent again when its size or time changed."""

    def __init__(self, context: Context, places: Places) -> None:
        self._context, self._places = context, places
        self._sent: dict[str, tuple[int, int]] = {}
        self._last = time.monotonic()

    def due(self) -> None:
        if time.monotonic() - self._last >= _EVERY_S:
            self.all()

    def all(self) -> None:
        container = self._context.artifacts
        for folder in FOLDERS:
            for path in files_below(self._places.code / folder):
                name = path.relative_to(self._places.code).as_posix()
                with suppress(FileNotFoundError), path.open("rb") as stream:  # the job may remove it meanwhile
                    found = path.stat()
                    mark = (found.st_size, found.st_mtime_ns)
                    if self._sent.get(name) != mark:
                        self._context.blobs.upload(container, f"{self._places.artifacts}/{name}", stream)
                        self._sent[name] = mark
        self._last = time.monotonic()
