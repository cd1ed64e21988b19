"""How runner signs in to a registry: Azure's token exchange, docker's own logins, the environment; in this order.

Secrets stay in memory: none is written to disk, put into an argv, or part of a text or an exception. This is the only
module of the builder that imports azure-identity.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from runner.builder.registry.http import Http
    from runner.spec.config import Auth

USER, PASSWORD = "RUNNER_REGISTRY_USER", "RUNNER_REGISTRY_PASSWORD"
ACR_USER = "00000000-0000-0000-0000-000000000000"
"""Tells a registry of Azure that the password is one of its refresh tokens."""
_ACR_SCOPE = "https://containerregistry.azure.net/.default"
_LIFE_S = 3600.0
"""Of a refresh token that does not say when it ends; Azure's live three hours."""
_NOT_NAMED = (
    f"{USER} goes only to a registry that you name yourself: --push …, RUNNER_REGISTRY, or ~/.config/runner/runner.yaml"
)
"""A checkout's libs.yaml or runner.yaml must not have the password sent to a host of its choice."""
_INSTALL = "pip install 'runner[azure]'"


@dataclass(frozen=True, slots=True)
class _Cloud:
    suffix: str
    management: str
    authority: str


_PUBLIC = _Cloud(".azurecr.io", "https://management.azure.com/.default", "login.microsoftonline.com")
_CLOUDS = (
    _PUBLIC,
    _Cloud(".azurecr.cn", "https://management.chinacloudapi.cn/.default", "login.chinacloudapi.cn"),
    _Cloud(".azurecr.us", "https://management.usgovcloudapi.net/.default", "login.microsoftonline.us"),
)
"""Registries that speak the exchange without being told so in runner.yaml; which authority and service each trusts."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a registry is told. user "" with a secret: that is an identity (refresh) token. Both empty: anonymous.

    way: where it came from, for people. ends: by the monotonic clock, None when it lasts. hints: why ways that come
    before this one could not be used.
    """

    way: str
    user: str = ""
    secret: str = field(default="", repr=False)
    ends: float | None = None
    life_s: float = 0.0
    hints: tuple[str, ...] = ()

    @property
    def anonymous(self) -> bool:
        """Nothing to sign in with."""
        return not self.secret

    @property
    def refresh_token(self) -> str | None:
        """The secret, where it is a token to be exchanged rather than a password."""
        return self.secret if self.secret and self.user in {"", ACR_USER} else None

    def for_engine(self, host: str) -> dict[str, str]:
        """As the engine's API takes it; empty for anonymous."""
        if self.anonymous:
            return {}
        if not self.user:
            return {"identitytoken": self.secret, "serveraddress": host}
        return {"username": self.user, "password": self.secret, "serveraddress": host}

    def runs_out(self) -> bool:
        """Whether so little of its life is left that a push should not start with it."""
        return self.ends is not None and time.monotonic() > self.ends - min(300.0, self.life_s / 5)

    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.ends is not None and time.monotonic() >= self.ends


