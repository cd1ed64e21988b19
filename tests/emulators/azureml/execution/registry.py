"""Images from registries on loopback, pulled as a fresh node pulls them: never with the logins of this machine."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.emulators.azureml.execution.context import Context
from tests.emulators.azureml.execution.docker import EngineError, call
from tests.emulators.azureml.execution.failures import image_pull


def registry_of(image: str) -> str | None:
    """`127.0.0.1:5000`, or None: no registry that can be reached from here."""
    found = re.match(r"((?:127\.0\.0\.1|localhost):\d+)/", image)
    return found[1] if found else None


def pull(context: Context, image: str) -> None:
    """Always asked of the registry: an image that was never pushed does not work. RunError: it could not be had."""
    folder = context.work / "docker"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = folder / "config.json"
    config.touch(mode=0o600)
    host = registry_of(image) or ""
    login = _login(context, host)
    config.write_text(json.dumps({"auths": {host: {"auth": login}}} if login else {}))
    try:
        call("--config", str(folder), "pull", "--quiet", image)
    except EngineError as error:
        raise image_pull(image, str(error)) from None


def _login(context: Context, host: str) -> str | None:
    """By the workspace's connection to the registry, if it has one with user and password."""
    for connection in context.state.list("connection"):
        properties: Mapping[str, Any] = connection["properties"]
        target = str(properties.get("target") or "")
        credentials = properties.get("credentials") or {}
        if host and host in (target, urlsplit(target).netloc) and credentials.get("username"):
            return base64.b64encode(f"{credentials['username']}:{credentials['password']}".encode()).decode()
    return None
