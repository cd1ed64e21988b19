"""Plans made by hand, accepted as a submission would, and a backend in memory that runs nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runner.backends.base import Capabilities, Layout, Observation, Phase, with_files
from runner.plan import Plan, PlanStep, Upstream
from runner.supervisor import launch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from runner.backends.base import Box, Handle, Task
    from runner.model import Limits, RetryPolicy
    from runner.store import RunRow, Store

_ALL = Capabilities(images=True, cpus=True, memory=True, gpus=True, shm=True, ulimits=True, secrets=True, isolates=True)


def published_by_nobody(source: Path, target: str) -> None:
    """For plans whose outputs stay where they are."""
    raise AssertionError(f"{source} was to be copied to {target}")


def bash(
    name: str,
    text: str,
    *needs: str,
    image: str | None = None,
    files: Sequence[str] = (),
    limits: Limits | None = None,
    retry: RetryPolicy | None = None,
) -> PlanStep:
    """A step that runs a line of bash and has one output, `out`. needs: steps whose `out` is its input of that name."""
    from runner.model import Limits, RetryPolicy, Step

    step = Step(
        name=name, argv=("bash", "-c", text), image=image, outputs={"out": None}, files=tuple(files),
        limits=limits or Limits(grace_s=2), retry=retry or RetryPolicy(),
    )  # fmt: skip
    return PlanStep(name, step, {f"from_{need.replace('.', '_')}": Upstream(need, "out") for need in needs})


def accept(store: Store, plan: Plan, *, name: str | None = None, backend: str = "process") -> tuple[RunRow, int]:
    """Record the plan as a run: (its row, the lock that its supervisor gets)."""
    name, folder = store.reserve(name)
    lock = store.lock(name)
    assert lock is not None
    for key in plan.code:
        code = folder.code_of(key)
        assert code is not None
        code.mkdir(parents=True)
    row = store.accept(
        name, plan=plan, kind="pipeline", backend=backend, image=None, image_name=None, experiment="e", title="p.yml",
        description="", tags={},
    )  # fmt: skip
    return row, lock


def start(store: Store, plan: Plan, *, name: str | None = None, backend: str = "process",
          secrets: Mapping[str, str] | None = None) -> str:  # fmt: skip
    """Accept the plan and give it a supervisor; the run's name."""
    row, lock = accept(store, plan, name=name, backend=backend)
    os.close(launch(store, row, lock, secrets or {}))
    return row.name


class MemoryBackend:
    """Tasks that end as they are told, at the next `wait`, without running anything.

    exits: task → exit code. started, ended: runs in the order of what befell them; most: how many ran at once.
    """

    name = "memory"
    capabilities = _ALL

    def __init__(self, exits: Callable[[Task], int] = lambda _task: 0) -> None:
        self._exits = exits
        self._tasks: dict[Handle, Task] = {}
        self._codes: dict[Handle, int] = {}
        self.started: list[str] = []
        self.ended: list[str] = []
        self.most = 0

    def layout(
        self, box: Box, inputs: Mapping[str, str], outputs: Mapping[str, str | None], files: Collection[str] = ()
    ) -> Layout:
        """As on the process backend."""
        folders = {name: str(box.outputs / name) for name in outputs}
        return Layout(str(box.work), "/", dict(inputs), with_files(folders, files))

    def render(self, task: Task) -> Mapping[str, object]:
        """Nothing is sent."""
        return {"argv": list(task.argv)}

    def submit(self, task: Task) -> Handle:
        """Note the task."""
        self._tasks[task.key] = task
        self.started.append(task.labels["runner.run"])
        self.most = max(self.most, len(self._tasks) - len(self._codes))
        return task.key

    def find(self, task: Task) -> Handle | None:
        """Known tasks are found."""
        return task.key if task.key in self._tasks else None

    def watch(self, task: Task, handle: Handle) -> None:
        """Nothing to do."""

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation | None]:
        """A task runs until the next `wait`."""
        return {handle: self._seen(handle) for handle in handles}

    def _seen(self, handle: Handle) -> Observation:
        if handle not in self._codes:
            return Observation(Phase.RUNNING, bootstrapped=False)
        return Observation(Phase.ENDED, exit_code=self._codes[handle], bootstrapped=False)

    def wait(self, timeout: float) -> None:
        """End every task."""
        del timeout
        for handle, task in self._tasks.items():
            if handle not in self._codes:
                self._codes[handle] = self._exits(task)
                self.ended.append(task.labels["runner.run"])

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """The task ends as one that was killed."""
        del force
        if handle not in self._codes:
            self._codes[handle] = 137
            self.ended.append(self._tasks[handle].labels["runner.run"])

    def finish(self, handle: Handle) -> tuple[str, ...]:
        """Nothing to do."""
        return ()

    def remove(self, handle: Handle) -> None:
        """Forget it."""
        self._tasks.pop(handle, None)
        self._codes.pop(handle, None)

    def close(self) -> None:
        """Nothing to do."""
