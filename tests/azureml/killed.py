"""Commands of runner in processes of their own, with everything imported, to be killed with all that they leave behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_DEADLINE_S = 90.0


def adopt_orphans() -> None:
    """From now on whatever our children leave behind is our child."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """Processes below this one, which have not ended."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - no more than the names: they end as we look
        with suppress(OSError):
            state, parent = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.add(int(pid))
    return found


def preload() -> None:
    """What a submit imports, once for all commands."""
    import azure.ai.ml
    import azure.ai.ml._restclient
    import azure.identity
    import azure.storage.blob
    import urllib3

    import runner.backends.azureml.backend
    import runner.backends.azureml.sdk
    import runner.cli

    del azure, urllib3, runner


@dataclass
class Processes:
    """The commands that were started, and the supervisors that they left.

    out: what they print. spare: processes that are no part of it.
    """

    out: Path
    spare: set[int] = field(default_factory=children)
    _ended: dict[int, int] = field(default_factory=dict)

    def start(self, *argv: str) -> int:
        """The command; its process."""
        child = os.fork()
        if child:
            return child
        try:
            out = os.open(self.out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.setsid()
            from runner.cli import main

            sys.argv = ["runner", *argv]
            main()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(int(end.code or 0))
        finally:
            os._exit(99)

    def code(self, child: int) -> int:
        """Its exit code, waited for."""

        def over() -> bool:
            self._reap()
            return child in self._ended

        until(over, "the command ends")
        return self._ended[child]

    def live(self) -> set[int]:
        self._reap()
        return children() - self.spare

    def gone(self) -> None:
        """Return when all of them have ended."""
        until(lambda: not self.live(), "the supervisor ends")

    def kill(self, only: set[int] | None = None) -> None:
        """With -9: all of them, as the power failing would, or only some."""

        def dead() -> bool:
            stricken = self.live() if only is None else self.live() & only
            for pid in stricken:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not stricken

        until(dead, "they are killed")

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._ended[found[0]] = os.waitstatus_to_exitcode(found[1])


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {_DEADLINE_S:g} s: {what}")
        time.sleep(0.02)
