"""How the docker backend sees the end of a task: by its record and its stream where both are sure, else by the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runner import artifacts
from runner.backends.base import Box, Phase
from runner.backends.docker.backend import DockerBackend
from runner.composer import compose_task
from runner.docker_api.containers import Engine
from runner.model import Limits, Step
from runner.store import Store
from tests.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.backends.base import Handle, Observation, Task

pytestmark = pytest.mark.docker

_LEFTOVER = "import subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\nprint('done', flush=True)\n"


class Counting(Engine):
    """The engine, and how often it was asked about a container once its output had ended."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def inspect(self, container: str) -> dict[str, Any] | None:
        self.asked.append("inspect")
        return super().inspect(container)

    def wait_stopped(self, container: str, timeout: float) -> bool:
        self.asked.append("wait")
        return super().wait_stopped(container, timeout)


class Bench:
    """The backend on an engine that counts."""

    def __init__(self, tmp: Path, image: str) -> None:
        self.engine, self.store, self._tmp, self._image = Counting(), Store(tmp / "home"), tmp, image
        self.backend = DockerBackend(self.store, self.engine)

    def task(self, text: str) -> Task:
        (self._tmp / "code").mkdir()
        (self._tmp / "code" / "a.py").write_text(text)
        box = Box(self._tmp / "box")
        step = Step(name="a", argv=("a.py",), image=self._image, limits=Limits(grace_s=1))
        artifacts.prepare(box, self._tmp / "code", {})
        return compose_task(
            step, run="ends", experiment="e", number=1, store_id=self.store.id, secrets={}, box=box, log=self._tmp / "log",
            layout=self.backend.layout(box, {}, {}),
        )  # fmt: skip

    def ended(self, handle: Handle) -> Observation:
        """Wait for the end; `asked` has only what it took after the output had ended."""

        seen: list[Observation] = []

        def over() -> bool:
            self.backend.wait(0.2)
            self.engine.asked.clear()
            if (found := self.backend.poll([handle])[handle]) is not None:
                seen.append(found)
            return bool(seen) and seen[-1].phase is Phase.ENDED

        eventually(over, "the task has ended")
        return seen[-1]


@pytest.fixture
def bench(tmp_path: Path, image: str) -> Iterator[Bench]:
    made = Bench(tmp_path, image)
    yield made
    made.backend.close()
    made.store.close()


def test_an_end_that_is_sure_is_not_asked_for(bench: Bench, tmp_path: Path) -> None:
    handle = bench.backend.submit(bench.task("print('hi')\nraise SystemExit(7)\n"))
    seen = bench.ended(handle)
    assert (seen.exit_code, seen.lost, bench.engine.asked) == (7, False, [])
    bench.backend.finish(handle)
    assert (tmp_path / "log").read_bytes() == b"hi\n"
    bench.backend.remove(handle)
    assert bench.engine.inspect(handle) is None


def test_where_something_was_left_running_the_engine_says_when_it_is_over(bench: Bench) -> None:
    handle = bench.backend.submit(bench.task(_LEFTOVER))
    seen = bench.ended(handle)
    assert seen.exit_code == 0
    assert "inspect" in bench.engine.asked
    found = bench.engine.inspect(handle)
    assert found is not None
    assert found["State"]["Status"] == "exited"
    bench.backend.finish(handle)
    bench.backend.remove(handle)


def test_where_the_connection_was_made_anew_the_engine_is_asked(bench: Bench) -> None:
    handle = bench.backend.submit(bench.task("print('hi')\n"))
    bench.engine.close()  # as an engine that was started anew would have closed it
    assert bench.ended(handle).exit_code == 0
    assert "inspect" in bench.engine.asked
    bench.backend.finish(handle)
    bench.backend.remove(handle)
