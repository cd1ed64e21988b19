"""Where the azureml tests run: the emulator, or the real workspace that `RUNNER_TEST_WORKSPACE` names (docs/azure.md)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from runner.model import Remote
from tests.patience import REAL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_ID = re.compile(r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/[^/]+/workspaces/([^/]+)", re.IGNORECASE)
_NAMES = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_WORKSPACE")
IMAGE = os.environ.get("RUNNER_TEST_REMOTE_IMAGE", "docker.io/library/python:3.12-slim")
"""With sh, bash and python3, as the workspace pulls it."""
COMPUTE = os.environ.get("RUNNER_TEST_COMPUTE", "cpu-cluster") if REAL else None
ONLY_THE_EMULATOR = (
    "only the emulator has switches, faults and a journal of what it was asked;"
    " RUNNER_TEST_WORKSPACE names a real workspace"
)


def environment() -> dict[str, str]:
    """What names the real workspace to runner; how to sign in there is the shell's own.

    Raises:
        ValueError: the variable holds no id of a workspace.
    """
    found = _ID.fullmatch(REAL or "")
    if found is None:
        raise ValueError(f"RUNNER_TEST_WORKSPACE={REAL}: expected the ARM id of a workspace")
    return dict(zip(_NAMES, found.groups(), strict=True))


def options(image: str) -> list[str]:
    """Those of `submit` that choose the workspace."""
    return ["--backend", "azureml", "--image", image, *(["--compute", COMPUTE] if COMPUTE else [])]


def remote(image: str | None, outputs: Mapping[str, Mapping[str, Any]] | None = None) -> Remote:
    """A step's place there."""
    return Remote({"image": image}, COMPUTE, outputs=outputs or {})
