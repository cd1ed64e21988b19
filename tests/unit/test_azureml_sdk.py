"""What azure-ai-ml costs before it does anything."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import gc, sys
{before}
begun = []
gc.callbacks.append(lambda phase, info: begun.append(phase) if "azure.ai" in sys.modules else None)
from runner.backends.azureml import sdk
sdk.ready()
print(len(begun) // 2, gc.isenabled(), "azure.ai.ml" in sys.modules)
"""


def readied(before: str) -> list[str]:
    """(collections while it was imported, whether garbage is collected afterwards, whether it is there)."""
    code = _CODE.format(before=before)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_it_is_imported_without_collecting_garbage() -> None:
    often, *after = readied("pass")
    assert int(often) <= 1, "the one that was put off"
    assert after == ["True", "True"]
    assert readied("gc.disable()") == ["0", "False", "True"]
