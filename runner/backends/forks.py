"""Our end of the fork server: bootstrappers that start in 1 ms instead of 15. See `forkserver` for what is said."""

from __future__ import annotations

import marshal
import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROGRAM = Path(__file__).with_name("forkserver.py")
_ANSWER_S = 10.0
"""A fork takes 1 ms; a server that says nothing for so long is given up."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A bootstrapper. start: in clock ticks after boot. pidfd: belongs to whoever asked for the start."""

    number: int
    pid: int
    start: int
    pidfd: int


class ForkServer:
    """One process that forks bootstrappers. What it started outlives it.

    Args:
        file: the compiled bootstrapper.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, file: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM), str(file), str(theirs.fileno())],
                stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True, cwd="/",
            )  # fmt: skip
        ours.settimeout(_ANSWER_S)
        self._sock = ours
        self._number = 0
        self._statuses: dict[int, int] = {}
        self.alive = True
        """Once it is not, nothing of what was asked for begins any more, unless it has begun."""

    @property
    def pid(self) -> int:
        """The server's own."""
        return self._process.pid

    def start(self, argv: Sequence[str], env: Mapping[str, str], *, cwd: str, log: int, lock: int) -> Forked | None:
        """Fork a bootstrapper in a session of its own; None where the server is gone, before or after it did.

        Args:
            argv: the bootstrapper's own arguments. env: what is added to our own environment.
            log: descriptor for both streams. lock: descriptor that it holds as long as it lives.

        Raises:
            OSError: there is no such folder, or nothing could be forked.
        """
        self._number += 1
        work = os.open(cwd, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        request = os.memfd_create("request", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(request), "wb") as file:
                words = [os.fsencode(word) for word in argv]
                added = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
                file.write(marshal.dumps((words, {**os.environb, **added})))
            socket.send_fds(self._sock, [marshal.dumps(self._number)], [request, lock, log, work])
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self._give_up()
            return None
        finally:
            os.close(request)
            os.close(work)
        while True:
            answer, fds = self._receive()
            if answer is None:
                return None
            if len(answer) == 3:
                number, pid, start = answer
                if pid == 0:
                    raise OSError(start, os.strerror(start))
                return Forked(number, pid, start, fds[0])

    def status(self, number: int) -> int | None:
        """The wait status of a bootstrapper whose pidfd says that it has ended; None where nobody knows it any more."""
        while number not in self._statuses and self.alive:
            self._receive()
        return self._statuses.get(number)

    def forget(self, number: int) -> None:
        """Nobody will ask for this status again."""
        self._statuses.pop(number, None)

    def _receive(self) -> tuple[tuple[int, ...] | None, list[int]]:
        """The next packet, ends noted; None when there will be none."""
        try:
            packet, fds, _, _ = socket.recv_fds(self._sock, 1 << 10, 1)
        except (ConnectionResetError, TimeoutError):
            packet, fds = b"", []
        if not packet:
            self._give_up()
            return None, []
        answer: tuple[int, ...] = marshal.loads(packet)  # noqa: S302 - from our own child
        if len(answer) == 2:
            self._statuses[answer[0]] = answer[1]
        return answer, fds

    def _give_up(self) -> None:
        """One that hangs must not take up a request later: with it goes what waits in the socket, and the locks in there."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Let the server go; what it has started goes on."""
        self.alive = False
        self._sock.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._process.returncode = self._process.returncode or 0  # no ResourceWarning: meant
