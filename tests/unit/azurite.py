"""Azure's blob storage on loopback, by Microsoft's own emulator: Azurite, had from npm into a cache folder of the tests."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ACCOUNT = "devstoreaccount1"
VERSION = "3.35.0"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The one that every Azurite has; it is in Microsoft's documentation."""


def _program() -> Path:
    """Azurite's entry point, installed once for all tests of this user."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runner-tests" / f"azurite-{VERSION}"
    base.mkdir(parents=True, exist_ok=True)
    program = base / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "done").exists():
            command = ["npm", "install", "--no-audit", "--no-fund", "--silent", f"azurite@{VERSION}"]
            subprocess.run(command, cwd=base, check=True, timeout=280)
            (base / "done").touch()
    return program


@contextmanager
def azurite(*options: str) -> Iterator[str]:
    """A connection string of an empty one, which keeps nothing on the disk. options: further ones of its command line."""
    process = subprocess.Popen(
        ["node", str(_program()), "--blobPort", "0", "--skipApiVersionCheck", "--disableTelemetry",
         "--inMemoryPersistence", "--silent", *options],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = next(
            found[1] for line in process.stdout if (found := re.search(r"listens on https?://[^:]+:(\d+)", line))
        )
        scheme = "https" if "--cert" in options else "http"
        endpoint = f"{scheme}://127.0.0.1:{port}/{ACCOUNT}"
        yield f"DefaultEndpointsProtocol={scheme};AccountName={ACCOUNT};AccountKey={_KEY};BlobEndpoint={endpoint};"
    finally:
        process.terminate()
        process.communicate(timeout=30)
