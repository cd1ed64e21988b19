"""Runs tasks as containers of a Docker engine.

A container's name is its task's key, so submitting twice finds the first. Containers are never auto-removed: the record
and the log are made safe first.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.artifacts import plain_folder
from runner.backends import remote_files, secretfile
from runner.backends.base import Capabilities, Handle, Layout, Observation, Phase
from runner.backends.docker import boxes, request
from runner.backends.docker.images import Images
from runner.backends.docker.logs import Logs, Watched
from runner.backends.docker.starting import Starter
from runner.bootstrapper import final_outcome, read_record, staged
from runner.docker_api.containers import Engine
from runner.errors import BackendError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from runner.backends.base import Box, Facts, Task
    from runner.backends.docker.images import Image

_RECHECK_S = 5.0
"""Ask the engine at least this often, in case a log stream hangs; ends are otherwise seen by the stream's end."""

_SETTLE_S = 10.0
"""A busy engine calls a container stopped so long after its output has ended."""


class DockerBackend:
    """Tasks as containers of a Docker engine."""

    name = "docker"

    def __init__(self, facts: Facts, engine: Engine | None = None) -> None:
        self._facts = facts
        self._engine = engine or Engine()
        # On another machine there is no tmpfs of ours to hand secrets over, and they go nowhere else.
        self.capabilities = Capabilities(
            images=True,
            cpus=True,
            memory=True,
            gpus=True,
            shm=True,
            ulimits=True,
            secrets=self._engine.local,
            isolates=True,
        )
        self._images = Images(self._engine, facts)
        self._starter = Starter(self._engine.host)
        self._logs = Logs(self._engine, self._starter)

    # -- pure -----------------------------------------------------------------------------------------------------

    def layout(
        self, box: Box, inputs: Mapping[str, str], outputs: Mapping[str, str | None], files: Collection[str] = ()
    ) -> Layout:
        """The paths in the container; a file keeps its own name, since scripts look at extensions."""
        del box  # it is always mounted at the same place
        return request.layout(inputs, outputs, files)

    def render(self, task: Task) -> Mapping[str, object]:
        """The body of `POST /containers/create`."""
        image = self._images.of(task)
        return request.body(task, image, local=self._engine.local, staged=self._staged(image))

    def _staged(self, image: Image) -> Path | None:
        """The bootstrapper on this machine, for an image that needs it."""
        return None if image.python is None or image.carries else staged(self._facts.cache, "any")

    # -- running --------------------------------------------------------------------------------------------------

    def submit(self, task: Task) -> Handle:
        """Create and start the container; see `Backend.submit`."""
        config = self.render(task)
        request.check(task)
        if self._engine.local:
            boxes.own(task, str(config.get("User") or ""))
        if task.secrets:
            uid, gid = boxes.numeric(str(config.get("User") or "")) or (os.getuid(), os.getgid())
            secretfile.write(task.key, task.secrets, uid, gid)
        try:
            handle = self._engine.create(f"runner-{task.key}", dict(config))
        except BackendError as error:
            if error.code != 409:
                raise
            if (found := self.find(task)) is None:
                # Taken, and not there yet: a supervisor was killed while the engine was creating it for it.
                raise UnavailableError(f"the container of task {task.key} is still being created") from error
            self.watch(task, found)
            return found
        self._start(handle, task)
        return handle

    def _start(self, handle: Handle, task: Task) -> None:
        watched = self._logs.watched.setdefault(handle, Watched(task))
        try:
            if not self._engine.local:
                self._send(handle, task)
            watched.connected = self._engine.connected
            self._logs.take(handle, watched, self._engine.attach(handle), live=True)
            watched.starting = self._starter.start(handle)
        except UnavailableError:
            watched.live = False
            raise
        except BackendError as error:
            self._logs.drop(watched)
            watched.live, watched.start_error = False, error.message

    def _started(self, handle: Handle, watched: Watched) -> bool:
        """Whether the engine has answered to the start; it takes some 200 ms, in which other tasks go on."""
        if watched.unstarted:
            # The engine went away before it answered: it may have started the container, which must not run twice.
            self._logs.drop(watched)
            self.watch(watched.task, handle)
            watched.unstarted = False
        if watched.starting is None:
            return True
        if not watched.starting.done():
            return False
        answer, watched.starting = watched.starting, None
        try:
            answer.result()
        except UnavailableError:
            watched.live, watched.unstarted = False, True
            raise
        except BackendError as error:
            self._logs.drop(watched)
            watched.live, watched.start_error = False, error.message
        return True

    def _send(self, handle: Handle, task: Task) -> None:
        """To an engine on another machine: everything that would be mounted."""
        image = self._images.of(task)
        files = {request.BOX: task.box.root}
        files |= {request.input_target(name, source): Path(source) for name, source in task.inputs.items()}
        if (bootstrapper := self._staged(image)) is not None:
            files[request.INJECTED] = bootstrapper
        remote_files.send(self._engine, handle, files, boxes.numeric(request.user_of(image)) or (0, 0))

    def _fetch(self, handle: Handle, task: Task) -> None:
        box = task.box
        folders = {
            f"{request.BOX}/record": box.record.parent,
            f"{request.BOX}/outputs": box.outputs,
            f"{request.BOX}/tracking": box.tracking,
        }
        for name in ("outputs", "logs", *(folder for folder in task.outputs.values() if folder)):
            folders[f"{request.BOX}/work/{name}"] = box.work / name
        remote_files.fetch(self._engine, handle, folders)

    def find(self, task: Task) -> Handle | None:
        """The container of that key, if one was created."""
        found = self._engine.inspect(f"runner-{task.key}")
        return str(found["Id"]) if found else None

    def watch(self, task: Task, handle: Handle) -> None:
        """Take up a container again: start it if that did not happen, and go on copying its log where it stopped."""
        found = self._engine.inspect(handle)
        watched = self._logs.watched.setdefault(handle, Watched(task))
        if watched.live:  # submitted twice by this very process
            return
        watched.copied = task.log.stat().st_size if task.log.exists() else 0
        if found is not None and found["State"]["Status"] == "created" and not found["State"].get("Error"):
            self._start(handle, task)
        elif found is not None:
            self._logs.follow(handle, watched)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation | None]:
        """Facts of each container; asks the engine only where something may have changed."""
        return {handle: self._observe(handle) for handle in handles}

    def _observe(self, handle: Handle) -> Observation | None:
        watched = self._logs.watched.get(handle)
        if watched is not None and not self._started(handle, watched):
            return Observation(Phase.STARTING)
        streaming = watched is not None and watched.stream is not None
        if watched and watched.last and streaming and time.monotonic() - watched.asked < _RECHECK_S:
            return watched.last
        try:
            if watched is not None and (ended := self._ended_early(watched)) is not None:
                watched.last, watched.early = ended, True
                return ended
            if watched and watched.last and not streaming and watched.last.phase is Phase.RUNNING:
                # The stream ends a moment before the engine calls the container stopped.
                self._engine.wait_stopped(handle, 2.0)
            found = self._engine.inspect(handle)
        except UnavailableError:
            if watched is not None and watched.stream is None:
                watched.live = watched.whole = False  # it ended with the engine, not with the container
            raise
        seen = None if found is None else self._facts_of(found, watched)
        if watched is not None:
            if seen is None or seen.lost:
                watched.whole = False
            watched.last, watched.asked = seen, time.monotonic()
            settling = watched.whole and time.monotonic() - watched.ended < _SETTLE_S
            if seen is not None and seen.phase is Phase.RUNNING and watched.stream is None and not settling:
                self._logs.follow(handle, watched)
        return seen

    def _ended_early(self, watched: Watched) -> Observation | None:
        """The end, where all is known of it before the engine has noted it, which takes it 50 to 400 ms.

        The container's own stream has ended, so its first process has; the record is final, and decides alone; as it has
        no warning, nothing else was left running. An engine that ends closes its streams too, but answers no more.
        """
        task = watched.task
        if watched.stream is not None or not (watched.live and watched.whole):
            return None
        record = read_record(task.box.record) if plain_folder(task.box.record.parent) else None
        ended = final_outcome(record, task.key)
        if ended is None or ended.warnings or not self._engine.still(watched.connected):
            return None
        return Observation(Phase.ENDED, exit_code=ended.process_exit, started=ended.started, finished=ended.finished)

    def _facts_of(self, found: dict[str, Any], watched: Watched | None) -> Observation:
        state = found["State"]
        started, finished = _moment(state["StartedAt"]), _moment(state["FinishedAt"])
        error = state.get("Error") or (watched.start_error if watched else None) or None
        status = state["Status"]
        if status == "created":
            phase = Phase.ENDED if error else Phase.STARTING
        else:
            phase = Phase.ENDED if status in {"exited", "dead"} else Phase.RUNNING
        ended = phase is Phase.ENDED and started is not None
        return Observation(
            phase,
            exit_code=int(state["ExitCode"]) if ended else None,
            oom_killed=bool(state.get("OOMKilled")),
            lost=ended and self._engine_restarted(started, finished),
            error=error,
            bootstrapped=found["Config"]["Labels"].get("runner.bootstrapped") != "0",
            started=state["StartedAt"] if started else None,
            finished=state["FinishedAt"] if finished else None,
        )

    def _engine_restarted(self, started: float | None, finished: float | None) -> bool:
        """Whether the engine came up after the container did, and ended it by that."""
        engine = _moment(self._engine.started())
        if engine is None or started is None:
            return False
        # An engine that comes up notes the end of its dead containers a moment before it makes its bridge.
        return started < engine and (finished is None or finished > engine - 60)

    def wait(self, timeout: float) -> None:
        """Copy logs until a stream ends or a start is answered, or for `timeout` seconds."""
        self._logs.wait(timeout)

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """SIGTERM (or SIGKILL) to the container's first process, the bootstrapper."""
        watched = self._logs.watched.get(handle)
        if watched is not None and watched.starting is not None:
            watched.starting.exception()  # waits: a container that is just being started would not hear it
        self._engine.kill(handle, "SIGKILL" if force else "SIGTERM")

    def finish(self, handle: Handle) -> Sequence[str]:
        """Copy the rest of the log, and give the box back to the caller."""
        watched = self._logs.watched[handle]
        started = watched.last is None or watched.last.started is not None
        # A stream that broke with its connection is asked for again; a container that is gone has no more to say.
        while started and not watched.whole and self._engine.inspect(handle) is not None:
            if watched.stream is None and not self._logs.follow(handle, watched):
                raise UnavailableError("the engine does not hand over a log", "it is asked again")
            self._logs.drain(watched)
        self._logs.flush(watched, must=True)
        secretfile.remove(watched.task.key)
        if not self._engine.local:
            self._fetch(handle, watched.task)
        boxes.gather(watched.task)
        if os.getuid() == 0:
            boxes.chown_tree(watched.task.box.root, 0, 0)
        return ()

    def remove(self, handle: Handle) -> None:
        """Remove the container."""
        watched = self._logs.watched.get(handle)
        if watched is not None and watched.early:
            self._engine.wait_stopped(handle, _SETTLE_S)
        self._engine.remove(handle)
        if watched is not None:
            del self._logs.watched[handle]
            self._logs.drop(watched)
            secretfile.remove(watched.task.key)

    def close(self) -> None:
        """Close streams and connections."""
        self._logs.close()
        self._starter.close()
        self._engine.close()


def _moment(text: str | None) -> float | None:
    """Seconds since the epoch of the engine's RFC 3339; its zero time means never."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).timestamp()
