"""Entra ID, as much of it as a client of Azure ML meets: discovery, tokens for a client's secret, a managed identity."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from secrets import compare_digest, token_urlsafe
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.emulators.azureml import names
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.wire import Answer, Call, Route, ServiceError

LOGIN = "https://login.microsoftonline.com"
_ISSUER = f"https://sts.windows.net/{names.TENANT}/"


@dataclass(slots=True)
class Tokens:
    """Gives and checks tokens. Key and the client's secret live in the state, so tokens outlive a restart."""

    folder: Path
    profile: Profile
    secret: str = field(init=False)
    identity: str = field(init=False)
    _key: rsa.RSAPrivateKey = field(init=False)

    def __post_init__(self) -> None:
        self.secret = _kept(self.folder / "client.secret", lambda: token_urlsafe(24))
        self.identity = _kept(self.folder / "identity.header", lambda: str(uuid.uuid4()))
        loaded = load_pem_private_key(_kept(self.folder / "token.key", _new_key).encode(), None)
        assert isinstance(loaded, rsa.RSAPrivateKey)
        self._key = loaded

    def give(self, audience: str) -> dict[str, Any]:
        """The answer of the token endpoint."""
        moment, life = int(time.time()), max(1, round(self.profile.token_lifetime_s))
        claims = {
            "aud": audience, "iss": _ISSUER, "iat": moment, "nbf": moment, "exp": moment + life, "tid": names.TENANT,
            "oid": names.PRINCIPAL, "sub": names.PRINCIPAL, "appid": names.CLIENT, "idtyp": "app", "ver": "1.0",
            "uti": str(uuid.uuid4()),
        }  # fmt: skip
        text = jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": "emulator"})
        return {"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": text}

    def check(self, header: str, audiences: tuple[str, ...]) -> dict[str, Any]:
        """The claims of a bearer token. ServiceError 401: none, or not one that this resource takes."""
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise _refused("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        try:
            claims = jwt.decode(
                text,
                self._key.public_key(),
                ["RS256"],
                issuer=_ISSUER,
                options={"verify_aud": False, "require": ["exp"]},
            )
        except jwt.ExpiredSignatureError:
            raise _refused(
                "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time."
            ) from None
        except jwt.InvalidTokenError:
            raise _refused("InvalidAuthenticationToken", "The access token is invalid.") from None
        if str(claims.get("aud")).rstrip("/") not in audiences:
            raise _refused(
                "InvalidAuthenticationTokenAudience",
                f"The access token has been obtained for wrong audience or resource '{claims.get('aud')}'. "
                f"It should exactly match with one of the allowed audiences '{','.join(audiences)}'.",
            )
        assert isinstance(claims, dict)
        return claims

    def routes(self) -> list[Route]:
        host = r"login\.microsoftonline\.com"
        return [
            Route("GET", host, r"/(?P<tenant>[^/]+)(/v2\.0)?/\.well-known/openid-configuration", self._configuration),
            Route("GET", host, r"/common/discovery/instance", self._instance),
            Route("POST", host, r"/(?P<tenant>[^/]+)/oauth2/v2\.0/token", self._token),
        ]

    def _configuration(self, call: Call) -> Answer:
        base = f"{LOGIN}/{_tenant(call)}"
        return Answer({
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "issuer": f"{base}/v2.0",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        })  # fmt: skip

    def _instance(self, call: Call) -> Answer:
        host = LOGIN.removeprefix("https://")
        cloud = {"preferred_network": host, "preferred_cache": "login.windows.net", "aliases": [host]}
        return Answer({
            "tenant_discovery_endpoint": f"{LOGIN}/{names.TENANT}/v2.0/.well-known/openid-configuration",
            "api-version": "1.1",
            "metadata": [cloud],
        })  # fmt: skip

    def _token(self, call: Call) -> Answer:
        _tenant(call)
        form = {name: values[0] for name, values in parse_qs(call.raw.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != "client_credentials":
            return _aad_error(
                "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.", 400
            )
        if form.get("client_id") != names.CLIENT:
            return _aad_error(
                "unauthorized_client",
                "AADSTS700016: Application with identifier was not found in the directory 'emulator'.",
                400,
            )
        if not compare_digest(form.get("client_secret", "").encode(), self.secret.encode()):
            return _aad_error("invalid_client", "AADSTS7000215: Invalid client secret provided.", 401)
        return Answer(self.give(form.get("scope", "").removesuffix("/.default").rstrip("/")))

    def managed(self, call: Call) -> Answer:
        """The protocols of App Service and of Azure ML's nodes (2017-09-01): `GET ?resource=` with the header
        X-IDENTITY-HEADER or `secret`; served on the admin port."""
        header = "secret" if call.version == "2017-09-01" else "x-identity-header"
        if not compare_digest(call.headers.get(header, "").encode(), self.identity.encode()):
            return Answer({"statusCode": 401, "message": f"Wrong {header}"}, 401)
        resource = call.query.get("resource", "").removesuffix("/.default").rstrip("/")
        given = self.give(resource)
        return Answer({
            "access_token": given["access_token"], "expires_on": str(int(time.time()) + given["expires_in"]),
            "resource": resource, "token_type": "Bearer", "client_id": names.CLIENT,
        })  # fmt: skip


def _kept(path: Path, make: Any) -> str:
    if not path.exists():
        path.touch(0o600)
        path.write_text(make())
    return path.read_text()


def _new_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _tenant(call: Call) -> str:
    tenant = call.parts["tenant"]
    if tenant != names.TENANT:
        raise ServiceError(400, "invalid_tenant", f"AADSTS90002: Tenant '{tenant}' not found.")
    return tenant


def _refused(code: str, message: str) -> ServiceError:
    challenge = (
        f'Bearer authorization_uri="https://login.windows.net/{names.TENANT}", error="invalid_token", '
        f'error_description="{message}"'
    )
    return ServiceError(401, code, message, WWW_Authenticate=challenge)


def _aad_error(error: str, text: str, status: int) -> Answer:
    number = int(text.removeprefix("AADSTS").partition(":")[0])
    trace = {"trace_id": str(uuid.uuid4()), "correlation_id": str(uuid.uuid4()), "timestamp": names.now()}
    return Answer({"error": error, "error_description": text, "error_codes": [number], **trace}, status)
