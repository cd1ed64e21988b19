"""Runs tasks as plain processes of this machine: no container, own session, same bootstrapper, same record.

Who started a task is told by a lock: its file is locked before the fork and the bootstrapper holds the lock for as long
as it lives. So whoever looks, at any moment and after any kill, sees whether the task is running, was, or never did.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from runner.backends import cgroups, secretfile
from runner.backends.base import Capabilities, Handle, Layout, Observation, Phase, with_files
from runner.bootstrapper import COMPILED, arguments, final_outcome, read_record, staged
from runner.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from runner.backends.base import Box, Facts, Task
    from runner.backends.forks import ForkServer

_KEY = "RUNNER_KEY"
"""In the script's environment, so that what is left of a task can be told from everything else on the machine."""


_COPIER_S = 10.0
"""A process that escaped everything may hold the log open for ever; so long the end waits for it."""

_CAPABILITIES = Capabilities(
    images=False, cpus=False, memory=False, gpus=False, shm=False, ulimits=False, secrets=True, isolates=False
)


class ProcessBackend:
    """Tasks as plain processes."""

    name = "process"

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._tasks: dict[Handle, Task] = {}
        self._children: dict[Handle, subprocess.Popen[bytes]] = {}
        self._copiers: dict[Handle, subprocess.Popen[bytes]] = {}
        self._pidfds: dict[Handle, int] = {}
        self._submitted = 0
        self._server: ForkServer | None = None
        self._forked: dict[Handle, tuple[ForkServer, int]] = {}
        self.capabilities = cgroups.capabilities(_CAPABILITIES)

    # -- pure -----------------------------------------------------------------------------------------------------

    def layout(
        self, box: Box, inputs: Mapping[str, str], outputs: Mapping[str, str | None], files: Collection[str] = ()
    ) -> Layout:
        """The real paths: inputs are where they are, HOME is the caller's own."""
        return Layout(
            work=str(box.work),
            home=str(Path.home()),
            inputs=dict(inputs),
            outputs=with_files(
                {name: str(box.work / folder if folder else box.outputs / name) for name, folder in outputs.items()},
                files,
            ),
            tracking=str(box.tracking),
        )

    def render(self, task: Task) -> Mapping[str, object]:
        """The command line and the variables that are added to this process's own."""
        folders = {folder: str(task.box.outputs / name) for name, folder in task.outputs.items() if folder}
        argv = arguments(
            task.argv, key=task.key, record=str(task.box.record), limits=task.limits, outputs=folders,
            secrets=str(secretfile.folder(task.key) / secretfile.NAME) if task.secrets != {} else None,
            cgroups=[str(path) for path in cgroups.folders(task.key, task.limits)],
        )  # fmt: skip
        file = staged(self._facts.cache, sys.implementation.cache_tag) / COMPILED
        return {
            "argv": [sys.executable, "-I", "-S", str(file), *argv],
            "cwd": str(task.box.work),
            "env": {**task.env, _KEY: task.key, "RUNNER_BACKEND": "process"},
        }

    # -- running --------------------------------------------------------------------------------------------------

    def submit(self, task: Task) -> Handle:
        """Start the bootstrapper in a session of its own; see `Backend.submit`."""
        rendered = self.render(task)
        lock = _lock(task)
        if lock is None or _pid(task) is not None:
            if lock is not None:
                os.close(lock)
            found = self.find(task)
            if found is None:
                raise UnavailableError(f"task {task.key} is being started by another process")
            self.watch(task, found)
            return found
        try:
            if task.secrets:
                secretfile.write(task.key, task.secrets, os.getuid(), os.getgid())
            cgroups.make(task.key, task.limits)
            log, copier = _copier(task.log)
            try:
                handle = self._fork(task, rendered, log, lock) or self._spawn(task, rendered, log, lock)
            finally:
                os.close(log)
        finally:
            os.close(lock)
        self._copiers[handle] = copier
        self._tasks[handle] = task
        self._submitted += 1
        return handle

    def _spawn(self, task: Task, rendered: Mapping[str, object], log: int, lock: int) -> Handle:
        """Start the bootstrapper as a program."""
        child = subprocess.Popen(
            rendered["argv"], cwd=str(rendered["cwd"]), env={**os.environ, **_strings(rendered["env"])},  # type: ignore[call-overload]
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip
        handle = _handle(child.pid, _start_time(child.pid), task)
        self._children[handle] = child
        self._open(handle, child.pid)
        return handle

    def _fork(self, task: Task, rendered: Mapping[str, object], log: int, lock: int) -> Handle | None:
        """Start the bootstrapper by the fork server, which pays from the second task on; None: it has to be spawned."""
        if not self._submitted or (self._server is not None and not self._server.alive):
            return None  # one that was killed or failed might do so again
        argv = rendered["argv"]
        assert isinstance(argv, list)  # noqa: S101 - see `render`
        if self._server is None:
            from runner.backends.forks import ForkServer

            self._server = ForkServer(Path(argv[3]))
        forked = self._server.start(argv[4:], _strings(rendered["env"]), cwd=str(rendered["cwd"]), log=log, lock=lock)
        if forked is None:  # it may have begun: the next try looks for it first
            raise UnavailableError(f"the process that starts tasks ended while it was to start {task.key}")
        handle = _handle(forked.pid, forked.start, task)
        self._forked[handle] = self._server, forked.number
        self._pidfds[handle] = forked.pidfd
        return handle

    def find(self, task: Task) -> Handle | None:
        """The task that was started before, running or ended, by its lock and its record."""
        if not task.box.root.is_dir():  # killed before the box was made
            return None
        deadline = time.monotonic() + 10
        while True:
            lock = _lock(task)
            pid = _pid(task)
            if lock is not None:
                os.close(lock)
                # Not running. With a record it ran and ended (start time 0 matches no process); without, it never did.
                return None if pid is None else _handle(pid, 0, task)
            if pid is not None:
                return _handle(pid, _start_time(pid), task)
            if time.monotonic() > deadline:
                raise UnavailableError(f"task {task.key} was started, but does not say so")
            time.sleep(0.02)  # between the fork and the record: about 20 ms

    def watch(self, task: Task, handle: Handle) -> None:
        """Take up a process again, of which this one is not the parent."""
        self._tasks[handle] = task
        pid, start, boot = _parts(handle)
        if handle not in self._pidfds and _alive(pid, start, boot):
            self._open(handle, pid)

    def _open(self, handle: Handle, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._pidfds[handle] = os.pidfd_open(pid)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation | None]:
        """Facts of each process."""
        return {handle: self._observe(handle) for handle in handles}

    def _observe(self, handle: Handle) -> Observation | None:
        if (child := self._children.get(handle)) is not None:
            code = child.poll()
            return Observation(Phase.RUNNING) if code is None else _ended(code)
        if (forked := self._forked.get(handle)) is not None:
            return self._observe_forked(handle, *forked)
        if handle not in self._tasks:
            return None
        # Not our child, so its exit code is not ours to see: without a final record it is lost.
        return Observation(Phase.RUNNING) if _alive(*_parts(handle)) else Observation(Phase.ENDED, lost=True)

    def _observe_forked(self, handle: Handle, server: ForkServer, number: int) -> Observation:
        poller = select.poll()
        poller.register(self._pidfds[handle], select.POLLIN)
        if not poller.poll(0):
            return Observation(Phase.RUNNING)
        status = server.status(number)
        return Observation(Phase.ENDED, lost=True) if status is None else _ended(os.waitstatus_to_exitcode(status))

    def wait(self, timeout: float) -> None:
        """Sleep until a process ends, or for `timeout` seconds. Logs have copiers of their own."""
        if not self._pidfds:
            time.sleep(timeout)
            return
        poller = select.poll()
        for fd in self._pidfds.values():
            poller.register(fd, select.POLLIN)
        poller.poll(timeout * 1000)

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """SIGTERM (or SIGKILL) to the bootstrapper, by a descriptor that can mean no other process."""
        fd = self._pidfds.get(handle)
        if fd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL if force else signal.SIGTERM)

    def finish(self, handle: Handle) -> Sequence[str]:
        """Stop what a killed bootstrapper left running; one that wrote its record did that itself."""
        task = self._tasks[handle]
        if final_outcome(read_record(task.box.record), task.key) is None:
            _kill_leftovers(task.key)
        _await_copier(task.log)
        self._forget(handle)
        return ()

    def remove(self, handle: Handle) -> None:
        """Free the control group and descriptors."""
        task = self._tasks.pop(handle, None)
        self._forget(handle)
        key = handle.split(":", 3)[3]
        if task is None or cgroups.folders(key, task.limits):
            cgroups.remove(key)
        if task is None or task.secrets != {}:
            secretfile.remove(key)

    def _forget(self, handle: Handle) -> None:
        for children in (self._children, self._copiers):
            if (child := children.pop(handle, None)) is not None and child.poll() is None:
                child.returncode = 0  # it cannot be waited for; not our concern any more
        if (forked := self._forked.pop(handle, None)) is not None:
            forked[0].forget(forked[1])
        if (fd := self._pidfds.pop(handle, None)) is not None:
            os.close(fd)

    def close(self) -> None:
        """Close descriptors. Processes go on."""
        for handle in [*self._pidfds]:
            fd = self._pidfds.pop(handle)
            os.close(fd)
        for child in (*self._children.values(), *self._copiers.values()):
            child.returncode = child.returncode if child.returncode is not None else 0  # no ResourceWarning: meant
        self._children.clear()
        self._copiers.clear()
        self._forked.clear()
        if self._server is not None:
            self._server.close()
            self._server = None


