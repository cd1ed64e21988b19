"""What was asked of the emulator, one JSON object per line in `requests.jsonl`; secrets are never in it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import Lock
from typing import Any

from tests.emulators.azureml import names

Entry = dict[str, Any]
"""n, time, method, host, path, query (signatures and tokens left out), status, ms, received and sent (bytes of the body),
agent; where they apply: body (JSON of ARM and the data plane), answer (of an error), fault (numbers of rules), unhandled,
failure (of the emulator), refused (by the proxy)."""

_SECRET = {"sig", "sv", "se", "sp", "st", "sr", "ss", "srt", "skoid", "sktid", "skt", "ske", "sks", "skv"}


class Journal:
    def __init__(self, folder: Path) -> None:
        self._file = (folder / "requests.jsonl").open("a", buffering=1)
        self._lock = Lock()
        self._entries: list[Entry] = []
        self._number = 0

    def begin(self, method: str, host: str, path: str, query: dict[str, str], agent: str) -> Entry:
        """A new entry, of which nobody else knows until `end`."""
        with self._lock:
            self._number += 1
            number = self._number
        shown = {name: value for name, value in query.items() if name not in _SECRET}
        return {
            "n": number, "time": names.now(), "method": method, "host": host, "path": path, "query": shown,
            "agent": agent, "began": time.monotonic(),
        }  # fmt: skip

    def end(self, entry: Entry, status: int | None, **more: Any) -> None:
        """status None: the connection was broken off."""
        entry |= {"status": status, "ms": round((time.monotonic() - entry.pop("began")) * 1000, 1), **more}
        with self._lock:
            self._entries.append(entry)
            self._file.write(json.dumps(entry) + "\n")

    def refused(self, target: str) -> None:
        """By the proxy: a host that is none of Azure's that the emulator answers for."""
        self.end(self.begin("CONNECT", target, "", {}, ""), 403, refused=True)

    def entries(self, after: int = 0) -> list[Entry]:
        """Of this start, in the order of their ends; after: a number of entries to leave out."""
        with self._lock:
            return self._entries[after:]

    def unhandled(self) -> list[Entry]:
        """What the emulator did not know, and where a client tried to go that it must not."""
        return [entry for entry in self.entries() if entry.get("unhandled") or entry.get("refused")]

    def close(self) -> None:
        self._file.close()
