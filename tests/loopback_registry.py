"""A registry on loopback as a plain process (Debian's docker-registry): quicker than a container, and gone with the test."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import eventually

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """`HOST:PORT` of a registry that keeps everything in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = folder / "config.yml"
    settings.write_text(json.dumps({
        "version": "0.1", "log": {"level": "error"}, "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }))  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(settings)], stdout=log, stderr=log)
    try:
        eventually(lambda: process.poll() is not None or _answers(address), "the registry answers")
        assert process.poll() is None, (folder / "log").read_text()
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        with _DIRECT.open(f"http://{address}/v2/", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def repositories(address: str) -> list[str]:
    """What was pushed to it."""
    with _DIRECT.open(f"http://{address}/v2/_catalog", timeout=5) as answer:
        return list(json.load(answer)["repositories"])
