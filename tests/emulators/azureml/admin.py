"""The port of tests: switches, faults, held requests, what was asked. Plain HTTP on loopback, with a token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from secrets import compare_digest
from typing import Any

from aiohttp import web

from tests.emulators.azureml.aad import Tokens
from tests.emulators.azureml.faults import Faults
from tests.emulators.azureml.journal import Journal
from tests.emulators.azureml.pause import Pauses
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.state import Doc, State
from tests.emulators.azureml.wire import Call

IDENTITY_PATH = "/identity/token"
_KINDS = {
    "workspace", "compute", "datastore", "environment", "code", "component", "data", "job", "run", "role", "connection",
}  # fmt: skip


class Admin:
    """preempt: takes the node of a run away."""

    def __init__(
        self, token: str, state: State, profile: Profile, faults: Faults, pauses: Pauses, journal: Journal, tokens: Tokens,
        preempt: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._token, self._state, self._profile, self._faults = token, state, profile, faults
        self._pauses, self._journal, self._tokens, self._preempt = pauses, journal, tokens, preempt
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> int:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/switches", self._switches),
                web.post("/switches", self._switch),
                web.delete("/switches", self._switch_back),
                web.get("/faults", self._list_faults),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.get("/paused", self._paused),
                web.post("/release", self._release),
                web.post("/preempt", self._take_node),
                web.get("/requests", self._requests),
                web.get("/unhandled", self._unhandled),
                web.get("/documents/{kind}", self._documents),
                web.post("/documents/{kind}/{key:.+}", self._document),
                web.delete("/documents/{kind}/{key:.+}", self._forget),
                web.get(IDENTITY_PATH, self._identity),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if request.path != IDENTITY_PATH and not compare_digest(given.encode(), self._token.encode()):
            return web.json_response({"error": "the admin token is wrong"}, status=401)
        try:
            return await handler(request)
        except (ValueError, KeyError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def _switches(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self._profile))

    async def _switch(self, request: web.Request) -> web.Response:
        self._profile.change(await request.json())
        self._profile.save(self._state)
        return web.json_response(asdict(self._profile))

    async def _switch_back(self, request: web.Request) -> web.Response:
        self._profile.reset()
        self._profile.save(self._state)
        return web.json_response(asdict(self._profile))

    async def _list_faults(self, request: web.Request) -> web.Response:
        return web.json_response(self._faults.shown())

    async def _add_fault(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self._faults.add(await request.json())))

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._faults.clear()
        self._pauses.release_all()
        return web.json_response([])

    async def _paused(self, request: web.Request) -> web.Response:
        return web.json_response(await self._pauses.waiting(float(request.query.get("wait", "0"))))

    async def _release(self, request: web.Request) -> web.Response:
        given = await request.json()
        then = given.get("then", "continue")
        if then not in {"continue", "reset"}:
            raise ValueError("then: continue or reset")
        return web.json_response({"released": self._pauses.release(int(given["n"]), then)})

    async def _take_node(self, request: web.Request) -> web.Response:
        run = str((await request.json())["run"])
        await asyncio.to_thread(self._preempt, run)
        return web.json_response({"preempted": run})

    async def _requests(self, request: web.Request) -> web.Response:
        return web.json_response(self._journal.entries(int(request.query.get("after", "0"))))

    async def _unhandled(self, request: web.Request) -> web.Response:
        return web.json_response(self._journal.unhandled())

    async def _documents(self, request: web.Request) -> web.Response:
        return web.json_response(self._state.list(_kind(request)))

    async def _document(self, request: web.Request) -> web.Response:
        """Merge into a document, member by member; a new one is made."""
        kind, key, given = _kind(request), request.match_info["key"], await request.json()
        changed = self._state.update(kind, key, lambda doc: _merge(doc, given))
        return web.json_response(changed or self._state.put(kind, key, given))

    async def _forget(self, request: web.Request) -> web.Response:
        self._state.delete(_kind(request), request.match_info["key"])
        return web.json_response({})

    async def _identity(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call("GET", "", request.path, dict(request.query), headers, None)
        answer = self._tokens.managed(call)
        return web.json_response(answer.body, status=answer.status)


def _kind(request: web.Request) -> str:
    kind = request.match_info["kind"]
    if kind not in _KINDS:
        raise ValueError(f"no kind {kind!r}; there are {', '.join(sorted(_KINDS))}")
    return kind


def _merge(doc: Doc, given: dict[str, Any]) -> None:
    for member, value in given.items():
        if isinstance(value, dict) and isinstance(doc.get(member), dict):
            _merge(doc[member], value)
        else:
            doc[member] = value