class SignIn:
    """Logins, each had when it is first asked for and renewed when it runs out.

    Args:
        registries: host → the one way to use there, from runner.yaml.
        environ: the environment.
        ca_bundle: PEM file that runner's own https trusts besides the system's.
        named: the hosts that the user named; USER and PASSWORD, which say nothing of a host, go to no other.
    """

    def __init__(
        self,
        registries: Mapping[str, Auth],
        environ: Mapping[str, str],
        ca_bundle: Path | None = None,
        *,
        named: Collection[str] = (),
    ) -> None:
        from runner.builder.registry.http import Http

        self._registries, self._environ, self._bundle, self._named = registries, environ, ca_bundle, named
        self.http: Http = Http(ca_bundle)
        self._held: dict[str, Login] = {}

    def login(self, host: str) -> Login:
        """The login for a registry.

        Raises:
            ImageError: the way that runner.yaml names gives none, or Azure's exchange refuses.
        """
        held = self._held.get(host)
        if held is None or held.runs_out():
            held = self._held[host] = self._fresh(host)
        return held

    def renewed(self, host: str, login: Login) -> Login | None:
        """Another login where that one has come to its end; None where it has not, and so was refused for good."""
        if not login.has_ended():
            return None
        self._held.pop(host, None)
        return self.login(host)

    def _fresh(self, host: str) -> Login:
        chosen = self._registries.get(host)
        hints: list[str] = []
        for kind, way in self._ways(host):
            if chosen not in {None, kind}:
                continue
            found = way(host)
            if isinstance(found, Login):
                return found
            hints += [found] if found else []
        if chosen is not None:
            raise _none_there(host, chosen, hints)
        return Login("no login, anonymous", hints=tuple(hints))

    def _ways(self, host: str) -> tuple[tuple[Auth, Callable[[str], Login | str]], ...]:
        acr: tuple[tuple[Auth, Callable[[str], Login | str]], ...] = (("acr", self._azure),)
        speaks = self._registries.get(host) == "acr" or _cloud(host) is not None
        return (*(acr if speaks else ()), ("docker", _docker), ("basic", self._basic))

    def _basic(self, host: str) -> Login | str:
        user, password = self._environ.get(USER), self._environ.get(PASSWORD)
        if (user or password) and host not in self._named:
            return _NOT_NAMED
        if user and password:
            return Login(f"{USER} and {PASSWORD}", user, password)
        if user or password:
            return f"{USER if user else PASSWORD} is set, but {PASSWORD if user else USER} is not"
        return ""

    def _azure(self, host: str) -> Login | str:
        cloud = _cloud(host) or _PUBLIC
        token = _entra_token(cloud, self._environ, self._bundle)
        if isinstance(token, str):
            return token
        return self._exchange(host, token.text)

    def _exchange(self, host: str, token: str) -> Login:
        """An Entra token → the registry's own refresh token.

        Raises:
            ImageError: the registry refuses, does not speak this, or cannot be reached.
        """
        from runner.builder.registry.errors import Problem

        fields = {"grant_type": "access_token", "service": host, "access_token": token}
        answer = self.http.post_form(f"https://{host}/oauth2/exchange", fields, host)
        secret = answer.json().get("refresh_token") if answer.status == 200 else None
        if isinstance(secret, str) and secret:
            life = _life(secret)
            return Login("Azure (token exchange)", ACR_USER, secret, time.monotonic() + life, life)
        if answer.status in {400, 401, 403}:
            raise ImageError(
                f"{host} does not accept this Azure account ({answer.status})",
                "check which account it is (az account show), and its role on the registry (AcrPush)",
                retryable=False,
                problem=Problem.WRONG_LOGIN,
            )
        if answer.status == 429 or answer.status >= 500:
            raise ImageError(f"{host} cannot sign in anybody now ({answer.status})", "try again", problem=Problem.OTHER)
        raise ImageError(
            f"{host} does not speak Azure's token exchange ({answer.status} from /oauth2/exchange)",
            "check the host; for another kind of registry take `auth: acr` out of runner.yaml",
            retryable=False,
            problem=Problem.OTHER,
        )


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)


def _cloud(host: str) -> _Cloud | None:
    name = host.rpartition(":")[0] or host
    return next((cloud for cloud in _CLOUDS if name.lower().endswith(cloud.suffix)), None)


def _docker(host: str) -> Login | str:
    from runner.docker_api.logins import Stored, stored

    found = stored(host)
    if isinstance(found, Stored):
        return Login(found.way, found.user, found.secret)
    return found or ""


def _entra_token(cloud: _Cloud, environ: Mapping[str, str], bundle: Path | None) -> _Token | str:
    """A token of whatever identity azure-identity finds here; else why there is none, with the fix."""
    try:
        from azure.core.exceptions import AzureError
        from azure.identity import DefaultAzureCredential
    except ImportError:
        return f"Azure's sign-in is not installed: {_INSTALL}"
    for name in ("azure", "msal"):  # they would warn on stderr of each identity that is not there
        logging.getLogger(name).addHandler(logging.NullHandler())
    options: dict[str, Any] = {"connection_verify": str(bundle)} if bundle is not None else {}
    if not environ.get("AZURE_AUTHORITY_HOST"):
        options["authority"] = cloud.authority
    problem = ""
    try:
        with DefaultAzureCredential(**options) as credential:
            for scope in (_ACR_SCOPE, cloud.management):
                try:
                    return _Token(credential.get_token(scope).token)
                except AzureError as error:
                    problem = problem or _first_line(error)
    except ValueError as error:
        problem = _first_line(error)
    return f"no Azure sign-in works here ({problem}); sign in: az login"


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line[:200].rstrip(".")


def _life(token: str) -> float:
    """Seconds that a JWT lives, by its own claims: `exp - iat`, so that no clock has to be right. Not verified: it is
    the registry's business, and only decides when another one is fetched."""
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        life = float(claims["exp"]) - float(claims.get("iat", claims.get("nbf", time.time())))
    except (ValueError, KeyError, IndexError, TypeError):
        return _LIFE_S
    return max(1.0, life)


def _none_there(host: str, chosen: Auth, hints: list[str]) -> ImageError:
    from runner.builder.registry.errors import Problem

    fix = {
        "acr": "sign in: az login",
        "docker": f"sign in: docker login {host}",
        "basic": f"set {USER} and {PASSWORD}",
    }[chosen]
    return ImageError(
        f"{host} is to be signed in to by `auth: {chosen}` (runner.yaml), which has no login",
        *(hints or [fix]),
        retryable=False,
        problem=Problem.MISSING_LOGIN,
    )
