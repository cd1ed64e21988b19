"""Commands on Azure ML killed at their Nth request and taken up again: one job, one true end, nothing lost.

By hand, at every request up to the end of a run, each before the service knows of it and after it did what was asked, which
takes some ten minutes each:

    python -m tests.azureml.boundaries command|pipeline|sweep|cancel|download|register IMAGE

The first three kill a `submit`. IMAGE: with Python, of the local engine, under a name that looks like a registry's, so that
it is not pushed. Commands are forked from this process, which has the SDK imported, so that a point costs three seconds
and not ten. `--victim supervisor` kills only that, while the command waits; `--victim command` the command alone.

    python -m tests.azureml.boundaries KIND IMAGE --points job:before,job:after,log:before --one

`--one`: one run that is killed at all of these, one after the other. The tests take the requests that make something,
and of the others some by a seed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.azureml.journeys import JOURNEYS, Journey, Walk
from tests.azureml.killed import Processes, adopt_orphans, children, preload, until
from tests.emulators.azureml.fixture import Admin, running

Point = tuple[str, str]
"""The request, by its number from 0 on or by what it does (REQUESTS); `before` or `after` the service did what it asks."""
REQUESTS: Mapping[str, Mapping[str, str]] = {
    "begin-upload": {"method": "POST", "path": "startPendingUpload"},
    "upload": {"method": "PUT", "host": "blob"},
    "code": {"method": "PUT", "path": "/codes/"},
    "environment": {"method": "PUT", "path": "/environments/"},
    "component": {"method": "PUT", "path": "/components/azureml_anonymous/"},
    "registered": {"method": "PUT", "path": "/components/register"},
    "job": {"method": "PUT", "path": "/jobs/r"},
    "cancel": {"method": "POST", "path": "/cancel"},
    "state": {"method": "POST", "path": "batchrundata"},
    "log": {"method": "GET", "path": "/user_logs/"},
    "record": {"method": "GET", "path": "status.json"},
    "output": {"method": "GET", "path": "/named$"},
    "left": {"method": "GET", "path": "comp=list"},
}


@dataclass
class Found:
    """What became of a point. asked: the request; None: the command makes fewer. wrong: what is not as it has to be."""

    asked: str | None = None
    wrong: str | None = None


@dataclass
class Walker:
    """One kind of journey, made and killed again and again."""

    admin: Admin
    processes: Processes
    walk: Walk
    journey: Journey
    victim: str = "all"

    def point(self, point: Point) -> str | None:
        """A journey of its own, killed at that request and taken up. What it was that was cut off; None: there is none."""
        name = self.walk.name(*point)
        self.journey.begin(self.walk, name)
        command, asked = self._killed(self.journey.argv(self.walk, name), point)
        if asked is None or command in self.processes.live():
            self._ended(command)
        else:
            self._taken_up(name)
        self.processes.gone()
        self.journey.check(self.walk, name)
        return asked

    def one(self, points: Iterable[Point]) -> Iterator[tuple[Point, Found]]:
        """One journey that is killed at all of these, in this order, and then taken up to its end."""
        name = self.walk.name("one")
        self.journey.begin(self.walk, name)
        for point in points:
            _, asked = self._killed(self.journey.again(self.walk, name), point)
            yield point, Found(asked, None if asked else "no such request was made")
        self._taken_up(name)
        self.processes.gone()
        self.journey.check(self.walk, name)

    def _killed(self, argv: tuple[str, ...], point: Point) -> tuple[int, str | None]:
        """Start the command, kill it at that request: (its process, the request). None: it ended without making it."""
        at, when = point
        which: dict[str, Any] = dict(REQUESTS[at]) if at in REQUESTS else {"skip": int(at)}
        rule = self.admin.fault(**which, pause=True, when=when)
        command = self.processes.start(*argv)
        held: list[dict[str, Any]] = []

        def met() -> bool:
            held[:] = self.admin.ask("GET", "/paused?wait=0.1")
            return bool(held) or not self.processes.live()

        until(met, f"request {at} is held, or the run ends")
        # A request that was held and went away unseen is no end of the walk.
        assert held or not self.admin.hits(rule), f"request {at} was held, and its sender gave up"
        others = self.processes.live() - {command}
        if held and self.victim == "command":
            self.processes.kill(only={command})
        elif held:
            self.processes.kill(only=others if others and self.victim == "supervisor" else None)
        self.admin.ask("DELETE", "/faults")
        return command, f"{held[0]['method']} {held[0]['host']}{held[0]['path']}" if held else None

    def _taken_up(self, name: str) -> None:
        self._ended(self.processes.start(*self.journey.again(self.walk, name)))

    def _ended(self, command: int) -> None:
        assert (code := self.processes.code(command)) == 0, f"the command ended with {code}"

    def each(self, points: Iterable[Point]) -> Iterator[tuple[Point, Found]]:
        """Every point by itself; ends after the first beyond the last request."""
        over: set[str] = set()
        for point in points:
            if point[1] in over:
                continue
            try:
                found = Found(self.point(point))
            except AssertionError as error:
                found = Found(wrong=str(error) or repr(error))
                self.admin.ask("DELETE", "/faults")
                self.processes.kill()
            if found == Found():
                over.add(point[1])
            yield point, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(JOURNEYS))
    parser.add_argument("image")
    parser.add_argument("--points", default="", help="such as 3:before,job:after; default: all")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--one", action="store_true", help="one run that is killed at all of the points")
    parser.add_argument("--victim", choices=("all", "supervisor", "command"), default="all")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if "RUNNER_EMULATOR_ADMIN" in os.environ:
            return _walk(Admin(dict(os.environ)), given, Path(folder))
        with running(Path(folder) / "emulator") as service:
            os.environ |= service.env
            return _walk(service.admin, given, Path(folder))


def _walk(admin: Admin, given: argparse.Namespace, folder: Path) -> int:
    adopt_orphans()
    preload()
    chosen = [(at, when) for at, _, when in (each.partition(":") for each in given.points.split(",") if each)]
    points = chosen or [(str(at), when) for at in range(given.first, 1000) for when in ("before", "after")]
    out = folder / "out"
    walk = Walk(admin, given.kind, folder / "walk", given.image, Processes(out, spare=children()))
    walk.prepare()
    walker = Walker(admin, walk.processes, walk, JOURNEYS[given.kind], given.victim)
    began, wrongs = time.monotonic(), 0
    for (at, when), found in (walker.one if given.one else walker.each)(points):
        wrongs += found.wrong is not None
        wrong = f"  WRONG: {found.wrong}\n{out.read_text()[-3000:]}" if found.wrong else ""
        print(f"{time.monotonic() - began:5.0f} s {at:>3} {when:6} {found.asked or '-'}{wrong}", flush=True)
        if not given.one:
            out.unlink(missing_ok=True)
    os.chdir("/")
    return 1 if wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
