"""Commands that are forked and not started: the side of the tests; forked.py is the process that forks them."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
Ended = tuple[int, bytes, bytes]
"""Exit code and both streams."""
_AT_START = ("PYTHON", "LANG", "LC_", "LD_")
"""What an interpreter heeds when it starts, and not later."""


def _server(there: bool) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start one, and how it is asked. Its streams are what a command's are, pipes: Python looks at them once."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "forked.py"), str(theirs.fileno()), *(["azureml"] if there else [])],
            cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error", "PYTHONPATH": str(ROOT)}, pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    return ours, process


class Forks:
    """Two such processes, each from its first use on: with the SDK of Azure ML imported, for commands that have a workspace
    in their environment, and without."""

    def __init__(self) -> None:
        self._started = _at_start({**os.environ, "PYTHONWARNINGS": "error"})
        self._servers: dict[bool, tuple[socket.socket, subprocess.Popen[bytes]]] = {}

    def take(self, env: Mapping[str, str]) -> bool:
        """Whether a fork can have this environment: what an interpreter heeds at its start is as it was."""
        return _at_start(env) == self._started

    def run(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float) -> Ended:
        """A command, to its end and that of its streams.

        Raises:
            subprocess.TimeoutExpired: it has been killed.
        """
        there = "RUNNER_EMULATOR_ADMIN" in env
        if there not in self._servers:
            self._servers[there] = _server(there)
        with ExitStack() as stack:
            request = stack.enter_context(tempfile.TemporaryFile())
            request.write(json.dumps({"argv": argv, "cwd": str(cwd), "env": dict(env)}).encode())
            request.seek(0)
            pipes = [os.pipe() for _ in range(3)]
            for reading, _ in pipes:
                stack.callback(os.close, reading)
            null = os.open(os.devnull, os.O_RDONLY)
            theirs = [null, *(writing for _, writing in pipes)]
            try:
                socket.send_fds(self._servers[there][0], [b"!"], [request.fileno(), *theirs])
            finally:
                for each in theirs:
                    os.close(each)
            return _ended([reading for reading, _ in pipes], argv, timeout)

    def close(self) -> None:
        for asked, process in self._servers.values():
            asked.close()
            out, err = process.communicate(timeout=30)
            assert (process.returncode, out, err) == (0, b"", b""), err.decode()


def _ended(pipes: list[int], argv: Sequence[str], timeout: float) -> Ended:
    """Read its output, its errors, and what is told of it, until all three have ended."""
    got = dict.fromkeys(pipes, b"")
    end = time.monotonic() + timeout
    killed = False
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            if time.monotonic() > end:
                if killed or not got[pipes[2]]:
                    raise subprocess.TimeoutExpired(argv, timeout, got[pipes[0]], got[pipes[1]])
                os.kill(int(got[pipes[2]].split()[0]), signal.SIGKILL)
                killed, end = True, end + 5  # for its last words
            for key, _ in selector.select(max(0.0, end - time.monotonic())):
                data = os.read(key.fd, 1 << 16)
                got[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    out, err, told = (got[pipe] for pipe in pipes)
    if killed:
        raise subprocess.TimeoutExpired(argv, timeout, out, err)
    return int(told.split()[1]), out, err


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_START) and name != "PYTHONPATH"}
