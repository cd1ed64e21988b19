"""Whether the extra for Azure is there. Imports nothing of it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from runner.errors import CapabilityError

_NEEDS = ("urllib3", "azure.identity", "azure.storage.blob", "azure.ai.ml")


INSTALL = "pip install 'runner[azure]'"


def check() -> None:
    """Refuse what cannot work without it.

    Raises:
        CapabilityError: what is missing, and the command that installs it.
    """
    if lacking := missing():
        raise CapabilityError(f"Azure ML needs packages that are not installed: {', '.join(lacking)}", INSTALL)


def missing() -> list[str]:
    """Those of its packages that are not there, by the names they are imported by."""
    return [name for name in _NEEDS if not _is_there(name)]


def _is_there(name: str) -> bool:
    """Whether a module can be imported; nothing is, which `find_spec` of a name with dots would."""
    top, *inner = name.split(".")
    found = find_spec(top)
    folders = (found.submodule_search_locations or ()) if found is not None else ()
    return found is not None and (not inner or any(Path(folder, *inner).is_dir() for folder in folders))
