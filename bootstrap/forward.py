"""What a script on Azure ML logs to its file store, sent on to the workspace while the script runs.

So metrics of R, Python and shell stand in the studio, and sweeps can choose by them; see `runner/tracking.py` for the store.
README.md beside this file tells what is promised. Standard library only, Python 3.8 syntax.
"""

import _signal as signal
import json
import os
import stat
import time

from logged import Store
from workspace import LaterError, RefusedError, Service

LOOK_S = 2.0  # between two looks at the store
LAST_S = 20.0  # after the script's end, for what is still to be sent; Azure's own limit leaves 30 s
PAUSE_MOST_S = 60.0  # between two tries while the service does not answer
BATCH, BATCH_BYTES = 1000, 1 << 19  # values in one request, and their bytes
PER_BATCH = {"metrics": BATCH, "params": 100, "tags": 100}  # what MLflow's API takes
REFUSED_MOST = 20  # values refused one by one, until we believe that nothing is wanted
RECORD_SIZE = 8192
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS, signal.SIGABRT}


def beside(job: dict, script: dict, record: str) -> None:
    """Forks. The child returns, to become the bootstrapper; this process forwards, passes on signals, and ends as it does.

    Returns at once, without a child, where there is nothing to forward to, or the script has a tracking server of its own.

    Args:
        job: Azure's environment (MLFLOW_TRACKING_URI, _TOKEN, MLFLOW_RUN_ID). script: that of the script.
        record: path of status.json, which may get one more warning at the end.
    """
    service = Service.of(job)
    folder = script.get("RUNNER_TRACKING", "")
    if service is None or not folder or not script.get("MLFLOW_TRACKING_URI", "").startswith("file:"):
        return
    # Blocked from here on, so that no cancel is lost on the way: the bootstrapper inherits that, and wants it so.
    waited = set(signal.valid_signals()) - FAULTS
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        child = os.fork()
    except OSError:
        return
    if child == 0:
        # A signal to the whole group reaches this process alone, which passes it on: the script sees it once.
        os.setpgid(0, 0)
    else:
        try:
            code = accompany(child, waited, Forwarder(Store(folder), service), record)
        except BaseException:  # whatever it is: the script goes on, and we end with it
            code = exit_code(os.waitpid(child, 0)[1])
        os._exit(code)


def accompany(child: int, waited: set, forwarder: "Forwarder", record: str) -> int:
    """Until the child has ended and the rest is sent; its exit code."""
    import threading

    thread = threading.Thread(target=forwarder.run, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        forwarder.trouble = "no thread could be started"
    status = None
    while status is None:
        info = signal.sigtimedwait(waited, 60.0)
        status = reaped(child)
        if status is None and info is not None and info.si_signo != signal.SIGCHLD and info.si_pid != os.getpid():
            os.kill(child, info.si_signo)
    forwarder.end()
    until = time.monotonic() + LAST_S + 1.0
    while thread.is_alive() and time.monotonic() < until:
        info = signal.sigtimedwait(waited, 0.05)
        if info is not None and info.si_signo in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            break  # a cancel must not wait for us
    warning = forwarder.warning()
    if warning:
        warn(record, warning)
    return exit_code(status)


def exit_code(status: int) -> int:
    """Of a wait status, as a shell has it."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def reaped(child: int):
    """The child's wait status once it has ended; orphans that came to us are let go."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def warn(record: str, text: str) -> None:
    """One more warning in a final record, in place; a record that is not ours to read, or full, stays as it is."""
    try:
        fd = os.open(record, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return
            fields = json.loads(os.pread(fd, RECORD_SIZE, 0).decode("ascii"))
            fields["warnings"].append(text)
            data = json.dumps(fields).encode("ascii")
            if fields["final"] is True and len(data) < RECORD_SIZE:
                os.pwrite(fd, data.ljust(RECORD_SIZE - 1) + b"\n", 0)
        finally:
            os.close(fd)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass


class Forwarder:
    """Sends what the store has, again and again, in a thread of its own."""

    def __init__(self, store: Store, service: Service) -> None:
        import threading

        self.store, self.service = store, service
        self.ending = threading.Event()
        self.until = None
        self.trouble, self.refused, self.behind = "", 0, False

    def end(self) -> None:
        """The script has ended: one last look, at once."""
        self.until = time.monotonic() + LAST_S
        self.ending.set()

    def warning(self) -> str:
        """What the record should say, or nothing."""
        if self.refused:
            return f"the workspace refused {self.refused} of the logged values ({self.trouble}); runner has them all"
        if self.behind or self.trouble:
            why = self.trouble or "there was no time left"
            return f"what was logged did not all reach the workspace ({why}); runner has it all"
        return ""

    def run(self) -> None:
        """Until `end`, and once after it. Whatever goes wrong is told by `warning`."""
        pause = LOOK_S
        try:
            while True:
                last = self.ending.wait(pause)
                try:
                    self.look()
                    pause = LOOK_S
                except LaterError as error:
                    self.trouble = str(error)
                    pause = min(PAUSE_MOST_S, max(error.wait or 0.0, pause * 2))
                    if last and time.monotonic() + min(pause, 2.0) < self.until:
                        time.sleep(min(pause, 2.0))
                        continue
                if last:
                    return
        except RefusedError as error:
            self.trouble, self.behind = str(error), True
        except Exception as error:
            self.trouble, self.behind = f"{type(error).__name__}: {error}", True

    def look(self) -> None:
        """Sends all that is new. Raises LaterError and RefusedError."""
        self.service.renew()
        self.store.complete = self.until is not None
        self.behind = True
        batch, marks, count, size = {}, {}, 0, 0
        for kind, entry, path, mark in self.store.new():
            if self.until is not None and time.monotonic() > self.until:
                raise LaterError("there was no time left")
            size += len(entry["key"]) + len(str(entry["value"])) + 60
            batch.setdefault(kind, []).append(entry)
            marks[path] = mark
            count += 1
            if count >= BATCH or size >= BATCH_BYTES or len(batch[kind]) >= PER_BATCH[kind]:
                self.deliver(batch)
                self.store.seen.update(marks)
                batch, marks, count, size = {}, {}, 0, 0
        if batch:
            self.deliver(batch)
            self.store.seen.update(marks)
        self.behind = False
        if not self.refused:
            self.trouble = ""

    def deliver(self, batch: dict) -> None:
        """Sends a batch; of one that the service will not have, all but the values that it is about."""
        try:
            self.service.send(batch)
        except RefusedError as error:
            if not error.of_content:
                raise
            entries = [(kind, entry) for kind, found in batch.items() for entry in found]
            if len(entries) == 1:
                self.refused += 1
                self.trouble = f"{entries[0][1]['key'][:80]}: {error}"
                if self.refused >= REFUSED_MOST:
                    raise
                return
            middle = len(entries) // 2
            for half in (entries[:middle], entries[middle:]):
                part = {}
                for kind, entry in half:
                    part.setdefault(kind, []).append(entry)
                self.deliver(part)
