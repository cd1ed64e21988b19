"""One process per live run: it holds the run's lock, drives the engine, and outlives terminal, shell and command.

Whoever starts it takes the lock first and hands it over, so that two are never started. It is free the moment the
supervisor dies, however it dies, and any later command that meets the run then starts another.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runner import verdict
from runner.backends import open_backend
from runner.engine.loop import Engine
from runner.errors import RunnerError
from runner.store import Store, close_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.backends.base import Backend
    from runner.store import RunRow


_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def launch(store: Store, run: RunRow, lock: int, secrets: Mapping[str, str] | None) -> int:
    """Start the run's supervisor, detached, and hand it the lock.

    Args:
        lock: descriptor that holds the run's lock; closed here in any case.
        secrets: values of the step's secrets; None when they are not known any more. They travel through memory or a
            pipe, never through argv, environment or a file.

    Returns:
        A descriptor that reads end-of-file when the supervisor is gone.
    """
    gone, held = os.pipe2(os.O_CLOEXEC)
    try:
        if threading.active_count() == 1:
            _fork(store, run.name, lock, held, secrets)
        else:
            _spawn(store, run.name, lock, held, secrets)
    except BaseException:
        os.close(gone)
        raise
    finally:
        os.close(lock)
        os.close(held)
    return gone


def ensure(store: Store, run: RunRow) -> None:
    """Give a live run a supervisor if it has none. Its secrets, if any, are lost with the one that died."""
    run = store.root_of(run)
    if run.status.terminal:
        return
    if not store.folder(run.name).root.is_dir():
        _end(store, run, f"its folder {store.folder(run.name).root} is gone", run.attempts)
        return
    lock = store.lock(run.name)
    if lock is None:
        return
    if store.get(run.name).status.terminal:  # ended between our look and our lock
        os.close(lock)
        return
    os.close(launch(store, run, lock, None))


def _fork(store: Store, name: str, lock: int, held: int, secrets: Mapping[str, str] | None) -> None:
    """Quick (3 ms, everything is imported already), and only sound in a process with one thread."""
    close_all()
    sys.stdout.flush()
    sys.stderr.flush()
    # Ctrl-C goes to the child too until it has a session of its own, and would end it.
    held_back = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, held_back)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        _detach(store, name, keep=(lock, held))
        gc.freeze()  # looking for garbage in what it shares with its parent would copy it
        supervise(store.home, name, secrets)
    finally:
        os._exit(0)


def _spawn(store: Store, name: str, lock: int, held: int, secrets: Mapping[str, str] | None) -> None:
    """From a process with threads (a notebook), where a fork could copy a locked lock."""
    with store.folder(name).supervisor_log.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "runner.supervisor", str(store.home), name],
            stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, pass_fds=(lock, held), cwd="/",
        )  # fmt: skip
    assert child.stdin is not None  # noqa: S101 - PIPE
    with child.stdin:
        child.stdin.write(json.dumps(None if secrets is None else dict(secrets)).encode())
    threading.Thread(target=child.wait, daemon=True).start()  # reap it when its time comes


def _detach(store: Store, name: str, keep: tuple[int, int]) -> None:
    """Let go of the terminal, the pipes and the folder of whoever started us."""
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(store.folder(name).supervisor_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    low, high = sorted(keep)
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
    for number in _STOPS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)


def supervise(home: Path, name: str, secrets: Mapping[str, str] | None) -> None:
    """Drive the run to its end. A fault of ours ends the run as a PlatformError rather than never."""
    store = Store(home)
    run = store.get(name)
    try:
        backend = open_backend(run.backend, store, store.folder(name).read_target())
        try:
            Engine(store, run, backend, secrets, _publish).drive()
        except Exception:
            _abandon(store, run, backend)
            raise
        finally:
            backend.close()
    except Exception as error:  # noqa: BLE001 - the last line of defence; the traceback is kept
        import traceback

        traceback.print_exc()
        text = error.message if isinstance(error, RunnerError) else f"{type(error).__name__}: {error}"
        _end(store, run, text, max(1, store.get(name).attempts))


def _publish(output: Path, target: str) -> None:
    """Copy what a step left to where its job wants it; that the place may be written to was looked at before."""
    from runner import data

    place = data.Place(target, Path(target)) if target.startswith("/") else data.Place(target, url=target)
    data.publish(output, place, lambda text: print(text, file=sys.stderr))


def _abandon(store: Store, run: RunRow, backend: Backend) -> None:
    """Leave nothing running behind a run that we can no longer follow."""
    with suppress(RunnerError, OSError):
        for part in (run, *(row for row in store.begun(run) if not row.status.terminal)):
            for attempt in store.attempts(part):
                if attempt.handle is not None and attempt.outcome is None:
                    backend.cancel(attempt.handle, force=True)
                    backend.remove(attempt.handle)


def _end(store: Store, run: RunRow, fault: str, attempts: int) -> None:
    """End a run that cannot be driven, and before it all its steps."""
    outcome = verdict.internal_fault(fault)
    store.end_children(run, outcome)
    store.end(run, outcome, attempts=attempts)


def main() -> None:
    """Entry of a spawned supervisor: `python -m runner.supervisor HOME NAME`, secrets as JSON on stdin."""
    secrets = json.load(sys.stdin)
    supervise(Path(sys.argv[1]), sys.argv[2], secrets)
    sys.stderr.flush()
    os._exit(0)  # as where it was forked: a copy that hangs and was given up must not be waited for


if __name__ == "__main__":
    main()
