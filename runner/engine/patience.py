"""What a driver does while backend, store or disk cannot be had: it waits, longer each time, and gives nothing up."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.errors import StoreError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_RESPONDING_S = 30.0
"""Without contact for so long, a run is shown as NotResponding. It is not an end."""
BACKOFF_S = (0.2, 5.0)
PASSING = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.EAGAIN, errno.EINTR,
})  # fmt: skip
"""What may be over soon, so it is waited for. Any other error of the system would only come again, for ever."""


class Patience:
    """When to try again. show: tells the user that nothing has answered for a while, and why."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._since: float | None = None
        self._pause = BACKOFF_S[0]
        self._not_before = 0.0

    @property
    def left(self) -> float:
        """Seconds until there is something to do; 0 or less: now."""
        return self._not_before - time.monotonic()

    def rest(self, pause: float) -> None:
        """Do nothing for so many seconds."""
        self._not_before = time.monotonic() + pause

    def tried(self, attempt: Callable[[], float]) -> float:
        """Try; what it gives, or how long to wait before the next try."""
        try:
            delay = attempt()
        except UnavailableError as error:
            return self._wait(str(error.message))
        except StoreError as error:
            # A full disk, mostly: nothing is given up, since what is not recorded yet would be lost.
            return self._wait(f"waiting: {error.message}")
        except OSError as error:
            if error.errno not in PASSING:
                raise
            return self._wait(f"waiting, the disk cannot be written: {error}")
        self._since, self._pause = None, BACKOFF_S[0]
        return delay

    def _wait(self, why: str) -> float:
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since >= NOT_RESPONDING_S:
            with suppress(StoreError):
                self._show(why)
        self._pause = min(self._pause * 2, BACKOFF_S[1])
        self._not_before = now + self._pause
        return self._pause
