"""The CONNECT proxy that leads Azure's host names to the emulator, and refuses every other: nothing leaves the machine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

HOSTS = (
    r"management\.azure\.com",
    r"login\.microsoftonline\.com",
    r"[a-z0-9-]+\.api\.azureml\.ms",
    r"[a-z0-9-]+\.blob\.core\.windows\.net",
    r"[a-z0-9-]+\.vault\.azure\.net",
)
"""What is answered for, all by the one TLS port. TLS stays end to end: the proxy sees host names only."""


class Proxy:
    """port: of the TLS server. refused: called with `host:port` of what was not let through."""

    def __init__(self, port: int, refused: Callable[[str], None]) -> None:
        self._target, self._refused = port, refused
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, target, *_ = [*head.split("\r\n", 1)[0].split(" "), ""]
                host, _, port = target.rpartition(":")
                if (
                    method != "CONNECT"
                    or port != "443"
                    or not any(re.fullmatch(known, host, re.IGNORECASE) for known in HOSTS)
                ):
                    self._refused(target)
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    await writer.drain()
                    return
                await self._join(reader, writer)
        finally:
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            # Either side's end ends both: an answer cut off by a fault must reach the client as just that.
            ways = {asyncio.ensure_future(_pour(reader, back)), asyncio.ensure_future(_pour(there, writer))}
            _, open_ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in open_:
                way.cancel()
        finally:
            back.close()


async def _pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
