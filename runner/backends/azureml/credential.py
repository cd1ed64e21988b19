"""Tokens of azure-identity, for whichever sign-in the target says. Kept in memory only, and a fork inherits them."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from runner.errors import BackendError, CapabilityError, UnavailableError

if TYPE_CHECKING:
    from runner.backends.azureml.target import Auth

ARM = "https://management.azure.com/.default"
"""Scope of the management API, and of the workspace's own host."""

_EARLY_S = 300.0
"""A token is not used in its last five minutes."""

_NO_WAY = re.compile(
    "unable to connect|failed to establish|connection (refused|reset|aborted)|timed out|name or service not known"
    "|temporary failure in name",
    re.IGNORECASE,
)
"""`DefaultAzureCredential` tells of a network that is gone only in its text."""

_FIX: dict[str, tuple[str, ...]] = {
    "default": (
        "sign in: az login",
        "or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; or force a way: --auth cli|browser|device|sp|msi",
    ),
    "cli": ("sign in: az login", "it needs the az command (Azure CLI)"),
    "browser": ("sign in again from a terminal, or let it renew by itself: az login, and --auth cli",),
    "device": ("sign in again from a terminal, or let it renew by itself: az login, and --auth cli",),
    "sp": ("set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (or AZURE_CLIENT_CERTIFICATE_PATH)",),
    "msi": ("this machine needs a managed identity; a user-assigned one is named by AZURE_CLIENT_ID",),
}

_WRONG_VARIABLES = (
    "correct or unset AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET: they are tried before all else",
    "or force another way: --auth cli|browser|device|msi",
)
"""`DefaultAzureCredential` stops at variables that are set and wrong: `az login` would change nothing."""

_known: dict[tuple[str, str], tuple[str, float]] = {}
"""(auth, scope) → (token, end in seconds since the epoch). A supervisor inherits it by its fork, so that a sign-in by hand
is asked for once."""


class Tokens:
    """Tokens of one sign-in, for any scope; safe to use from several threads.

    After `close` the next question signs in anew: nothing of a connection may be open when a process forks.
    """

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._credential: Any = None
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Import what a sign-in needs, and ask nobody: two threads must not import Azure's packages at once.

        Raises:
            CapabilityError: azure-identity is not installed. BackendError: what the way to sign in needs is not set.
        """
        with self._lock:
            self._credential = self._credential or credential(self._auth)

    def get(self, scope: str = ARM, *, fresh: bool = False) -> str:
        """A token that is good for some minutes at least. fresh: not the one that was had before; it was refused.

        Raises:
            CapabilityError: azure-identity is not installed.
            UnavailableError: the sign-in service cannot be reached.
            BackendError: no sign-in works.
        """
        with self._lock:
            token, end = _known.get((self._auth, scope), ("", 0.0))
            if fresh or end - _EARLY_S < time.time():
                if fresh:
                    self._forget()  # azure-identity has a cache of its own, and would give the same one again
                token, end = self._asked(scope)
                _known[self._auth, scope] = token, end
            return token

    def _asked(self, scope: str) -> tuple[str, float]:
        from azure.core.exceptions import AzureError

        self._credential = self._credential or credential(self._auth)
        try:
            found = self._credential.get_token(scope)
        except (AzureError, ValueError) as error:
            self._forget()
            raise translated(error, self._auth) from None
        return str(found.token), float(found.expires_on)

    def _forget(self) -> None:
        found, self._credential = self._credential, None
        if found is not None:
            found.close()

    def close(self) -> None:
        """Close the connections to the sign-in service."""
        with self._lock:
            self._forget()


def credential(auth: Auth) -> Any:
    """A credential of azure-identity. It asks nobody before its first token.

    Raises:
        CapabilityError: azure-identity is not installed. BackendError: what the way needs is not set.
    """
    try:
        from azure import identity
    except ImportError:
        raise CapabilityError(
            "Azure's sign-in (azure-identity) is not installed", "install it: pip install 'runner[azure]'"
        ) from None
    for name in ("azure", "msal"):  # they would warn on stderr of each identity that is not there
        logging.getLogger(name).addHandler(logging.NullHandler())
    try:
        match auth:
            case "default":
                return identity.DefaultAzureCredential()
            case "cli":
                return identity.AzureCliCredential()
            case "browser":
                return identity.InteractiveBrowserCredential(disable_automatic_authentication=not _terminal())
            case "device":
                return identity.DeviceCodeCredential(disable_automatic_authentication=not _terminal())
            case "sp":
                return identity.EnvironmentCredential()
            case "msi":
                return identity.ManagedIdentityCredential(client_id=os.environ.get("AZURE_CLIENT_ID"))
    except ValueError as error:
        raise translated(error, auth) from None


def _terminal() -> bool:
    """Whether somebody is there to sign in by hand."""
    return os.isatty(2)


def _telling(text: str) -> str:
    """The line that says what is wrong: where several ways were tried, of one that was set up and failed, not of those
    that were never set up."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    failed = [line for line in lines if "Authentication failed" in line]
    return (failed or lines or [""])[0][:300]


def translated(error: Exception, auth: Auth) -> BackendError:
    """An error of azure-identity as one of runner's: what failed, and how to sign in."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    line = _telling(str(error)) or type(error).__name__
    if isinstance(error, (ServiceRequestError, ServiceResponseError)) or _NO_WAY.search(line):
        return UnavailableError(f"the sign-in service of Azure cannot be reached: {line}", "check network and proxy")
    ways = _WRONG_VARIABLES if auth == "default" and line.startswith("EnvironmentCredential: ") else _FIX[auth]
    return BackendError(f"no sign-in to Azure works here (--auth {auth}): {line}", *ways, code=401)


def forget() -> None:
    """Forget every token that was had."""
    _known.clear()
