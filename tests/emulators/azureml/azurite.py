"""Azurite, Microsoft's emulator of blob storage, as a subprocess that keeps its blobs in a folder; had from npm."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.emulators.azureml.pki import Pki

VERSION = "3.35.0"
_START_S = 60.0
_LIBC, _PR_SET_PDEATHSIG = ctypes.CDLL(None), 1


def program() -> Path:
    """Azurite's entry point, installed once for all tests of this user."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runner-tests" / f"azurite-{VERSION}"
    base.mkdir(parents=True, exist_ok=True)
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "done").exists():
            command = ["npm", "install", "--no-audit", "--no-fund", "--silent", f"azurite@{VERSION}"]
            subprocess.run(command, cwd=base, check=True, timeout=280)
            (base / "done").touch()
    return base / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


class Azurite:
    """One process on one folder. A process that a killed emulator left on the folder is ended first: two would lose data."""

    def __init__(self, folder: Path, pki: Pki, account: str, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._pki = folder, pki
        self._accounts = f"{account}:{key}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """The port. The one of last time if it is still free, so that what clients hold of it goes on working."""
        self._end_left()
        port = self._begin(_read_number(self._folder / "port") or 0) or self._begin(0)
        if port is None:
            raise RuntimeError(f"Azurite did not start:\n{self._log().read_text('utf-8', 'replace')}")
        (self._folder / "port").write_text(str(port))
        return port

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        (self._folder / "pid").unlink(missing_ok=True)

    def _begin(self, port: int) -> int | None:
        command = [
            "node", str(program()), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(self._folder),
            "--cert", str(self._pki.cert), "--key", str(self._pki.key), "--oauth", "basic",
            "--skipApiVersionCheck", "--disableTelemetry", "--silent",
        ]  # fmt: skip
        with self._log().open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "AZURITE_ACCOUNTS": self._accounts},
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call, no lock
            )  # fmt: skip
        (self._folder / "pid").write_text(str(self._process.pid))
        end = time.monotonic() + _START_S
        while time.monotonic() < end and self._process.poll() is None:
            if found := re.search(rb"listens on https://[^:]+:(\d+)", self._log().read_bytes()):
                return int(found[1])
            time.sleep(0.02)
        self.stop()
        return None

    def _end_left(self) -> None:
        pid = _read_number(self._folder / "pid")
        while pid is not None and str(self._folder) in _command_line(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.05)

    def _log(self) -> Path:
        return self._folder / "azurite.log"


def _end_with_parent() -> None:
    """Linux ends Azurite when the thread that started it ends, which is the main one: a killed emulator leaves none."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _command_line(pid: int) -> str:
    """Nothing of a process that is gone, or a zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""
