"""Whether the extra for Azure is there. Imports nothing of it."""

from __future__ import annotations

import sys

from runner.errors import CapabilityError

_NEEDS = ("urllib3", "azure.identity", "azure.storage.blob", "azure.ai.ml")


def check() -> None:
    """Refuse what cannot work without it.

    Raises:
        CapabilityError: the first package that is missing, and the command that installs it.
    """
    for name in _NEEDS:
        if not _is_there(name):
            raise CapabilityError(
                f"the backend azureml needs {name}, which is not installed",
                "install it: pip install 'runner[azure]'",
                "or run with --backend docker",
            )


def _is_there(name: str) -> bool:
    """Whether a module can be imported. `importlib.util.find_spec` would import the packages that it is in."""
    known, within = "", None
    for part in name.split("."):
        known = f"{known}.{part}" if known else part
        try:
            spec = next((found for finder in sys.meta_path if (found := finder.find_spec(known, within))), None)
        except ModuleNotFoundError:
            return False
        if spec is None:
            return False
        within = spec.submodule_search_locations
    return True
