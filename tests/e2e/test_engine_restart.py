"""An engine that is killed, stopped or away while runs are going: nothing is taken for what it is not, nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import eventually
from tests.contract.helpers import stored
from tests.e2e.second_engine import SecondEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Cli

pytestmark = [pytest.mark.docker, pytest.mark.slow]
own_engine = pytest.mark.skipif(os.getuid() != 0 or not shutil.which("dockerd"), reason="needs root and dockerd")

_SLEEP = "import time\nprint('began', flush=True)\ntime.sleep(300)\n"
_SECOND_TRY = (
    "import os, time\nprint('began', os.environ['RUNNER_ATTEMPT'], flush=True)\n"
    "if os.environ['RUNNER_ATTEMPT'] == '1': time.sleep(300)\n"
)
_GATED = (
    "import os, sys, time\nprint('began', flush=True)\n"
    "while not os.path.exists(os.environ['RUNNER_INPUT_GATE'] + '/go'): time.sleep(0.01)\nsys.exit(5)\n"
)
_POLITE = (
    "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "print('began', flush=True)\ntime.sleep(300)\n"
)


@pytest.fixture(scope="module")
def engine(image: str) -> Iterator[SecondEngine]:
    """The engine, with the test image in it."""
    root = Path(tempfile.mkdtemp(prefix="rt-engine-"))
    engine = SecondEngine(root, os.getpid())
    try:
        engine.start()
        engine.load(image)
        yield engine
    finally:
        engine.close()


@pytest.fixture
def second(engine: SecondEngine, monkeypatch: pytest.MonkeyPatch) -> SecondEngine:
    """The engine as the one that runner talks to. Must be asked for before `cli`, so that it outlives the store."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    return engine


def _start(cli: Cli, image: str, script: Path, *options: str) -> str:
    return cli.submit(script, "--backend", "docker", "--image", image, "--grace", "2s", *options)


def _began(cli: Cli, name: str) -> bool:
    log = cli.home / "runs" / name / "attempts" / "1" / "log"
    return log.exists() and b"began" in log.read_bytes()


def _status(cli: Cli, name: str) -> str | None:
    row = stored(cli.home, name)
    return row.status.value if row else None


def _shown_away(cli: Cli, name: str) -> bool:
    return _status(cli, name) == "NotResponding"


def _shown_running(cli: Cli, name: str) -> bool:
    return _status(cli, name) == "Running"


def _all_began(cli: Cli, *names: str) -> None:
    for name in names:
        eventually(partial(_began, cli, name), f"{name} runs")
        # The script's first words may come before the engine's answer to its start.
        eventually(partial(_shown_running, cli, name), f"{name} is shown as running")


def _wait(cli: Cli, name: str) -> dict[str, Any]:
    (row,) = cli("wait", name, "--json", timeout=90).json
    assert isinstance(row, dict)
    return row


# An engine of one's own costs 10 to 20 s, and each worker of a parallel test run would make one: so few tests, and long.


@own_engine
def test_a_crash_is_shown_then_loses_the_runs_and_a_retry_cures_it(
    second: SecondEngine, cli: Cli, image: str, script: Callable[[str, str], Path]
) -> None:
    lost = _start(cli, image, script("sleep.py", _SLEEP))
    cured = _start(cli, image, script("second.py", _SECOND_TRY), "--retries", "1")
    _all_began(cli, lost, cured)
    second.crash()
    assert [_status(cli, name) for name in (lost, cured)] == ["Running", "Running"]
    # Away: refused at once for what is new, no end for what was there, no matter for other backends.
    done = cli("submit", script("a.py", "print('hi')\n"), "--backend", "docker", "--image", image)
    assert done.code == 9, done.err
    assert "no container engine answers" in done.err
    assert cli("submit", script("a.py", "print('hi')\n"), "--backend", "process", "--wait").code == 0
    for name in (lost, cured):
        eventually(partial(_shown_away, cli, name), "it is shown, after 30 s", deadline=60)
        row = cli.row(name)
        assert row["reason"] is None
        assert "no container engine answers" in row["message"]
    second.start()

    row = _wait(cli, lost)
    assert (row["status"], row["reason"], row["retryable"]) == ("Failed", "Lost", True)
    assert (row["exit_code"], row["signal"], row["process_exit"], row["origin"]) == (None, None, 125, "executor")
    row = _wait(cli, cured)
    assert (row["reason"], row["attempts"]) == ("Completed", 2)
    shown = cli.row(cured)
    assert [one["outcome"]["reason"] for one in shown["attempt_list"]] == ["Lost", "Completed"]
    assert cli("logs", cured, "--follow").out == "began 1\nbegan 2\n"
    eventually(lambda: second.docker("ps", "-aq") == "", "no container is left")


