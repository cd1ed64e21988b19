"""Whether the extra for Azure is there. Imports nothing of it."""

from __future__ import annotations

from importlib.util import find_spec

from runner.errors import CapabilityError

_NEEDS = ("urllib3", "azure.identity", "azure.storage.blob", "azure.ai.ml")


def check() -> None:
    """Refuse what cannot work without it.

    Raises:
        CapabilityError: the first package that is missing, and the command that installs it.
    """
    for name in _NEEDS:
        try:
            found = find_spec(name)
        except ModuleNotFoundError:  # of a package that it is in
            found = None
        if found is None:
            raise CapabilityError(
                f"the backend azureml needs {name}, which is not installed",
                "install it: pip install 'runner[azure]'",
                "or run with --backend docker",
            )
