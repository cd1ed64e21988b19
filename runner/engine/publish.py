"""Copies outputs to where they were asked for, in threads, so that other steps go on meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import RunnerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

    Publish = Callable[[Path, str], object]

_AT_ONCE = 4


@dataclass(slots=True)
class Copying:
    """A copy under way. copied: what went wrong, or None. grace_s: how long it may go on after a cancel."""

    copied: Future[str | None]
    grace_s: float
    _asked: float | None = None

    def given_up(self, *, canceled: bool) -> bool:
        """Whether it is waited for no longer: a storage that hangs must not make a canceled run last for ever."""
        if not canceled or self.copied.done():
            return False
        self._asked = self._asked or time.monotonic()
        return time.monotonic() - self._asked >= self.grace_s


class Publisher:
    """Hands outputs to `publish`. The threads are made with the first of them.

    Args:
        publish: copies (file or folder that a step left) to (path or URI); any exception is the step's OutputError.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._threads: ThreadPoolExecutor | None = None

    def start(self, sources: Mapping[str, Path], targets: Mapping[str, str], grace_s: float) -> Copying:
        """Copy each output of `targets`."""
        from concurrent.futures import ThreadPoolExecutor

        self._threads = self._threads or ThreadPoolExecutor(_AT_ONCE, "publish")
        return Copying(self._threads.submit(self._all, dict(sources), dict(targets)), grace_s)

    def _all(self, sources: Mapping[str, Path], targets: Mapping[str, str]) -> str | None:
        for name, target in targets.items():
            try:
                self._one(name, sources[name], target)
            except RunnerError as error:
                return f"{name} to {target}: {error.message}"
            except Exception as error:  # noqa: BLE001 - whatever a storage library raises, the step must end
                return f"{name} to {target}: {type(error).__name__}: {error}"
        return None

    def _one(self, name: str, source: Path, target: str) -> None:
        if not source.exists():
            raise FileNotFoundError(f"the step did not write {name}")
        self._publish(source, target)
