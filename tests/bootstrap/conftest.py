"""The harness: runs the real bootstrap.py as a real process, as PID 1 of a namespace of its own or as a plain process.

Every record that passes through here is checked against runner's model, so that the two can never drift apart.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

from runner.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

FILE = Path(__file__).resolve().parents[2] / "bootstrap" / "bootstrap.py"
# Another interpreter can be named, to see that the oldest supported one runs it too.
PYTHON = os.environ.get("RUNNER_TEST_BOOTSTRAP_PYTHON", sys.executable)
OWN_PID1 = (shutil.which("unshare") or "unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
DEADLINE_S = 30.0
T = TypeVar("T")


def wait_for(probe: Callable[[], T | None], what: str) -> T:
    """The first true value of `probe`, looked at every 5 ms; fails the test after DEADLINE_S."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        value = probe()
        if value:
            return value
        time.sleep(0.005)
    pytest.fail(f"waited {DEADLINE_S} s in vain for {what}")


@dataclass
class Result:
    """What a finished bootstrapper left behind."""

    code: int
    record: dict[str, Any]
    stdout: bytes
    stderr: bytes

    def row(self) -> tuple[Any, ...]:
        """(status, reason, exit_code, signal, PX): the columns of the mapping. PX is seen twice, and must agree."""
        assert self.record["process_exit"] == self.code
        return tuple(self.record[name] for name in ("status", "reason", "exit_code", "signal", "process_exit"))


class Started:
    """A bootstrapper that is running. `pid` is its id as seen from here, also where it is PID 1 inside."""

    def __init__(self, process: subprocess.Popen[bytes], status: Path, mode: str) -> None:
        self.process, self.status, self.mode = process, status, mode

    @property
    def pid(self) -> int:
        if self.mode == "plain":
            return self.process.pid
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(wait_for(lambda: children.read_text().split()[:1], "the child of unshare")[0])

    def wait_record(self) -> None:
        """Until the bootstrapper has begun: from here on no signal is lost."""
        wait_for(self.status.exists, "the first record")

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def finish(self) -> Result:
        stdout, stderr = self.process.communicate(timeout=DEADLINE_S)
        text = self.status.read_bytes() if self.status.is_file() else b""
        record = json.loads(text) if text else {}
        if record:
            assert len(text) == 8192
            assert text.endswith(b"\n")
            assert record["contract"] == 1
            assert record["final"] is True
            outcome = Outcome.from_json(record)
            assert outcome.status == record["status"]
            assert outcome.exit_code is None or outcome.signal is None
        return Result(self.process.returncode, record, stdout, stderr)


class Start(Protocol):
    """Starts a bootstrapper in the test's folder."""

    def __call__(
        self,
        *command: str,
        options: Sequence[str] = (),
        mode: str = "plain",
        env: Mapping[str, str] | None = None,
        status: Path | None = None,
        python: str = PYTHON,
        **popen: Any,
    ) -> Started: ...


class Run(Protocol):
    """Like Start, and waits for the end."""

    def __call__(self, *command: str, **options: Any) -> Result: ...


def namespaces_work() -> bool:
    """Whether a PID namespace can be made here."""
    return (
        Path(OWN_PID1[0]).exists()
        and subprocess.run([*OWN_PID1, "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.fixture(params=["plain", "pid1"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both ways in which it runs: under somebody else's init, and as PID 1."""
    chosen: str = request.param
    if chosen == "pid1" and not namespaces_work():
        pytest.skip("this host lets us make no PID namespace")
    return chosen


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The script's working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that runs bootstrap.py."""
    return PYTHON


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bootstrap.pyc with its companions in a folder of its own, as images have it in /opt/runner."""
    folder = tmp_path_factory.mktemp("opt") / "runner"
    shutil.copytree(FILE.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True)"
    subprocess.run([PYTHON, "-c", code, str(folder / "bootstrap.py"), str(folder / "bootstrap.pyc")], check=True)
    (folder / "bootstrap.py").unlink()
    return folder / "bootstrap.pyc"


@pytest.fixture
def start(tmp_path: Path, work: Path, installed: Path) -> Iterator[Start]:
    """The function that starts a bootstrapper; what still runs at the test's end is killed."""
    running: list[subprocess.Popen[bytes]] = []
    numbers = itertools.count()  # several threads of one test start bootstrappers

    def run(
        *command: str,
        options: Sequence[str] = (),
        mode: str = "plain",
        env: Mapping[str, str] | None = None,
        status: Path | None = None,
        python: str = PYTHON,
        **popen: Any,
    ) -> Started:
        record = status or tmp_path / f"status-{next(numbers)}.json"
        wrapper, file = (OWN_PID1, installed) if mode == "pid1" else ((), FILE)
        argv = [*wrapper, python, "-I", "-S", str(file), "--status", str(record), *options, "--", *command]
        settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": work, "env": env}
        process = subprocess.Popen(argv, **{**settings, **popen})
        running.append(process)
        return Started(process, record, mode)

    yield run
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture
def run(start: Start) -> Run:
    """The function that runs a bootstrapper to its end."""

    def to_end(*command: str, **options: Any) -> Result:
        return start(*command, **options).finish()

    return to_end


@pytest.fixture(scope="session")
def module() -> ModuleType:
    """bootstrap.py imported, for its pure parts."""
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", FILE)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def until() -> Callable[[Callable[[], Any], str], Any]:
    """`wait_for`, for the test files (they import nothing from here)."""
    return wait_for


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Makes v1 cgroups: `cgroup("memory", limit_in_bytes=…)` gives the folder. Skips where the host does not let us."""
    made: list[Path] = []

    def make(controller: str, **settings: int) -> Path:
        folder = Path("/sys/fs/cgroup") / controller / f"runner-test-{os.getpid()}-{tmp_path.name}-{len(made)}"
        try:
            folder.mkdir()
            made.append(folder)
            for name, value in settings.items():
                (folder / f"{controller}.{name}").write_text(str(value))
        except OSError as error:
            pytest.skip(f"no v1 {controller} cgroup can be made on this host: {error}")
        return folder

    yield make
    for folder in made:
        wait_for(lambda folder=folder: remove_cgroup(folder), f"{folder} to be empty")  # type: ignore[misc]


def remove_cgroup(folder: Path) -> bool:
    """Whether it could be removed; the kernel says EBUSY for a moment after the last process ended."""
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts: `mount("name", "-t", "tmpfs", "-o", "size=64k", "tmpfs")` gives the folder. Unmounted afterwards."""
    mounted: list[Path] = []

    def make(name: str, *options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"nothing can be mounted on this host: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in reversed(mounted):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(
    params=["a 0", 'a"=0"', "a'; echo foo", "größe-数-🙂", "-leading", "$(echo x)`y`", "per%(script)s{cent}"]
)
def hostile(request: pytest.FixtureRequest) -> str:
    """File names that break what is put together as text."""
    name: str = request.param
    return name
