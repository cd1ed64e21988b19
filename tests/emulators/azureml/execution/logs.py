"""The logs of a run: append blobs in the artifact store, listed in its document as soon as they exist."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from tests.emulators.azureml.execution.clock import now
from tests.emulators.azureml.execution.context import Context

USER_LOG = "user_logs/std_log.txt"
SYSTEM_LOG = "system_logs/lifecycler/lifecycler.log"
BUILD_LOG = "azureml-logs/20_image_build_log.txt"
PIPELINE_LOG = "logs/azureml/executionlogs.txt"
SWEEP_LOG = "azureml-logs/hyperdrive.txt"

_EVERY_S = 0.5
_READ = 4 * 1024 * 1024


class Log:
    """One log of a run, written to piece by piece. What an earlier process of the emulator wrote stays in front."""

    def __init__(self, context: Context, run_id: str, name: str) -> None:
        self._blobs, self._container = context.blobs, context.artifacts
        self._path = f"ExperimentRun/dcid.{run_id}/{name}"
        self.size = self._blobs.begin_log(self._container, self._path)
        context.runs.add(run_id, "_logs", {name: self._path})

    def write(self, data: bytes) -> None:
        if data:
            self._blobs.append(self._container, self._path, data)
            self.size += len(data)

    def line(self, text: str) -> None:
        """With the time in front, as the service's own logs have it."""
        self.lines([text])

    def lines(self, texts: Sequence[str]) -> None:
        self.write("".join(f"[{now()}] {text}\n" for text in texts).encode())


class Pump:
    """Copies a growing file into a log, byte for byte, at most every half second."""

    def __init__(self, log: Log, source: Path, base: int) -> None:
        """base: bytes of the log that came from elsewhere before the file began (an attempt on another node)."""
        self._log, self._source, self._base = log, source, base
        self._last = 0.0

    def due(self) -> None:
        if time.monotonic() - self._last >= _EVERY_S:
            self.all()

    def all(self) -> None:
        """What the file has by now, and no more: a job that never stops writing must not hold up the rest."""
        with self._source.open("rb") as stream:
            end = os.fstat(stream.fileno()).st_size
            stream.seek(self._log.size - self._base)
            while data := stream.read(min(_READ, end - stream.tell())):
                self._log.write(data)
        self._last = time.monotonic()
