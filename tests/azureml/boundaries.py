"""`runner submit` killed at its Nth request to Azure ML, and taken up again: one job, one true end, nothing lost.

By hand, for every request of a command job and of a pipeline, each before the service knows of it and after it did what was
asked (some ten minutes each; the tests take a few points by a seed):

    python -m tests.azureml.boundaries command IMAGE
    python -m tests.azureml.boundaries pipeline IMAGE

IMAGE: with Python, of the local engine, under a name that looks like a registry's, so that it is not pushed. Commands are
forked from this process, which has the SDK imported, so that a point costs three seconds and not ten.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.azureml.runs import COMMAND, PIPELINE
from tests.emulators.azureml.fixture import Admin, running

Point = tuple[str, str]
"""The request, by its number from 0 on or `job`: the one that makes it; `before` or `after` the service did what it asks."""
_PR_SET_CHILD_SUBREAPER = 36
_DEADLINE_S = 90.0
_SCRIPT = "echo hello; mkdir -p outputs; echo kept > outputs/kept; echo named > $1/named"
JOBS = {"command": COMMAND, "pipeline": PIPELINE}


def adopt_orphans() -> None:
    """From now on whatever our children leave behind is our child."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """Processes below this one, which have not ended."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.add(int(stat.parent.name))
    return found


@dataclass
class Walk:
    """One kind of job, submitted and killed again and again.

    folder: its own. spare: processes that are no part of it.
    """

    admin: Admin
    kind: str
    folder: Path
    image: str
    spare: set[int] = field(default_factory=set)
    ended: dict[int, int] = field(default_factory=dict)

    def prepare(self) -> None:
        code = self.folder / "code"
        code.mkdir(parents=True)
        (code / "say.sh").write_text(_SCRIPT)
        (self.folder / "job.yml").write_text(JOBS[self.kind].format(image=self.image))
        os.environ["RUNNER_HOME"] = str(self.folder / "home")
        os.chdir(self.folder)

    # -- processes --------------------------------------------------------------------------------------------------

    def start(self, *argv: str) -> int:
        """The command, in a process of its own."""
        child = os.fork()
        if child:
            return child
        try:
            out = os.open(self.folder / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.setsid()
            from runner.cli import main

            sys.argv = ["runner", *argv]
            main()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(int(end.code or 0))
        finally:
            os._exit(99)

    def reap(self) -> None:
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self.ended[found[0]] = os.waitstatus_to_exitcode(found[1])

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _DEADLINE_S
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"not within {_DEADLINE_S:g} s: {what}")
            time.sleep(0.02)

    def code(self, child: int) -> int:
        """Its exit code, waited for."""

        def over() -> bool:
            self.reap()
            return child in self.ended

        self.until(over, "the command ends")
        return self.ended[child]

    def live(self) -> set[int]:
        self.reap()
        return children() - self.spare

    def kill(self) -> None:
        """The command and the supervisor, as the power failing would."""

        def gone() -> bool:
            for pid in self.live():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.live()

        self.until(gone, "everything is killed")

    # -- one point --------------------------------------------------------------------------------------------------

    def point(self, at: str, when: str) -> str | None:
        """Submit, kill at that request, take up. What it was that was cut off; None: the run makes fewer requests."""
        name = f"{self.kind}-{at}-{when}"
        which: dict[str, Any] = {"method": "PUT", "path": "/jobs/r"} if at == "job" else {"skip": int(at)}
        self.admin.fault(**which, pause=True, when=when)
        if self.kind == "command":  # whose code goes up anew each time; of a pipeline only once, to save time
            (self.folder / "code" / "say.sh").write_text(f"{_SCRIPT}\n# {name}\n")
        submit = self.start("submit", "job.yml", "--backend", "azureml", "--name", name)
        held: list[dict[str, Any]] = []

        def met() -> bool:
            held[:] = self.admin.ask("GET", "/paused?wait=0.1")
            return bool(held) or not self.live()

        self.until(met, f"request {at} is held, or the run ends")
        self.kill()
        self.admin.ask("DELETE", "/faults")
        submitted = self._is_there(name)
        if held:
            again = (
                ("wait", name) if submitted else ("submit", "job.yml", "--backend", "azureml", "--name", name, "--wait")
            )
            assert (code := self.code(self.start(*again))) == 0, f"{again[0]} ended with {code}"
            self.until(lambda: not self.live(), "the supervisor ends")
        else:
            assert (code := self.code(submit)) == 0, f"submit ended with {code}"
        self.check(name)
        return f"{held[0]['method']} {held[0]['host']}{held[0]['path']}" if held else None

    def _is_there(self, name: str) -> bool:
        return self.code(self.start("show", name, "--json")) == 0

    def check(self, name: str) -> None:
        """One job there; and here every step as if nothing had happened."""
        jobs = [
            each for each in self.admin.documents("job")
            if (each.get("properties", {}).get("tags") or {}).get("runner.run") == name
        ]  # fmt: skip
        assert len(jobs) == 1, f"{len(jobs)} jobs on the service"
        runs = {each["runId"]: each for each in self.admin.documents("run")}
        assert runs[jobs[0]["name"]]["status"] == "Completed", runs[jobs[0]["name"]]
        children = [each for each in runs.values() if each.get("parentRunId") == jobs[0]["name"]]
        assert len(children) == (0 if self.kind == "command" else 2), children
        from runner.store import Store

        store = Store(self.folder / "home")
        try:
            self._check_rows(store, name)
        finally:
            store.close()
        left = [str(path) for path in (self.folder / "home").rglob("box")]
        assert not left, f"left behind: {left}"

    def _check_rows(self, store: Any, name: str) -> None:
        root = store.get(name)
        assert str(root.outcome.reason) == "Completed", root.outcome
        for step in (name,) if self.kind == "command" else (f"{name}.one", f"{name}.two"):
            row = store.get(step)
            assert (str(row.outcome.reason), row.outcome.warnings, row.attempts) == ("Completed", (), 1), row
            folder = store.folder(step).attempt(1)
            assert folder.log.read_bytes() == b"hello\n", folder.log.read_bytes()
            assert (folder.artifacts / "outputs" / "kept").read_text() == "kept\n"
            assert [path.read_text() for path in folder.artifacts.rglob("named")] == ["named\n"]
            assert json.loads(folder.record.read_bytes())["final"] is True


