"""The emulator for tests: `from tests.emulators.azureml.fixture import azureml, azureml_service` in a conftest.

One emulator per process of the test run, so xdist workers do not disturb each other; started by the first test that takes
`azureml`. Each test finds switches and faults as they are by default, and fails when something was asked that the emulator
does not know, or a host was wanted that it does not answer for.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.emulators.azureml.cli import ROOT, pid_of

DEADLINE_S = 60.0
Doc = dict[str, Any]
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(slots=True)
class Admin:
    """The admin port. Every method raises ValueError with the emulator's words when it refuses."""

    env: dict[str, str]

    def ask(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            self.env["RUNNER_EMULATOR_ADMIN"] + path, json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Bearer {self.env['RUNNER_EMULATOR_ADMIN_TOKEN']}"}, method=method,
        )  # fmt: skip
        try:
            with _DIRECT.open(request, timeout=DEADLINE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(error.read().decode()) from None

    def switch(self, **values: Any) -> Doc:
        """Set switches (profile.py); all of them as they are now."""
        found = self.ask("POST", "/switches", values)
        assert isinstance(found, dict)
        return found

    def fault(self, **rule: Any) -> int:
        """Add a rule (faults.py); its number."""
        return int(self.ask("POST", "/faults", rule)["id"])

    def hits(self, rule: int) -> int:
        """How many requests a rule has hit."""
        return next(int(found["hits"]) for found in self.ask("GET", "/faults") if found["id"] == rule)

    def reset(self) -> None:
        """Switches by default, no faults; held requests are cut off."""
        self.ask("DELETE", "/faults")
        self.ask("DELETE", "/switches")

    def paused(self, wait: float = 30) -> Doc:
        """The request that is held, waited for: {"n", "method", "host", "path", "query", "when"}."""
        held = self.ask("GET", f"/paused?wait={wait}")
        assert held, f"no request was held within {wait:g} s"
        first = held[0]
        assert isinstance(first, dict)
        return first

    def release(self, number: int, then: str = "continue") -> bool:
        """then: "continue", or "reset": its connection ends without an answer. False: it is not held any more."""
        return bool(self.ask("POST", "/release", {"n": number, "then": then})["released"])

    def preempt(self, run: str) -> None:
        self.ask("POST", "/preempt", {"run": run})

    def requests(self, after: int = 0) -> list[Doc]:
        """The journal (journal.py), in the order of the ends; after: so many left out."""
        return list(self.ask("GET", f"/requests?after={after}"))

    def unhandled(self) -> list[Doc]:
        return list(self.ask("GET", "/unhandled"))

    def documents(self, kind: str) -> list[Doc]:
        """What the service remembers (state.py)."""
        return list(self.ask("GET", f"/documents/{kind}"))

    def change(self, kind: str, key: str, **members: Any) -> Doc:
        """Merge into a document, or make it."""
        found = self.ask("POST", f"/documents/{kind}/{key}", members)
        assert isinstance(found, dict)
        return found


class Service:
    """A running emulator. env: what a client has to have in its environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env: dict[str, str] = {}
        self.admin = Admin(self.env)

    def start(self) -> None:
        """Also after `stop` or `kill`: ports, certificates and all that it knew are the same then."""
        done = self._command("start", "--detach", "--until", str(os.getpid()))
        assert done.returncode == 0, done.stderr
        self.env.clear()
        self.env.update(re.findall(r"^export (\w+)='(.*)'$", done.stdout, re.MULTILINE))

    def stop(self, *, keep_jobs: bool = False) -> None:
        """keep_jobs: their containers go on, and the next start follows them again."""
        done = self._command("stop", *(["--keep-jobs"] if keep_jobs else []))
        assert done.returncode == 0, done.stderr

    def kill(self) -> None:
        """As a machine's end would."""
        pid = pid_of(self.folder)
        assert pid is not None
        os.kill(pid, SIGKILL)
        eventually(lambda: pid_of(self.folder) is None, "the emulator is gone")

    def _command(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.emulators.azureml", args[0], "--state", str(self.folder), *args[1:]],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip


@contextmanager
def running(folder: Path) -> Iterator[Service]:
    """An emulator of the caller's own, for what would disturb others: restarts, accounts, unknown requests."""
    service = Service(folder)
    service.start()
    try:
        yield service
    finally:
        if pid_of(folder) is not None:
            service.stop()


@pytest.fixture(scope="session")
def azureml_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The one of this process; take `azureml`."""
    with running(tmp_path_factory.mktemp("azureml")) as service:
        yield service
        if unhandled := service.admin.unhandled():
            pytest.fail(f"asked of the Azure ML emulator, which does not know it: {unhandled}")


@pytest.fixture
def azureml(azureml_service: Service) -> Iterator[Service]:
    """A workspace on loopback: `.env` for the client, `.admin` for what the test wants to happen."""
    before = len(azureml_service.admin.unhandled())
    yield azureml_service
    azureml_service.admin.reset()
    unknown = azureml_service.admin.unhandled()[before:]
    assert not unknown, "asked of the Azure ML emulator, which does not know it"


def eventually(condition: Callable[[], object], what: str, deadline: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline:g} s: {what}")
        time.sleep(0.05)
