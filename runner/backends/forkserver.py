"""Starts bootstrappers by fork: one small process per supervisor, which has the bootstrapper loaded (12 ms of each start).

A program of its own, `python -I -S forkserver.py BOOTSTRAP.PYC SOCKET`: standard library only. `runner.backends.forks` talks
to it over a socket of packets, and it ends with that socket. What it started goes on then, as after the supervisor's end.

    to it    marshal: number; with the descriptors of a request (marshal: argv, environment), lock, log, working directory
    from it  marshal: number, pid, start time; with a pidfd. Or number, 0, errno: nothing was started
             marshal: number, wait status: what was started has ended
"""

from __future__ import annotations

import array
import gc
import marshal
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

_FDS = 4


def _load(file: str) -> Any:
    from importlib.machinery import SourcelessFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    loader = SourcelessFileLoader("bootstrap", file)
    spec = spec_from_loader("bootstrap", loader)
    assert spec is not None  # noqa: S101 - a file loader always has one
    module = module_from_spec(spec)
    module.__file__ = file
    loader.exec_module(module)
    return module


def _become(bootstrap: Any, fds: list[int]) -> None:
    """In the child: all that a fresh bootstrapper would have, then the bootstrapper. Returns never.

    The lock stays open: that is what it is held by.
    """
    try:
        os.setsid()
        request, lock, log, work = fds
        argv, env = marshal.loads(os.pread(request, os.fstat(request).st_size, 0))  # noqa: S302 - from our own supervisor
        os.fchdir(work)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2), (lock, 3)):
            os.dup2(source, target)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        bootstrap.environment = lambda: env  # /proc would tell the environment of the process that forked
        bootstrap.own_process()
        os._exit(bootstrap.main([os.fsdecode(word) for word in argv]))
    finally:
        os._exit(127)


def _start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


class _Server:
    """The children that have not been waited for yet, and who wants to know."""

    def __init__(self, bootstrap: Any, sock: socket.socket) -> None:
        self._bootstrap, self._sock = bootstrap, sock
        self._children: dict[int, tuple[int, int]] = {}
        """pidfd → (pid, number of the request)."""
        self._poller = select.poll()
        self._poller.register(sock.fileno(), select.POLLIN)

    def serve(self) -> None:
        """Until the other end is closed."""
        while True:
            for fd, _ in self._poller.poll():
                if fd in self._children:
                    self._reap(fd)
                elif not self._start():
                    return

    def _start(self) -> bool:
        packet, fds, _, _ = socket.recv_fds(self._sock, 1 << 10, _FDS)
        if not packet:
            return False
        number = marshal.loads(packet)  # noqa: S302
        try:
            pid = os.fork()
            if pid == 0:
                _become(self._bootstrap, fds)
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            self._tell((number, 0, error.errno or 0))
            return True
        finally:
            for fd in fds:
                os.close(fd)
        self._children[pidfd] = pid, number
        self._poller.register(pidfd, select.POLLIN)
        # Not waited for yet, so the pid means this child, whether it runs or has ended.
        self._tell((number, pid, _start_time(pid)), pidfd)
        return True

    def _reap(self, pidfd: int) -> None:
        pid, number = self._children.pop(pidfd)
        self._poller.unregister(pidfd)
        os.close(pidfd)
        self._tell((number, os.waitpid(pid, 0)[1]))

    def _tell(self, answer: tuple[int, ...], *fds: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([marshal.dumps(answer)], rights)
        except OSError:  # the supervisor is gone, which the next look at the socket says too
            return


def main(file: str, fd: int) -> None:
    """Serve one supervisor."""
    bootstrap = _load(file)
    try:  # what every bootstrapper loads; it can do without them
        import ctypes  # noqa: F401
        import resource  # noqa: F401
    except ImportError:
        pass

    # For the children: none may be lost between the fork and the bootstrapper's own mask. We end with the socket.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - bootstrap.FAULTS)
    gc.freeze()
    gc.disable()  # a round of the collector would copy every page
    _Server(bootstrap, socket.socket(fileno=fd)).serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
