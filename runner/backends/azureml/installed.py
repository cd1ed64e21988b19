"""Whether the extra for Azure is there. Imports nothing of it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

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
    """Whether a module can be imported. `find_spec` of a name with dots would import what is before the last."""
    top, *inner = name.split(".")
    try:
        found = find_spec(top)
    except ModuleNotFoundError:
        return False
    folders = (found.submodule_search_locations or ()) if found is not None else ()
    return found is not None and (not inner or any(Path(folder, *inner).is_dir() for folder in folders))
