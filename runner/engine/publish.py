"""Copies outputs to where they were asked for, in threads, so that other steps go on meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import RunnerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

_AT_ONCE = 4


class Publisher:
    """Hands outputs to `publish`. The threads are made with the first of them."""

    def __init__(self, publish: Callable[[Path, str], object] | None) -> None:
        self._publish = publish
        self._threads: ThreadPoolExecutor | None = None

    def start(self, sources: Mapping[str, Path], targets: Mapping[str, str]) -> Future[str | None]:
        """Copy each output of `targets`; the result is what went wrong, or None."""
        from concurrent.futures import ThreadPoolExecutor

        self._threads = self._threads or ThreadPoolExecutor(_AT_ONCE, "publish")
        return self._threads.submit(self._all, dict(sources), dict(targets))

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
        if self._publish is None:
            raise NotImplementedError("this runner cannot copy outputs elsewhere")
        self._publish(source, target)
