"""The logins that docker itself keeps: its config.json, and the credential helpers that this names."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stored:
    """A login of docker's. way: where it was found. user is "" when `secret` is an identity token."""

    way: str
    user: str
    secret: str = field(repr=False)


def stored(host: str) -> Stored | str | None:
    """Docker's login for a registry; None when it has none; a sentence when it cannot be read.

    A helper (`docker-credential-…`) is run as docker runs it: the host on its stdin, the answer from its stdout.
    """
    from docker import auth
    from docker.errors import DockerException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a helper that is missing is told below
            config = auth.load_config()
            found = config.resolve_authconfig(host)
    except DockerException as error:
        missing = "not installed" in str(error)
        return f"docker's config names {_helper(host)}, which {'is not installed' if missing else 'failed'}"
    except (ValueError, OSError) as error:
        return f"docker's config.json cannot be read ({type(error).__name__}); sign in again: docker login {host}"
    # Only an answer of a helper is spelt so; what stands in the file itself has small letters.
    way = _helper(host) if found and "ServerAddress" in found else "docker's config.json"
    values = {key.lower(): str(value or "") for key, value in (found or {}).items()}
    if token := values.get("identitytoken"):
        return Stored(way, "", token)
    if values.get("username") and values.get("password"):
        return Stored(way, values["username"], values["password"])
    return None


def _helper(host: str) -> str:
    """The program that docker's config names for that registry. What it prints is not shown: it may be a secret."""
    from docker import auth

    return f"docker-credential-{auth.load_config().get_credential_store(host) or '?'}"
