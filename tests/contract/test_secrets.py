"""A secret reaches the script, and nothing else ever shows it."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import eventually
from tests.contract.helpers import no_secrets_left, pids

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.backends.base import Capabilities
    from tests.conftest import Cli
    from tests.contract.helpers import Api

_TEXT = (
    "import hashlib, os, time\n"
    "print('ready', hashlib.sha256(os.environ['TOKEN'].encode()).hexdigest(), flush=True)\n"
    "while not os.path.exists(os.environ['RUNNER_INPUT_GATE'] + '/go'): time.sleep(0.01)\n"
)


@pytest.fixture
def _passes_values(can: Capabilities) -> None:
    if not can.secrets:
        pytest.skip("this backend passes no secret's value: the job's variables are kept by the service")


def _shown_by_processes(value: bytes) -> list[int]:
    found = []
    for pid in pids():
        with suppress(OSError):
            if value in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def _files_with(value: bytes, root: Path) -> list[Path]:
    found = []
    for path in root.rglob("*"):
        with suppress(FileNotFoundError):  # of another test, or of SQLite, and gone meanwhile
            if path.is_file() and value in path.read_bytes():
                found.append(path)
    return found


def _shown_by_engine() -> str:
    """Everything that an engine tells of all its containers; empty where there is none."""
    with suppress(OSError):
        ids = subprocess.run(["docker", "ps", "-aq"], capture_output=True, text=True, check=False).stdout.split()
        return subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=False).stdout
    return ""


@pytest.mark.usefixtures("_passes_values")
def test_a_secret_is_seen_by_the_script_alone(
    cli: Cli, api: Api, where: list[str], script: Callable[[str, str], Path], tmp_path: Path
) -> None:
    import hashlib

    value = "s3cret-" + os.urandom(12).hex() + " 'ü\"$(x)"
    file = tmp_path / "token"
    file.write_text(value + "\n")
    gate = tmp_path / "gate"
    gate.mkdir()
    path = script("use.py", _TEXT)
    done = cli("submit", path, *where, "--secret", f"TOKEN=@{file}", "--input", f"gate={gate}", "--json")
    assert done.code == 0, done.err
    name = done.json["name"]
    eventually(lambda: b"\n" in api.log(name), "the script has started, and its line is whole")
    assert api.log(name).split()[1].decode() == hashlib.sha256(value.encode()).hexdigest()
    core = value.split()[0]
    shown = done.out + done.err + _shown_by_engine()
    for command in (("show", name, "--json"), ("show", name), ("list", "--json"), ("status", name, "--json")):
        again = cli(*command)
        shown += again.out + again.err
    assert core not in shown
    assert _files_with(core.encode(), api.home) == []
    assert _shown_by_processes(core.encode()) == []
    assert no_secrets_left(api.home) or not _files_with(core.encode(), Path("/dev/shm"))
    (gate / "go").touch()
    assert api.ended(name)["reason"] == "Completed"
    eventually(lambda: no_secrets_left(api.home), "the secrets' folder is gone")
    assert _files_with(core.encode(), api.home) == []


@pytest.mark.usefixtures("_passes_values")
def test_a_secret_from_the_environment_and_on_every_attempt(
    cli: Cli, where: list[str], script: Callable[[str, str], Path]
) -> None:
    text = "import os, sys\nprint(len(os.environ['TOKEN']))\nsys.exit(int(os.environ['RUNNER_ATTEMPT']) < 2)\n"
    options = ["--secret", "TOKEN", "--retries", "1", "--retry-on", "NonZeroExit", "--name", "it"]
    done = cli("submit", script("use.py", text), *where, *options, "--wait", env={"TOKEN": "12345"})
    assert (done.code, done.out) == (0, "5\n5\n"), done.err
    assert no_secrets_left(cli.home)


@pytest.mark.usefixtures("_passes_values")
def test_a_failed_start_leaves_no_secret(api: Api, script: Callable[[str, str], Path]) -> None:
    row = api.run(script("a.xyz", "x"), secrets={"TOKEN": "value"})
    assert row["reason"] == "UnsupportedScript"
    eventually(lambda: no_secrets_left(api.home), "the secrets' folder is gone")


def test_a_value_is_refused_where_it_could_be_seen(
    cli: Cli, can: Capabilities, where: list[str], script: Callable[[str, str], Path]
) -> None:
    if can.secrets:
        pytest.skip("this backend passes a secret's value unseen")
    done = cli("submit", script("a.py", ""), *where, "--secret", "TOKEN", env={"TOKEN": "never-5hown"})
    assert done.code == 6, done.err
    assert "TOKEN=keyvault:" in done.err
    assert "never-5hown" not in done.err
    assert cli("list", "--json").json == []


@pytest.mark.usefixtures("_passes_values")
def test_a_secret_in_the_dry_run_is_only_a_name(cli: Cli, where: list[str], script: Callable[[str, str], Path]) -> None:
    done = cli(
        "submit", script("use.py", "1"), *where, "--secret", "TOKEN", "--dry-run", env={"TOKEN": "dry-5ecret-value"}
    )
    assert done.code == 0, done.err
    assert "dry-5ecret-value" not in done.out + done.err
    assert no_secrets_left(cli.home)