def walked(walk: Walk, points: Iterable[Point]) -> Iterator[tuple[Point, str | None, str | None]]:
    """(point, the request, what went wrong) of each; ends after the first beyond the last request."""
    over: set[str] = set()
    for at, when in points:
        if when in over:
            continue
        asked, wrong = None, None
        try:
            asked = walk.point(at, when)
        except AssertionError as error:
            wrong = str(error) or repr(error)
            walk.admin.ask("DELETE", "/faults")
            walk.kill()
        if asked is None and wrong is None:
            over.add(when)
        yield (at, when), asked, wrong


def preload() -> None:
    """What a submit imports, once for all commands."""
    import azure.ai.ml
    import azure.ai.ml._restclient
    import azure.identity
    import azure.storage.blob
    import urllib3

    import runner.backends.azureml.backend
    import runner.backends.azureml.sdk
    import runner.cli

    del azure, urllib3, runner


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=list(JOBS))
    parser.add_argument("image")
    parser.add_argument("--points", default="", help="such as 3:before,job:after; default: all")
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    chosen = [(at, when) for at, _, when in (each.partition(":") for each in given.points.split(",") if each)]
    points = chosen or [(str(at), when) for at in range(given.first, 1000) for when in ("before", "after")]
    with tempfile.TemporaryDirectory() as folder:
        if "RUNNER_EMULATOR_ADMIN" in os.environ:
            return _walk(Admin(dict(os.environ)), given, points, Path(folder))
        with running(Path(folder) / "emulator") as service:
            os.environ |= service.env
            return _walk(service.admin, given, points, Path(folder))


def _walk(admin: Admin, given: argparse.Namespace, points: list[Point], folder: Path) -> int:
    adopt_orphans()
    preload()
    walk = Walk(admin, given.kind, folder / "walk", given.image, spare=children())
    walk.prepare()
    wrongs = 0
    began = time.monotonic()
    for (at, when), asked, wrong in walked(walk, points):
        wrongs += wrong is not None
        print(
            f"{time.monotonic() - began:5.0f} s {at:>3} {when:6} {asked or '-'}{f'  WRONG: {wrong}' if wrong else ''}",
            flush=True,
        )
        if wrong:
            print((walk.folder / "out").read_text()[-3000:], flush=True)
        (walk.folder / "out").unlink(missing_ok=True)
    os.chdir("/")
    return 1 if wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
