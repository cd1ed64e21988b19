"""Requests that are held: a test waits until one is, kills or changes what it likes, and lets it go."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.emulators.azureml.journal import Entry

_LOOK_S = 0.02


@dataclass(slots=True)
class _Held:
    shown: dict[str, Any]
    then: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Pauses:
    """Used in the server's loop alone."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        self._changed = asyncio.Event()

    async def hold(self, request: web.Request, entry: Entry, when: str) -> str:
        """Until released: "continue" or "reset". A client that goes away while held before the service knew of its request
        never asked: "reset"."""
        held = _Held({name: entry[name] for name in ("n", "method", "host", "path", "query")} | {"when": when})
        self._held[entry["n"]] = held
        self._changed.set()
        try:
            while not held.then.done():
                if when == "before" and (request.transport is None or request.transport.is_closing()):
                    return "reset"
                await asyncio.wait([held.then], timeout=_LOOK_S)
            return held.then.result()
        finally:
            del self._held[entry["n"]]

    async def waiting(self, seconds: float) -> list[dict[str, Any]]:
        """What is held; waits that long until something is."""
        end = asyncio.get_running_loop().time() + seconds
        while not self._held and (left := end - asyncio.get_running_loop().time()) > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                break
        return [held.shown for held in self._held.values()]

    def release(self, number: int, then: str) -> bool:
        """then: "continue" or "reset". False: no such request is held."""
        held = self._held.get(number)
        if held is None or held.then.done():
            return False
        held.then.set_result(then)
        return True

    def release_all(self) -> None:
        for number in list(self._held):
            self.release(number, "reset")
