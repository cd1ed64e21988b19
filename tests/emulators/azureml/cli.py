"""The emulator's command: `python -m tests.emulators.azureml start|stop|env|status --state DIR`."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""From which `-m tests.emulators.azureml` is found."""
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_START_S, _STOP_S = 90.0, 90.0


def main(argv: list[str] | None = None) -> int:
    """0: done. 1: it is not running, or does not start."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.azureml", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--state", type=Path, required=True, help="folder that everything is kept in")
        if name == "start":
            command.add_argument("--detach", action="store_true", help="in the background; returns when it is ready")
            command.add_argument(
                "--until", type=int, metavar="PID", help="end when that process is gone, however it went"
            )
        if name == "stop":
            command.add_argument(
                "--keep-jobs", action="store_true", help="containers go on, and the next start finds them"
            )
    given = parser.parse_args(argv)
    folder: Path = given.state.resolve()
    match given.command:
        case "start":
            return _detach(folder, given.until) if given.detach else _serve(folder, given.until)
        case "stop":
            return _stop(folder, signal.SIGHUP if given.keep_jobs else signal.SIGTERM)
        case "env":
            return _env(folder)
        case _:
            return _status(folder)


_COMMANDS = {
    "start": "start it and print what to export",
    "stop": "end it and the containers of its jobs",
    "env": "print what to export",
    "status": "whether it runs, as JSON",
}


def _serve(folder: Path, until: int | None) -> int:
    """In the foreground, until SIGTERM, SIGINT or (jobs go on) SIGHUP, or until that process is gone."""
    for name in list(os.environ):
        if name.lower() in _PROXIES:
            del os.environ[name]  # its own way to the blobs is never through a proxy
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _locked(folder)
    if lock is None:
        sys.stderr.write(f"an emulator runs on {folder} already, process {pid_of(folder)}\n")
        return 1
    (folder / "env.sh").unlink(missing_ok=True)
    (folder / "pid").write_text(str(os.getpid()))
    from tests.emulators.azureml.emulator import Emulator

    asyncio.run(_run(Emulator(folder), until))
    (folder / "pid").unlink(missing_ok=True)
    return 0


async def _run(emulator: object, until: int | None) -> None:
    from tests.emulators.azureml.emulator import Emulator

    assert isinstance(emulator, Emulator)
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(number: int) -> None:
        if not ended.done():
            ended.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    if until is not None:
        _at_the_end_of(until, end)
    await emulator.start()
    sys.stdout.write((emulator.folder / "env.sh").read_text())
    sys.stdout.flush()
    await emulator.stop(keep_jobs=await ended == signal.SIGHUP)


def _at_the_end_of(pid: int, end: Callable[[int], None]) -> None:
    """A test run that is killed stops nothing itself."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        end(signal.SIGTERM)
    else:
        asyncio.get_running_loop().add_reader(process, end, signal.SIGTERM)


def _detach(folder: Path, until: int | None) -> int:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "env.sh").unlink(missing_ok=True)
    with (folder / "emulator.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.emulators.azureml", "start", "--state", str(folder),
             *(["--until", str(until)] if until is not None else [])],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + _START_S
    while not (folder / "env.sh").exists() or not (folder / "env.sh").read_text().endswith("\n"):
        if process.poll() is not None or time.monotonic() > end:
            sys.stderr.write((folder / "emulator.log").read_text("utf-8", "replace")[-4000:])
            return 1
        time.sleep(0.05)
    return _env(folder)


def _stop(folder: Path, how: signal.Signals) -> int:
    """Returns when the process is gone, not before: its lock, ports and blobs are free then."""
    pid = pid_of(folder)
    if pid is None:
        sys.stderr.write(f"no emulator runs on {folder}\n")
        return 1
    os.kill(pid, how)
    end = time.monotonic() + _STOP_S
    while pid_of(folder) == pid:
        if time.monotonic() > end:
            sys.stderr.write(f"process {pid} does not end\n")
            return 1
        time.sleep(0.05)
    return 0


def _env(folder: Path) -> int:
    if pid_of(folder) is None or not (folder / "env.sh").exists():
        sys.stderr.write(f"no emulator runs on {folder}\n")
        return 1
    sys.stdout.write((folder / "env.sh").read_text())
    return 0


def _status(folder: Path) -> int:
    pid = pid_of(folder)
    sys.stdout.write(json.dumps({"state": str(folder), "running": pid is not None, "pid": pid}) + "\n")
    return 0 if pid is not None else 1


def _locked(folder: Path, wait: float = 30) -> int | None:
    """The lock of the folder, which a process that is just ending gives back; None: another keeps it."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                os.close(handle)
                return None
            time.sleep(0.05)
        else:
            return handle


def pid_of(folder: Path) -> int | None:
    """Of the process that holds the lock."""
    handle = _locked(folder, wait=0) if (folder / "lock").exists() else None
    if handle is not None or not (folder / "lock").exists():
        if handle is not None:
            os.close(handle)
        return None
    with suppress(OSError, ValueError):
        return int((folder / "pid").read_text())
    return None
