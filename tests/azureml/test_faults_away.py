"""The laptop away: asleep, off, its supervisor killed, its disk full. The job goes on, and all of it is had afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.azureml.conftest import Emulator
from tests.azureml.runs import SAY, pulled, there
from tests.conftest import eventually
from tests.emulators.azureml.fixture import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.azureml.conftest import Bench
    from tests.azureml.runs import There

__all__ = ["pulled", "there"]
pytestmark = pytest.mark.docker


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator of the test's own, to be started again meanwhile."""
    with running(tmp_path / "emulator") as service:
        for name, value in service.env.items():
            monkeypatch.setenv(name, value)
        yield Emulator(service)
        assert not service.admin.unhandled()


class TestAsleep:
    """Takes `own` for `emulator`."""

    @pytest.fixture
    def emulator(self, own: Emulator) -> Emulator:
        return own

    @pytest.mark.parametrize("kind", ["command", "pipeline"])
    def test_for_the_length_of_a_job(self, there: There, kind: str) -> None:
        """The service is another process afterwards, too."""
        service = there.emulator.service
        service.admin.switch(queue_s=2)
        there.submit(kind)
        eventually(lambda: bool(there.jobs()), "the job is there")
        asleep = there.supervisor
        assert asleep is not None
        os.kill(asleep, signal.SIGSTOP)
        try:
            there.ended_there()
            service.stop(keep_jobs=True)
            service.start()
        finally:
            os.kill(asleep, signal.SIGCONT)
        assert there.wait().code == 0
        there.whole(kind)


@pytest.mark.parametrize("kind", ["command", "pipeline"])
def test_killed_and_taken_up_long_after_the_end(there: There, kind: str) -> None:
    """How long it ran is what the service says of it, not how long nobody looked."""
    there.script(f"sleep 4\n{SAY}")
    there.submit(kind)
    there.until("Running")
    there.kill()
    there.ended_there()
    _a_day_passes(there)
    assert there.wait().code == 0
    there.whole(kind)
    outcome = there.row.outcome
    assert outcome is not None
    assert outcome.elapsed_s is not None
    assert outcome.elapsed_s < 600


def _a_day_passes(there: There) -> None:
    """For the store; the service is asked for the length alone."""
    from runner.store import Store

    store = Store(there.cli.home)
    try:
        with store.transaction() as db:
            db.execute("UPDATE runs SET created = created - 86400, started = started - 86400")
    finally:
        store.close()


_MIB = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(path)], check=True)
    yield path
    eventually(lambda: subprocess.run(["umount", str(path)], check=False, capture_output=True).returncode == 0,
               "nothing holds the file system")  # fmt: skip


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")
def test_a_disk_that_is_full_while_log_and_outputs_come(bench: Bench, small: Path) -> None:
    """Neither is cut, and nothing is told as the end, until there is room."""
    from runner.backends.base import Phase
    from runner.model import Reason

    bench.tmp = small
    task = bench.task(
        "import os, sys\nfor n in range(8):\n    sys.stdout.write(chr(97 + n) * ((1 << 20) - 1) + '\\n')\n"
        "open('outputs/much', 'wb').write(b'x' * (8 << 20))\n"
    )
    handle = bench.backend.submit(task)
    bench.until(handle, Phase.ENDED)
    seen = False
    end = time.monotonic() + 30
    while not seen:
        assert time.monotonic() < end
        try:
            bench.backend.finish(handle)
        except OSError as error:
            seen = error.errno == 28
    assert not (task.box.work / "outputs" / "much").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
    eventually(lambda: _finished(bench, handle), "it comes once there is room")
    assert bench.outcome(task, handle).reason is Reason.COMPLETED
    text = task.log.read_bytes()
    assert text == b"".join(bytes([97 + n]) * (_MIB - 1) + b"\n" for n in range(8))
    assert (task.box.work / "outputs" / "much").stat().st_size == 8 * _MIB


def _finished(bench: Bench, handle: str) -> bool:
    try:
        bench.backend.finish(handle)
    except OSError:
        return False
    return True


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")
def test_a_disk_that_is_full_while_a_pipeline_is_sent(there: There, small: Path) -> None:
    """It waits, as a single job does, and is sent once there is room."""
    (there.cli.cwd / "code" / "much").write_bytes(os.urandom(3 * _MIB))
    home = small / "home"
    there.cli.env["RUNNER_HOME"] = str(home)
    object.__setattr__(there.cli, "home", home)
    admin = there.emulator.admin
    admin.fault(
        method="POST", path="/oauth2/v2.0/token", skip=1, pause=True
    )  # the last request before the code is copied
    ballast = small / "ballast"
    with there.submitting("pipeline"):
        held = admin.paused()
        with ballast.open("wb") as file:
            status = os.statvfs(small)
            os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - 8192))
        admin.release(held["n"])
        eventually(lambda: len(there.emulator.requests("/jobs/r", "GET")) > 1, "it tries again")
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
    assert there.wait().code == 0
    there.whole("pipeline")