def _copier(log: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """The writing end of a pipe, and the process that copies it to the log.

    A script that opens /dev/stderr would truncate the log if that were the file itself; a pipe it cannot. The copier is
    no child of the script's session, outlives us, ends with the last writer, and holds the log's lock until then.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        copier = subprocess.Popen(
            ["cat"], stdin=read, stdout=file, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
            env={"PATH": os.defpath},
        )  # fmt: skip
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
        os.close(file)
    return write, copier


def _await_copier(log: Path) -> None:
    """Wait until the log is whole: its copier has seen the end of the last writer, a millisecond after the script's."""
    try:
        file = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    deadline = time.monotonic() + _COPIER_S
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.002)
    finally:
        os.close(file)


def _lock(task: Task) -> int | None:
    """Take the task's lock, or None when its bootstrapper (or one about to start it) holds it."""
    fd = os.open(task.box.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _ended(code: int) -> Observation:
    """code: as `subprocess` has it, negative for a signal."""
    return Observation(Phase.ENDED, exit_code=code if code >= 0 else None, killed_by=-code if code < 0 else None)


def _strings(value: object) -> dict[str, str]:
    return value if isinstance(value, dict) else {}


def _pid(task: Task) -> int | None:
    """The bootstrapper's pid, by the record that it writes before the script starts."""
    record = read_record(task.box.record)
    pid = record.get("pid") if record and record.get("attempt") == task.key else None
    return pid if isinstance(pid, int) and pid > 0 else None


def _handle(pid: int, start: int, task: Task) -> Handle:
    """Names one process for ever, and the task, so that what it held can be freed by whoever knows the handle alone."""
    return f"{pid}:{start}:{_boot_id()}:{task.key}"


def _parts(handle: Handle) -> tuple[int, int, str]:
    pid, start, boot = handle.split(":", 3)[:3]
    return int(pid), int(start), boot


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; the name before them may hold blanks and brackets."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def _start_time(pid: int) -> int:
    """When the process started, in clock ticks after boot; with the pid and the boot it names one process for ever."""
    try:
        return int(_stat(pid)[19])
    except (OSError, IndexError):
        return 0


def _alive(pid: int, start: int, boot: str) -> bool:
    if boot != _boot_id():
        return False
    try:
        fields = _stat(pid)
    except OSError:
        return False
    return fields[0] not in "ZX" and int(fields[19]) == start


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _kill_leftovers(key: str) -> None:
    """SIGKILL to every process that carries the task's key, until none is left (a fork may outrun one round)."""
    for _ in range(50):
        found = list(_carrying(key))
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _carrying(key: str) -> Iterator[int]:
    needle = f"{_KEY}={key}\0".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            environ = Path(entry.path, "environ").read_bytes()
            if needle in environ and _stat(int(entry.name))[0] not in "ZX":
                yield int(entry.name)
