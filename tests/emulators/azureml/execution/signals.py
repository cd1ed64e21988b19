"""What a run in progress is told from outside: a cancel, a lost node, the emulator's own end. Heard by polling."""

from __future__ import annotations

import time
from threading import Event, Lock
from typing import Literal, Protocol

Ask = Literal["cancel", "preempt", "shutdown"]


class Signals:
    """Of one run. A child hears what its parent hears, unless it was asked for something itself."""

    def __init__(self, parent: Signals | None = None) -> None:
        self.parent = parent
        self._asked: Ask | None = None
        self._event, self._lock = Event(), Lock()

    def ask(self, what: Ask) -> None:
        """The emulator's end comes before all else, a cancel before a lost node."""
        order: tuple[Ask | None, ...] = (None, "preempt", "cancel", "shutdown")
        with self._lock:
            if order.index(what) > order.index(self._asked):
                self._asked = what
        self._event.set()

    def answered(self) -> None:
        """A lost node was dealt with; the next one may come."""
        with self._lock:
            if self._asked == "preempt":
                self._asked = None
                self._event.clear()

    @property
    def asked(self) -> Ask | None:
        return self._asked or (self.parent.asked if self.parent else None)

    def linger(self, seconds: float) -> None:
        """Wait so long whatever is asked, except for the emulator's end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.asked != "shutdown":
            time.sleep(min(0.05, max(0.0, end - time.monotonic())))

    def wait(self, seconds: float) -> Ask | None:
        """Up to so long; at once when something is asked of this very run."""
        if self.asked is None:
            self._event.wait(seconds)
        return self.asked


class SignalsOf(Protocol):
    """The signals of a run, made when it is first asked for; a child's hear those of its parent."""

    def __call__(self, run_id: str, parent: Signals | None = None, /) -> Signals: ...
