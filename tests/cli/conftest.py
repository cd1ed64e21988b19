"""A terminal for the command, and what every test of the command line looks at."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Cli, Done

NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
PROCESS = ("--backend", "process")


def failed(done: Done, code: int, *texts: str) -> None:
    """The command failed as every error does: its code, `error: ...` on stderr, nothing on stdout, no traceback."""
    assert done.code == code, done.err
    lines = [line for line in done.err.splitlines() if not re.match(r"(backend|libs|image|note) ", line)]
    assert lines[0].startswith("error: "), done.err
    assert all(line.startswith("  ") for line in lines[1:]), done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    for text in texts:
        assert text in done.err


class Terminal:
    """A command on a terminal of its own: what it shows, and keys to press."""

    def __init__(self, cli: Cli, *args: str, env: dict[str, str] | None = None, stderr: bool = True) -> None:
        self.shown = b""
        environment = {**cli.env, "TERM": "xterm", **(env or {})}
        if "NO_COLOR" not in (env or {}):
            environment.pop("NO_COLOR")
        self._main, other = pty.openpty()
        self.process = subprocess.Popen(
            cli.argv(*args), cwd=cli.cwd, env=environment, stdin=other, stdout=other,
            stderr=other if stderr else subprocess.DEVNULL, start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - the tests have one thread
        )  # fmt: skip
        os.close(other)

    def expect(self, text: bytes, deadline: float = 60) -> None:
        """Wait until it shows the text."""
        end = time.monotonic() + deadline
        while text not in self.shown:
            assert self._read(end), f"{text!r} was not shown: {self.shown!r}"

    def _read(self, end: float) -> bool:
        if not select.select([self._main], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._main, 65536)
        except OSError:  # the other side is closed
            return False
        self.shown += data
        return bool(data)

    def send(self, keys: bytes) -> None:
        os.write(self._main, keys)

    def wait(self) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + 60
        while self._read(end):
            pass
        return self.process.wait(60)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._main)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(cli: Cli) -> Iterator[Callable[..., Terminal]]:
    """Start a command on a terminal."""
    opened = []

    def start(*args: str, env: dict[str, str] | None = None, stderr: bool = True) -> Terminal:
        opened.append(Terminal(cli, *args, env=env, stderr=stderr))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def hello(cli: Cli) -> str:
    """A script that says hello and its arguments."""
    (cli.cwd / "hello.sh").write_text('echo "hello $*"\n')
    return "hello.sh"
