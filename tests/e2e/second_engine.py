"""A Docker engine of the test's own, which can be killed and started again without harm to the machine's own.

Its own bridge (never `--bridge=none`: that deletes the first engine's), no rules in the firewall, its own data, socket
and containerd. As root only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

_START_S = 40.0


class SecondEngine:
    """One engine below `root`. `host` is what DOCKER_HOST has to be."""

    def __init__(self, root: Path, number: int) -> None:
        self.root = root
        self.bridge = f"rt{os.getpid() % 100000}"[:15]
        self.socket = root / "d.sock"
        self.host = f"unix://{self.socket}"
        self._address = f"10.{200 + number % 50}.{number % 250}.1/24"
        self._process: subprocess.Popen[bytes] | None = None
        (root / "daemon.json").write_text("{}")  # the machine's own settings are not for this engine
        subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
        subprocess.run(["ip", "addr", "add", self._address, "dev", self.bridge], check=True)
        subprocess.run(["ip", "link", "set", self.bridge, "up"], check=True)

    def start(self) -> None:
        """Start it, and wait until it answers. After a kill, containerd may need a second try."""
        for _ in range(3):
            self._launch()
            end = time.monotonic() + _START_S
            while time.monotonic() < end:
                if self.docker("version", check=False):
                    return
                assert self._process is not None
                if self._process.poll() is not None:
                    break
                time.sleep(0.1)
            self.kill()
        raise AssertionError("the second engine does not start:\n" + (self.root / "log").read_text()[-3000:])

    def _launch(self) -> None:
        for name in ("pid", "d.sock"):
            (self.root / name).unlink(missing_ok=True)
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd", "--host", self.host, "--data-root", str(self.root / "data"), "--exec-root",
                    str(self.root / "exec"), "--pidfile", str(self.root / "pid"), "--bridge", self.bridge,
                    "--iptables=false", "--ip-masq=false", "--config-file", str(self.root / "daemon.json"),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def docker(self, *args: str, check: bool = True) -> str:
        """The docker command against this engine; its stdout, "" where it failed and need not succeed."""
        done = subprocess.run(["docker", "--host", self.host, *args], capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout if done.returncode == 0 else ""

    def load(self, image: str) -> None:
        """Copy an image from the machine's engine; its id stays the same."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as save:
            subprocess.run(
                ["docker", "--host", self.host, "load"], stdin=save.stdout, check=True, stdout=subprocess.DEVNULL
            )
        assert save.returncode == 0

    def kill(self) -> None:
        """kill -9 of the engine and its containerd: the containers go on, and nobody watches them.

        The next one that starts asks them to end (SIGTERM), unless it is set to live-restore.
        """
        self._end(signal.SIGKILL)
        self._end_containerd()

    def crash(self) -> None:
        """kill -9 of everything, the containers too: what a machine that loses its power leaves."""
        containers = self.docker("ps", "-q").split()
        pids = self.docker("inspect", "--format", "{{.State.Pid}}", *containers, check=False).split()
        self.kill()
        self._end_shims()
        for pid in map(int, pids):
            if pid:  # 0: it has just ended; to a signal that would mean our own process group
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: it stops its containers and ends."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def _end_containerd(self) -> None:
        with suppress(OSError, ValueError):
            pid = int((self.root / "exec" / "containerd" / "containerd.pid").read_text())
            if str(self.root).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                end = time.monotonic() + 10
                while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
                    time.sleep(0.02)

    def close(self) -> None:
        """End everything and remove it."""
        if self._process is not None:
            with suppress(AssertionError):
                if ids := self.docker("ps", "-aq", check=False).split():
                    self.docker("rm", "-f", *ids, check=False)
        self._end(signal.SIGTERM)
        self._end_containerd()
        self._end_shims()
        for line in Path("/proc/self/mountinfo").read_text().splitlines()[::-1]:
            if (place := line.split()[4]).startswith(f"{self.root}/"):
                subprocess.run(["umount", "-l", place], check=False)
        subprocess.run(["ip", "link", "delete", self.bridge], check=False)
        shutil.rmtree(self.root, ignore_errors=True)

    def _end_shims(self) -> None:
        """What a killed engine left running below it, by the name of our own folder in their command line."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if f"{self.root}/exec".encode() in (entry / "cmdline").read_bytes():
                        os.kill(int(entry.name), signal.SIGKILL)
