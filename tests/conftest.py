"""Fixtures of every suite: a run store of the test's own, the command as a process, and the proof that nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.azureml.fixture import azureml, azureml_service
from tests.forking import Forks
from tests.patience import PATIENCE

# One emulator on each worker, for all suites that take it; where all that it knows is looked at, a module has its own.
__all__ = ["azureml", "azureml_service"]

EVERYTHING = "RUNNER_TEST_EVERYTHING" in os.environ
"""`make nightly`: also what repeats a thing seen already, with other numbers."""
ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 60.0 * PATIENCE

# A shell that starts us in the background has Ctrl-C ignored, and that is inherited; the commands under test must hear it.
with suppress(ValueError):  # a worker's second thread
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Done:
    """What a finished command left: exit code and both streams, as bytes and as text."""

    code: int
    out_bytes: bytes
    err: str

    @property
    def out(self) -> str:
        return self.out_bytes.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        return json.loads(self.out_bytes)


class Cli:
    """The `runner` command: a process of its own, with the test's run store.

    forks: what to fork a command from that nothing is sent to meanwhile; None: each is started as a user does.
    """

    def __init__(self, home: Path, cwd: Path, forks: Forks | None = None) -> None:
        self.home, self.cwd, self._forks = home, cwd, forks
        self.env = {**os.environ, "RUNNER_HOME": str(home), "NO_COLOR": "1", "PYTHONWARNINGS": "error"}
        self.env.pop("RUNNER_TEST_KEEP", None)

    def argv(self, *args: str | Path) -> list[str]:
        return [sys.executable, "-m", "runner", *(str(arg) for arg in args)]

    def __call__(
        self, *args: str | Path, env: dict[str, str] | None = None, timeout: float = 120, stdin: bytes | None = None
    ) -> Done:
        environment = {**self.env, **(env or {})}
        if self._forks is not None and stdin is None and self._forks.take(environment):
            code, out, err = self._forks.run([str(arg) for arg in args], self.cwd, environment, timeout * PATIENCE)
            return Done(code, out, err.decode("utf-8", "replace"))
        done = subprocess.run(
            self.argv(*args), cwd=self.cwd, env=environment, capture_output=True, timeout=timeout * PATIENCE,
            check=False, input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))

    def start(self, *args: str | Path, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """The command in the background; the caller waits for it."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(
            self.argv(*args), cwd=self.cwd, env={**self.env, **(env or {})}, stdin=subprocess.DEVNULL, **streams
        )

    def submit(self, *args: str | Path) -> str:
        """`runner submit` without --wait; the run's name."""
        done = self("submit", *args)
        assert done.code == 0, done.err
        return done.out.strip()

    def row(self, name: str) -> dict[str, Any]:
        data = self("show", name, "--json").json
        assert isinstance(data, dict)
        return data


def without_python_s_own(err: bytes) -> bytes:
    """What an interrupted command wrote, without what Python itself says of an interruption that meets it in a destructor
    or while it imports: with warnings on, as in tests, that its file was left open. Users see nothing of it."""
    return re.sub(
        rb"Exception ignored in: .*?\n(?:ResourceWarning|KeyboardInterrupt)[^\n]*\n", b"", err, flags=re.DOTALL
    )


@pytest.fixture
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A run store of the test's own. At the end every run must end, and no container or process may be left."""
    if "where" in request.fixturenames:
        request.getfixturevalue("where")  # what it puts into the environment is needed to the end
    path = tmp_path / "home"
    yield path
    if not (path / "runner.db").exists():
        return
    from runner.run import Run
    from runner.store import Store

    store = Store(path)
    for row in store.live():
        Run(store, row.name).cancel("test")
    for row in store.live():
        Run(store, row.name).wait(DEADLINE_S)
    eventually(lambda: not _supervised(store), "every supervisor is gone")
    left = _containers(store.id)
    store.close()
    assert not left, f"containers left behind: {left}"


def _supervised(store: Any) -> list[str]:
    """Runs whose supervisor still lives (it goes on for a moment after the end is recorded)."""
    live = []
    for row in store.list():
        lock = store.lock(row.name)
        if lock is None:
            live.append(row.name)
        else:
            os.close(lock)
    return live


def _containers(store_id: str) -> list[str]:
    from runner.docker_api.containers import Engine
    from runner.errors import UnavailableError

    engine = Engine()
    try:
        return [found["Names"][0] for found in engine.labelled(f"runner.store={store_id}")]
    except UnavailableError:
        return []
    finally:
        engine.close()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty folder to put scripts into; the commands' working directory."""
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """What commands are forked from, on each worker of the test run."""
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def cli(home: Path, work: Path, forks: Forks) -> Cli:
    return Cli(home, work, forks)


@pytest.fixture(scope="session")
def image() -> str:
    """A small image of runner's own builder: Python, bash, no R. Built once; its content hash finds it again."""
    if given := os.environ.get("RUNNER_TEST_IMAGE"):
        return given
    from runner.builder import build

    return build(ROOT / "tests" / "images" / "small" / "libs.yaml").tag


@pytest.fixture(scope="session")
def python_r() -> str:
    """The default Python + R image."""
    from runner.builder import build, default_libs

    return build(default_libs()).tag


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def where(request: pytest.FixtureRequest) -> list[str]:
    """The options that choose a backend: every test that takes it runs on each."""
    if request.param == "docker":
        return ["--backend", "docker", "--image", request.getfixturevalue("image")]
    return ["--backend", str(request.param)]


def eventually(condition: Callable[[], object], what: str, deadline: float = DEADLINE_S) -> None:
    """Wait until the condition holds, and fail by name when it does not within `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline:g} s: {what}")
        time.sleep(0.02)


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., None]:
    return eventually


@pytest.fixture
def script(work: Path) -> Callable[[str, str], Path]:
    """Write a script into the work folder: `script("a.py", "print(1)")`."""

    def write(name: str, text: str) -> Path:
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write
