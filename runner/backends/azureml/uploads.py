"""How much of an upload is there, read off the bars that azure-ai-ml draws: nothing of it is patched, and it tells bytes."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from io import StringIO
from typing import TYPE_CHECKING

from runner.backends.base import UPLOADING
from runner.store import write_aside

if TYPE_CHECKING:
    from pathlib import Path

_BAR = re.compile(r"Uploading ([^\r\n]{1,300}?) \([\d.]+ MBs\):[^\r\n]*?\| (\d+)/(\d+) \[")
_EVERY_S = 0.5


class Bars(StringIO):
    """A stream that keeps nothing of what is written to it but how far uploads have come, in a file of the box."""

    def __init__(self, box: Path) -> None:
        super().__init__()
        self._file = box / UPLOADING
        self._seen: dict[str, tuple[int, int]] = {}
        self._told = 0.0

    def write(self, text: str, /) -> int:
        """See io."""
        for found in _BAR.finditer(text):
            self._seen[found[1]] = int(found[2]), int(found[3])
            self._tell()
        return len(text)

    def _tell(self) -> None:
        done, total = (sum(each) for each in zip(*self._seen.values(), strict=True))
        now = time.monotonic()
        if now - self._told >= _EVERY_S or done == total:
            self._told = now
            with suppress(OSError):  # it is for people, and no upload may fail for it
                write_aside(self._file, f"{done} {total}".encode())
