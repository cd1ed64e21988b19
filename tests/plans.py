"""Plans made by hand, accepted as a submission would, and backends in memory that run nothing."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.backends.base import Capabilities, Layout, Observation, Phase, PlatformEnd, with_files
from runner.errors import UnavailableError
from runner.model import Outcome, Reason
from runner.plan import Plan, PlanStep, Upstream
from runner.supervisor import launch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from runner.backends.base import Box, Handle, Member, Task
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


def accept(
    store: Store, plan: Plan, *, name: str | None = None, backend: str = "process",
    target: Mapping[str, str] | None = None,
) -> tuple[RunRow, int]:  # fmt: skip
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
        description="", tags={}, target=target,
    )  # fmt: skip
    return row, lock


def start(store: Store, plan: Plan, *, name: str | None = None, backend: str = "process",
          secrets: Mapping[str, str] | None = None, target: Mapping[str, str] | None = None) -> str:  # fmt: skip
    """Accept the plan and give it a supervisor; the run's name."""
    row, lock = accept(store, plan, name=name, backend=backend, target=target)
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


@dataclass(slots=True)
class _Service:
    """One plan that a service runs by itself. states: step → Running, Completed, Failed or Canceled; those that it began."""

    task: Task
    states: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    unbegun: list[str] = field(default_factory=list)
    end: str | None = None


class PlanMemoryBackend(MemoryBackend):
    """A service that takes plans whole, and at each `wait` ends the steps that run and begins those that can.

    Whatever becomes of the process that asked, it goes on: a test may drop every driver and make new ones.
    exits: of a step's task. submitted: the keys of the wholes, in the order in which they were taken.
    """

    name = "elsewhere"
    capabilities = replace(
        _ALL, cpus=False, memory=False, gpus=False, ulimits=False, secrets=False, isolates=False, remote=True
    )

    def __init__(self, exits: Callable[[Task], int] = lambda _task: 0) -> None:
        super().__init__(exits)
        self.wholes: dict[Handle, _Service] = {}
        self.submitted: list[str] = []
        self.canceled: list[tuple[Handle, bool]] = []
        self.polls = 0
        self.watched: dict[Handle, Task] = {}

    def registry(self) -> str | None:
        """It has none."""
        return None

    def layout(
        self, box: Box, inputs: Mapping[str, str], outputs: Mapping[str, str | None], files: Collection[str] = ()
    ) -> Layout:
        """Expressions, which the service replaces."""
        del box, files
        names = {name: f"${{{{inputs.{name}}}}}" for name in inputs}
        return Layout("/work", "/home", names, {name: f"${{{{outputs.{name}}}}}" for name in outputs})

    def submit(self, task: Task) -> Handle:
        """Take a plan; anything else as in memory."""
        if task.whole is None:
            return super().submit(task)
        self.submitted.append(task.key)
        self.wholes.setdefault(task.key, _Service(task))
        return task.key

    def find(self, task: Task) -> Handle | None:
        """Wholes, and steps that have been begun, are found."""
        if task.whole is not None:
            return task.key if task.key in self.wholes else None
        for handle in self.wholes:
            for name, member in self._members(handle).items():
                if member.task.key == task.key and name in self.wholes[handle].states:
                    return f"{handle}/{name}"
        return super().find(task)

    def _members(self, handle: Handle) -> dict[str, Member]:
        whole = self.wholes[handle].task.whole
        assert whole is not None
        return {member.name: member for member in whole.members}

    def steps(self, handle: Handle) -> Mapping[str, Handle]:
        """Those that were begun, and those that were given up without that."""
        service = self.wholes[handle]
        return {name: f"{handle}/{name}" for name in (*service.states, *service.unbegun)}

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation | None]:
        """One question for all."""
        self.polls += 1
        return {handle: self._look(handle) for handle in handles}

    def _look(self, handle: Handle) -> Observation | None:
        whole, _, name = handle.partition("/")
        if whole not in self.wholes:
            return self._seen(handle)
        service = self.wholes[whole]
        if not name:
            return _told(service.end, begun=True)
        state = "Canceled" if name in service.unbegun else service.states[name]
        return _told(None if state == "Running" else state, begun=name in service.states, code=service.codes.get(name))

    def wait(self, timeout: float) -> None:
        """The service goes on by one round."""
        super().wait(timeout)
        for handle, service in self.wholes.items():
            if service.end is None:
                self._round(handle, service)

    def _round(self, handle: Handle, service: _Service) -> None:
        members, whole = self._members(handle), service.task.whole
        assert whole is not None
        for name in [name for name, state in service.states.items() if state == "Running"]:
            code = self._exits(members[name].task)
            service.codes[name] = code
            service.states[name] = "Failed" if code else "Completed"
            self.ended.append(members[name].task.labels["runner.run"])
            if code and not whole.continue_on_step_failure:
                self._stop(handle, service, "Failed")
                return
        for name, member in members.items():
            if name not in service.states and all(
                service.states.get(up.step) == "Completed" for up in member.upstream.values()
            ):
                service.states[name] = "Running"
                self.started.append(member.task.labels["runner.run"])
        if "Running" not in service.states.values():
            failed = "Failed" in service.states.values()
            self._stop(handle, service, "Failed" if failed else "Completed")

    def _stop(self, handle: Handle, service: _Service, end: str) -> None:
        service.states |= {name: "Canceled" for name, state in service.states.items() if state == "Running"}
        service.unbegun += [name for name in self._members(handle) if name not in service.states]
        service.end = end

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """The whole ends with its steps."""
        self.canceled.append((handle, force))
        if handle in self.wholes and self.wholes[handle].end is None:
            self._stop(handle, self.wholes[handle], "Canceled")
        elif handle not in self.wholes:
            super().cancel(handle, force=force)

    def watch(self, task: Task, handle: Handle) -> None:
        """From now on its box is known."""
        self.watched[handle] = task

    def finish(self, handle: Handle) -> tuple[str, ...]:
        """Bring what a step left: its record, a line of log, a file in each output."""
        root, _, name = handle.partition("/")
        if handle not in self.watched:
            raise UnavailableError(f"{handle} is not followed")
        if not name:
            return ()
        task, code = self.watched[handle], self.wholes[root].codes.get(name)
        if code is None:  # it was stopped, and wrote nothing
            return ()
        task.log.write_text(f"{name} was here\n")
        reason = Reason.NON_ZERO_EXIT if code else Reason.COMPLETED
        outcome = Outcome(reason, code, f"script exited with code {code}" if code else "", exit_code=code)
        task.box.record.write_text(json.dumps({"attempt": task.key, "final": True, **outcome.to_json()}))
        for output in task.outputs:
            (task.box.outputs / output / "a.txt").write_text(name)
        return ()

    def remove(self, handle: Handle) -> None:
        """A service keeps its jobs; this one is followed no more."""
        self.watched.pop(handle, None)


def _told(end: str | None, *, begun: bool, code: int | None = None) -> Observation:
    """What the service says of a job or step. end: None: it runs."""
    started = "2026-11-21T10:00:00+00:00" if begun else None
    if end is None:
        return Observation(Phase.RUNNING, started=started)
    platform = PlatformEnd(end, message=f"exit code {code}" if code else None, elapsed_s=1.0)
    return Observation(Phase.ENDED, started=started, platform=platform)