@own_engine
def test_an_engine_that_is_killed_or_stopped_asks_its_containers_to_end_and_the_records_tell_it(
    second: SecondEngine, cli: Cli, image: str, script: Callable[[str, str], Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    interrupted = _start(cli, image, script("sleep.py", _SLEEP))
    ended = _start(cli, image, script("gated.py", _GATED), "--input", f"gate={gate}")
    canceled = _start(cli, image, script("sleep.py", _SLEEP))
    _all_began(cli, interrupted, ended, canceled)
    second.kill()
    (gate / "go").touch()
    record = cli.home / "runs" / ended / "attempts" / "1" / "box" / "record" / "status.json"
    eventually(lambda: b'"final": true' in record.read_bytes(), "the script ends while the engine is away")
    assert cli("cancel", canceled).code == 0
    second.start()
    row = _wait(cli, interrupted)
    assert (row["status"], row["reason"], row["retryable"]) == ("Failed", "Interrupted", True)
    row = _wait(cli, ended)
    assert (row["reason"], row["exit_code"], row["origin"]) == ("NonZeroExit", 5, "script")
    assert _wait(cli, canceled)["status"] == "Canceled"

    names = [_start(cli, image, script("sleep.py", _SLEEP)), _start(cli, image, script("polite.py", _POLITE))]
    cured = _start(cli, image, script("second.py", _SECOND_TRY), "--retries", "1")
    _all_began(cli, *names, cured)
    second.stop()
    second.start()
    for name in names:
        row = _wait(cli, name)
        assert (row["status"], row["reason"], row["retryable"]) == ("Failed", "Interrupted", True)
        assert (row["exit_code"], row["process_exit"]) == (None, 125)
    assert _wait(cli, names[0])["signal"] == "SIGTERM"
    row = _wait(cli, cured)
    assert (row["reason"], row["attempts"]) == ("Completed", 2)
    eventually(lambda: second.docker("ps", "-aq") == "", "no container is left")


# -- on the machine's own engine --------------------------------------------------------------------------------------


def _container(name: str) -> str:
    done = subprocess.run(
        ["docker", "ps", "--quiet", "--filter", f"label=runner.run={name}"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_container_removed_by_somebody_else_is_lost_and_its_outputs_are_kept(
    cli: Cli, image: str, script: Callable[[str, str], Path]
) -> None:
    text = "import os\nos.mkdir('outputs/sub')\nopen('outputs/sub/kept', 'w').close()\n" + _SLEEP
    name = _start(cli, image, script("sleep.py", text))
    _all_began(cli, name)
    subprocess.run(["docker", "rm", "-f", _container(name)], check=True, capture_output=True)
    row = _wait(cli, name)
    assert row["reason"] in {"Lost", "Killed"}  # Killed where its death was seen before its removal
    assert row["retryable"] is True
    assert [one["path"] for one in cli.row(name)["outputs"]] == ["outputs/sub/kept"]
    for path in (cli.home / "runs" / name).rglob("*"):
        assert path.lstat().st_uid == os.getuid(), path


def test_a_container_killed_by_somebody_else_is_killed(
    cli: Cli, image: str, script: Callable[[str, str], Path]
) -> None:
    name = _start(cli, image, script("sleep.py", _SLEEP))
    _all_began(cli, name)
    subprocess.run(["docker", "kill", _container(name)], check=True, capture_output=True)
    row = _wait(cli, name)
    assert (row["reason"], row["signal"], row["process_exit"]) == ("Killed", "SIGKILL", 137)
    assert row["retryable"] is True
