"""Key Vault, as far as secrets go: set by a client as at the real one, read with a token for it, by whoever has the role.

The vault of the workspace is there from the beginning; any other is made by the first secret that is set in it.
"""

from __future__ import annotations

import re
import uuid

from tests.emulators.azureml import names
from tests.emulators.azureml.aad import Tokens
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import Answer, Call, Route, ServiceError

AUDIENCE = "https://vault.azure.net"
_HOST = r"[a-z0-9-]+\.vault\.azure\.net"
_NAME = r"/secrets/(?P<name>[^/]+)"


class Vaults:
    """Secrets in the state, kind "secret", key `vault/name`: {"value", "enabled", "id"}."""

    def __init__(self, state: State, tokens: Tokens, profile: Profile) -> None:
        self._state, self._tokens, self._profile = state, tokens, profile

    def routes(self) -> list[Route]:
        return [
            Route("PUT", _HOST, _NAME, self._set),
            Route("GET", _HOST, rf"{_NAME}(/(?P<number>[0-9a-f]*))?", self._get),
        ]

    def _asked(self, call: Call) -> str:
        """The vault's name, of a request that may be answered."""
        header = call.headers.get("authorization", "")
        if not header:
            challenge = (
                f'Bearer authorization="https://login.microsoftonline.com/{names.TENANT}", resource="{AUDIENCE}"'
            )
            raise VaultError(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.", challenge)
        try:
            self._tokens.check(header, (AUDIENCE,))
        except ServiceError as error:
            raise VaultError(401, "Unauthorized", f"AKV10032: {error.message}") from None
        if call.version != "7.4":
            raise VaultError(400, "BadParameter", f"The specified version ({call.version}) is not recognized.")
        return call.host.partition(".")[0]

    def _set(self, call: Call) -> Answer:
        vault, name = self._asked(call), call.parts["name"]
        body = call.whole()
        if not re.fullmatch(r"[0-9A-Za-z-]{1,127}", name) or not isinstance(body.get("value"), str):
            raise VaultError(400, "BadParameter", "The request URI contains an invalid name, or there is no value.")
        enabled = bool((body.get("attributes") or {}).get("enabled", True))
        place = f"https://{vault}.vault.azure.net/secrets/{name}/{uuid.uuid4().hex}"
        made = {"value": body["value"], "enabled": enabled, "id": place}
        return Answer(_shown(self._state.put("secret", f"{vault}/{name}".lower(), made)))

    def _get(self, call: Call) -> Answer:
        vault, name = self._asked(call), call.parts["name"]
        if not self._profile.vault_role:
            message = (
                f"Caller is not authorized to perform action on resource. Caller: appid={names.CLIENT};"
                f"oid={names.PRINCIPAL}. Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'"
            )
            raise VaultError(403, "Forbidden", message, inner="ForbiddenByRbac")
        found = self._state.get("secret", f"{vault}/{name}".lower())
        if found is None:
            message = f"A secret with (name/id) {name} was not found in this key vault."
            raise VaultError(404, "SecretNotFound", message)
        if not found["enabled"]:
            message = "Operation get is not allowed on a disabled secret."
            raise VaultError(403, "Forbidden", message, inner="SecretDisabled")
        return Answer(_shown(found))


class VaultError(ServiceError):
    """In Key Vault's own envelope."""

    def __init__(self, status: int, code: str, message: str, challenge: str = "", *, inner: str = "") -> None:
        super().__init__(status, code, message)
        self.headers = {"WWW-Authenticate": challenge} if challenge else {}
        self._inner = inner

    def answer(self) -> Answer:
        error: Doc = {"code": self.code, "message": self.message}
        if self._inner:
            error["innererror"] = {"code": self._inner}
        return Answer({"error": error}, self.status, self.headers)


def _shown(secret: Doc) -> Doc:
    attributes = {"enabled": secret["enabled"], "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90}
    return {"value": secret["value"], "id": secret["id"], "attributes": attributes}
