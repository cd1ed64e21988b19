"""Requests, answers and routes, apart from any server: what handlers are written in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.azureml import names

MANAGEMENT = (
    "https://management.azure.com",
    "https://management.core.windows.net",
)
DATA_PLANE = (*MANAGEMENT, "https://ml.azure.com")
"""Audiences of tokens: the data plane takes those of ARM as well."""

WS = (
    r"/subscriptions/(?P<sub>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/(?P<ws>[^/]+)"
)
"""A workspace in a path; whether it is ours is asked before the handler."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request as a handler sees it. path: as sent, unquoted. parts: named groups of the route's pattern.
    body: JSON, None without one. claims: of the bearer token."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    raw: bytes = b""
    parts: dict[str, str] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return self.query.get("api-version", "")

    def whole(self) -> dict[str, Any]:
        """The body, which has to be a JSON object."""
        if not isinstance(self.body, dict):
            raise ServiceError(400, "UserError", "Request is invalid and/or missing fields.")
        return self.body


@dataclass(frozen=True, slots=True)
class Answer:
    """body: anything JSON; None: no content; bytes: as they are."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Handler = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """pattern: a regular expression of the whole path, case ignored. audiences: of the token it needs; none: no token.
    versioned: ARM wants an api-version."""

    method: str
    host: str
    pattern: str
    handler: Handler
    audiences: tuple[str, ...] = ()
    versioned: bool = False

    def match(self, call: Call) -> re.Match[str] | None:
        if call.method != self.method or not re.fullmatch(self.host, call.host, re.IGNORECASE):
            return None
        return re.fullmatch(self.pattern, call.path, re.IGNORECASE)


def arm(method: str, path: str, handler: Handler) -> Route:
    """Of Azure's resource manager; path: behind the workspace."""
    return Route(method, r"management\.azure\.com", WS + path, handler, MANAGEMENT, versioned=True)


def api(method: str, path: str, handler: Handler) -> Route:
    """Of the regional data plane, the workspace standing where `{WS}` is."""
    return Route(method, r"[^.]+\.api\.azureml\.ms", path.replace("{WS}", WS), handler, DATA_PLANE)


class ServiceError(Exception):
    """An error answer in the envelope of ARM (shape recorded, 2026)."""

    def __init__(
        self, status: int, code: str, message: str, details: tuple[tuple[str, str], ...] = (), **headers: str
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(self) -> Answer:
        inner = self.details[0][0] if self.details else self.code
        information = {
            "ComponentName": "managementfrontend",
            "Environment": names.LOCATION,
            "Location": names.LOCATION,
            "Time": names.now(),
            "InnerError": {"code": inner, "innerError": None},
            "MessageFormat": self.message,
        }
        details = [{"code": code, "message": text, "details": [], "additionalInfo": []} for code, text in self.details]
        extra = [{"type": name, "info": {"value": value}} for name, value in information.items()]
        error = {"code": self.code, "message": self.message, "details": details, "additionalInfo": extra}
        return Answer({"error": error}, self.status, self.headers)


def missing(message: str) -> ServiceError:
    """404; the code that the service puts outside is `UserError`, inside `NotFound`."""
    return ServiceError(404, "UserError", message, (("NotFoundError", message),))
