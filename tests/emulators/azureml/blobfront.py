"""The storage host as clients see it: every request is passed on to Azurite and back as a stream, counted on the way."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from yarl import URL

from tests.emulators.azureml.journal import Entry
from tests.emulators.azureml.pki import Pki

_HOP = {"connection", "keep-alive", "transfer-encoding", "proxy-connection", "te", "upgrade"}
_OURS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that our own client would add where they are lacking; some are signed, so none may be."""
_PIECE = 1 << 16


class BlobFront:
    def __init__(self, port: int, pki: Pki) -> None:
        """port: Azurite's."""
        self._port = port
        self._tls = ssl.create_default_context(cafile=str(pki.ca))
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
        )

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def serve(self, request: web.Request, entry: Entry, cut: int | None) -> web.StreamResponse:
        """cut: bytes of the body after which the connection ends."""
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        body = _counted(request, entry) if request.can_read_body else None
        # Azurite takes the account from the host name, and signatures are made over the URL as the client wrote it.
        target = URL(f"https://127.0.0.1:{self._port}{request.rel_url.raw_path_qs}", encoded=True)
        asked = self._session.request(request.method, target, headers=headers, data=body, skip_auto_headers=_OURS)
        async with asked as there:
            answer = web.StreamResponse(status=there.status, reason=there.reason)
            for name, value in there.headers.items():
                if name.lower() not in _HOP:
                    answer.headers.add(name, value)
            await answer.prepare(request)
            sent = 0
            async for piece in there.content.iter_chunked(_PIECE):
                part = piece if cut is None else piece[: cut - sent]
                await answer.write(part)
                sent += len(part)
                entry["sent"] = sent
                if len(part) < len(piece):
                    break
            return answer


async def _counted(request: web.Request, entry: Entry) -> AsyncIterator[bytes]:
    entry["received"] = 0
    async for piece in request.content.iter_chunked(_PIECE):
        entry["received"] += len(piece)
        yield piece
