"""The TLS server behind all host names: checks what every request has to have, finds the handler, injects the faults."""

from __future__ import annotations

import asyncio
import json
import re
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from aiohttp import web

from tests.emulators.azureml import names
from tests.emulators.azureml.aad import Tokens
from tests.emulators.azureml.blobfront import BlobFront
from tests.emulators.azureml.faults import Faults, Rule
from tests.emulators.azureml.journal import Entry, Journal
from tests.emulators.azureml.pause import Pauses
from tests.emulators.azureml.pki import Pki
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.versions import check_version
from tests.emulators.azureml.wire import Answer, Call, Route, ServiceError

_LARGEST = 64 * 1024 * 1024


class Broken(Exception):  # noqa: N818 - no error, but the way out of a request whose connection is to end
    """The connection ends here, without an answer."""


class Server:
    def __init__(
        self, pki: Pki, profile: Profile, tokens: Tokens, journal: Journal, faults: Faults, front: BlobFront
    ) -> None:
        self._pki, self._profile, self._tokens, self._journal = pki, profile, tokens, journal
        self._faults, self._front, self.pauses = faults, front, Pauses()
        self._routes: Sequence[Route] = ()
        self._runner: web.AppRunner | None = None

    async def start(self, routes: Sequence[Route], port: int = 0) -> int:
        """The port it listens on."""
        self._routes = routes
        for route in routes:
            re.compile(route.pattern)  # one that is wrong is seen now, not by the request that comes to it
        await self._front.start()
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, auto_decompress=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self._pki.server_context())
        await site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        self.pauses.release_all()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._front.stop()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        host = request.host.partition(":")[0].lower()
        entry = self._journal.begin(
            request.method, host, request.path, query, request.headers.get("User-Agent", "")[:200]
        )
        status: int | None = None
        try:
            answer = await self._answer(request, entry, query)
            status = answer.status
        except (Broken, OSError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)  # nobody reads it: the connection is gone
        else:
            return answer
        finally:
            self._journal.end(entry, status)

    async def _answer(self, request: web.Request, entry: Entry, query: dict[str, str]) -> web.StreamResponse:
        rules = self._faults.of(entry)
        if rules:
            entry["fault"] = [rule.id for rule in rules]
        if self._profile.latency_s:
            await asyncio.sleep(self._profile.latency_s)
        for rule in rules:
            if rule.when == "before" and (refused := await self._apply(rule, request, entry)):
                return refused
        cut = min((rule.cut for rule in rules if rule.cut is not None), default=None)
        if entry["host"].endswith(".blob.core.windows.net"):
            response = await self._front.serve(request, entry, cut)
        else:
            response = await self._service(request, entry, query)
        for rule in rules:
            if rule.when == "after" and (refused := await self._apply(rule, request, entry)):
                return refused
        if cut is not None:
            raise Broken
        return response

    async def _apply(self, rule: Rule, request: web.Request, entry: Entry) -> web.Response | None:
        if rule.delay_s:
            await asyncio.sleep(rule.delay_s)
        if rule.pause and await self.pauses.hold(request, entry, rule.when) == "reset":
            raise Broken
        if rule.reset:
            raise Broken
        if rule.status:
            headers = {"Retry-After": rule.retry_after} if rule.retry_after else {}
            fault = ServiceError(rule.status, rule.code, rule.message).answer()
            return _response(Answer(fault.body, fault.status, headers))
        return None

    async def _service(self, request: web.Request, entry: Entry, query: dict[str, str]) -> web.Response:
        raw = await request.read()
        entry["received"] = len(raw)
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            body = _json(raw, headers)
            if body is not None and not entry["host"].endswith(".vault.azure.net"):
                entry["body"] = body
            call = Call(request.method, entry["host"], entry["path"], query, headers, body, raw)
            answer = await asyncio.to_thread(self._dispatch, call, entry)
        except ServiceError as error:
            answer = error.answer()
        except Exception:  # a fault of the emulator: it fails the test as what is unhandled does
            entry |= {"unhandled": True, "failure": traceback.format_exc()}
            answer = ServiceError(500, "EmulatorFault", "The emulator failed; its journal says how.").answer()
        if answer.status >= 400:
            entry["answer"] = answer.body
        response = _response(answer)
        entry["sent"] = len(answer.encoded())
        return response

    def _dispatch(self, call: Call, entry: Entry) -> Answer:
        for route in self._routes:
            if found := route.match(call):
                return self._ask(route, call, {name: value or "" for name, value in found.groupdict().items()})
        entry["unhandled"] = True
        raise ServiceError(501, "Unhandled", f"The emulator has no answer to {call.method} {call.host}{call.path}.")

    def _ask(self, route: Route, call: Call, parts: dict[str, str]) -> Answer:
        """What the service checks of every request, then the handler."""
        header = call.headers.get("authorization", "")
        claims = self._tokens.check(header, route.audiences) if route.audiences else {}
        if route.versioned:
            check_version(call)
        _ours(parts)
        return route.handler(replace(call, parts=parts, claims=claims))


def _ours(parts: dict[str, str]) -> None:
    """The subscription, group and workspace of the path are the emulated ones, or the resource manager's 404."""
    if (given := parts.get("sub")) is not None and given.lower() != names.SUBSCRIPTION:
        raise ServiceError(404, "SubscriptionNotFound", f"The subscription '{given}' could not be found.")
    if (given := parts.get("group")) is not None and given.lower() != names.GROUP:
        raise ServiceError(404, "ResourceGroupNotFound", f"Resource group '{given}' could not be found.")
    if (given := parts.get("ws")) is not None and given.lower() != names.WORKSPACE:
        raise ServiceError(
            404,
            "ResourceNotFound",
            f"The Resource '{names.PROVIDER}/workspaces/{given}' under resource group '{parts['group']}' was not found. "
            "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
        )


def _json(raw: bytes, headers: dict[str, str]) -> Any:
    if not raw or "json" not in headers.get("content-type", ""):
        return None
    try:
        return json.loads(raw)
    except ValueError:
        raise ServiceError(
            400, "InvalidRequestContent", "The request content was invalid and could not be read."
        ) from None


def _response(answer: Answer) -> web.Response:
    headers = {"x-ms-correlation-request-id": str(uuid4()), "Cache-Control": "no-cache", **answer.headers}
    kind = None if answer.body is None else "application/json"
    return web.Response(status=answer.status, body=answer.encoded(), headers=headers, content_type=kind)
