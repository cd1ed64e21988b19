"""Runs tasks as containers of a Docker engine.

A container's name is its task's key, so submitting twice finds the first. Containers are never auto-removed: the record
and the log are made safe first. One thread, one selector: log streams are copied as they come, and the end of a stream
is how the end of a task is seen at once.
"""

from __future__ import annotations

import os
import select
import selectors
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runner.artifacts import plain_folder
from runner.backends import remote_files, secretfile
from runner.backends.base import Capabilities, Handle, Layout, Observation, Phase, with_files
from runner.bootstrapper import (
    COMPILED,
    FILE,
    LABEL,
    arguments,
    contract,
    direct_argv,
    final_outcome,
    read_record,
    staged,
)
from runner.docker_api.containers import Engine, Frames, ImageInfo
from runner.errors import BackendError, CapabilityError, ImageError, SpecError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor

    from runner.backends.base import Box, Task
    from runner.docker_api.wire import Stream

_BOX = "/mnt/runner"
_INPUTS = "/mnt/inputs"
_INJECTED = "/mnt/runner-bootstrap"
_IN_IMAGE = "/opt/runner"
_SECRETS = "/mnt/runner-secrets"

_RECHECK_S = 5.0
"""Ask the engine at least this often, in case a log stream hangs; ends are otherwise seen by the stream's end."""


_STARTS = 8
"""So many containers are started at once."""

_PROBE_S = 60.0
_SETTLE_S = 10.0
"""A busy engine calls a container stopped so long after its output has ended."""


_ARGUMENTS_MAX = 2_000_000
"""A quarter of the usual stack, with room for the bootstrapper's own. Above, runc ends with 1 and without an error."""


class Facts(Protocol):
    """Where facts of images are remembered; the run store."""

    @property
    def cache(self) -> Path:
        """A folder for things that can be made again."""

    def fact(self, key: str) -> Any:
        """A remembered fact or None."""

    def remember(self, key: str, value: object) -> None:
        """Remember a fact."""


@dataclass(frozen=True, slots=True)
class _Image:
    """What must be known of an image to run a task in it. `python` is None where it has none."""

    id: str
    python: str | None
    carries: bool
    user: str


@dataclass(slots=True)
class _Watched:
    """A task whose log is being copied. `copied` counts the bytes that are in the log file.

    live: the stream is the container's own, from its first byte on; else it is the engine's log file, read anew, of
    which `skip` bytes have still to be passed over, since the log has them already.
    """

    task: Task
    stream: Stream | None = None
    live: bool = False
    frames: Frames = field(default_factory=Frames)
    skip: int = 0
    copied: int = 0
    pending: bytes = b""
    whole: bool = False
    last: Observation | None = None
    asked: float = 0.0
    ended: float = 0.0
    start_error: str | None = None
    starting: Future[None] | None = None
    unstarted: bool = False
    connected: int = 0
    """The connection to the engine that stood when the live stream was opened."""
    early: bool = False
    """Its end is told by its record; the engine may not have seen it yet."""


class _Starter:
    """Starts containers in threads, each with a connection of its own: an engine starts two as quickly as one.

    `fileno` becomes readable with each answer.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._threads: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._engines: list[Engine] = []

    def start(self, handle: Handle) -> Future[None]:
        """Ask for the start; the result is None, or the engine's error."""
        from concurrent.futures import ThreadPoolExecutor

        self._threads = self._threads or ThreadPoolExecutor(_STARTS, "start")
        future = self._threads.submit(self._one, handle)
        future.add_done_callback(lambda _: os.eventfd_write(self._told, 1))
        return future

    def fileno(self) -> int:
        """For a selector."""
        return self._told

    def heard(self) -> None:
        """The answers so far have been looked at."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._told)

    def _one(self, handle: Handle) -> None:
        engine: Engine | None = getattr(self._own, "engine", None)
        if engine is None:
            engine = self._own.engine = Engine(self._host)
            self._engines.append(engine)
        engine.start(handle)

    def close(self) -> None:
        """Wait for what was asked, and close the connections."""
        if self._threads is not None:
            self._threads.shutdown()
        for engine in self._engines:
            engine.close()
        os.close(self._told)


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
        self._selector = selectors.DefaultSelector()
        self._watched: dict[Handle, _Watched] = {}
        self._images: dict[str, _Image] = {}
        self._starter = _Starter(self._engine.host)
        self._selector.register(self._starter, selectors.EVENT_READ)

    # -- pure -----------------------------------------------------------------------------------------------------

    def layout(
        self, box: Box, inputs: Mapping[str, str], outputs: Mapping[str, str | None], files: Collection[str] = ()
    ) -> Layout:
        """The paths in the container; a file keeps its own name, since scripts look at extensions."""
        del box  # it is always mounted at the same place
        work = f"{_BOX}/work"
        return Layout(
            work=work,
            home=f"{_BOX}/home",
            inputs={name: _input_target(name, source) for name, source in inputs.items()},
            outputs=with_files(
                {name: f"{work}/{folder}" if folder else f"{_BOX}/outputs/{name}" for name, folder in outputs.items()},
                files,
            ),
            tracking=f"{_BOX}/tracking",
        )

    def render(self, task: Task) -> Mapping[str, object]:
        """The body of `POST /containers/create`."""
        image = self._image(task)
        layout = self.layout(task.box, task.inputs, task.outputs)
        env = {"HOME": layout.home, "USER": "runner", "LOGNAME": "runner", **task.env}
        limits = task.limits
        host: dict[str, object] = {
            "Mounts": self._mounts(task, image),
            "LogConfig": {"Type": "json-file", "Config": {}},  # `local` lost 31 of 100 MB
            "RestartPolicy": {"Name": "no"},
        }
        if limits.memory_bytes is not None:
            # The same for memory and swap: a script over its limit is told so at once, not after swapping for hours.
            host |= {"Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes}
        if limits.cpus is not None:
            host["NanoCpus"] = round(limits.cpus * 1e9)
        if limits.shm_bytes is not None:
            host["ShmSize"] = limits.shm_bytes
        if limits.ulimits:
            host["Ulimits"] = [
                {"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in limits.ulimits.items()
            ]
        if limits.host_ipc:
            host["IpcMode"] = "host"
        if limits.gpus is not None:
            host["DeviceRequests"] = [{"Count": limits.gpus, "Capabilities": [["gpu"]]}]
        config: dict[str, object] = {
            "Image": task.image,
            "WorkingDir": layout.work,
            "Env": [f"{name}={value}" for name, value in env.items()],
            "Labels": {**task.labels, "runner.key": task.key, "runner.bootstrapped": "1" if image.python else "0"},
            "StopSignal": "SIGTERM",
            # The bootstrapper's grace must end before the engine's, or the final record is never written.
            "StopTimeout": int(limits.grace_s) + 15,
            "HostConfig": host,
            **self._command(task, image),
        }
        if user := self._user(image):
            config["User"] = user
        return config

    def _command(self, task: Task, image: _Image) -> dict[str, list[str]]:
        if image.python is None:
            return {"Entrypoint": [], "Cmd": direct_argv(task.argv)}
        file = f"{_IN_IMAGE}/{COMPILED}" if image.carries else f"{_INJECTED}/{FILE}"
        folders = {folder: f"{_BOX}/outputs/{name}" for name, folder in task.outputs.items() if folder}
        return {
            "Entrypoint": [image.python, "-I", "-S", file],
            "Cmd": arguments(
                task.argv, key=task.key, record=f"{_BOX}/record/status.json", limits=task.limits, outputs=folders,
                secrets=f"{_SECRETS}/{secretfile.NAME}" if task.secrets != {} else None,
            ),
        }  # fmt: skip

    def _mounts(self, task: Task, image: _Image) -> list[dict[str, object]]:
        if not self._engine.local:
            return []
        # Bind mounts by the API fail on a missing source, where `-v` would create it.
        mounts = [_bind(str(task.box.root), _BOX, read_only=False)]
        mounts += [
            _bind(source, _input_target(name, source), read_only=name not in task.writable)
            for name, source in task.inputs.items()
        ]
        if image.python is not None and not image.carries:
            mounts.append(_bind(str(self._staged()), _INJECTED))
        if task.secrets != {}:
            mounts.append(_bind(str(secretfile.folder(task.key)), _SECRETS, read_only=False))
        return mounts

    def _staged(self) -> Path:
        return staged(self._facts.cache, "any")

    def _user(self, image: _Image) -> str:
        """uid:gid inside: the caller's own; for root the user that the image was built for ("" = as the image says)."""
        if os.getuid() != 0:
            return f"{os.getuid()}:{os.getgid()}"
        return image.user

    # -- running --------------------------------------------------------------------------------------------------

    def submit(self, task: Task) -> Handle:
        """Create and start the container; see `Backend.submit`."""
        config = self.render(task)
        _check(task)
        if self._engine.local:
            self._own(task, str(config.get("User") or ""))
        if task.secrets:
            uid, gid = _numeric(str(config.get("User") or "")) or (os.getuid(), os.getgid())
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
        watched = self._watched.setdefault(handle, _Watched(task))
        try:
            if not self._engine.local:
                self._send(handle, task)
            watched.connected = self._engine.connected
            self._take(handle, watched, self._engine.attach(handle), live=True)
            watched.starting = self._starter.start(handle)
        except UnavailableError:
            watched.live = False
            raise
        except BackendError as error:
            self._drop(watched)
            watched.live, watched.start_error = False, error.message

    def _started(self, handle: Handle, watched: _Watched) -> bool:
        """Whether the engine has answered to the start; it takes some 200 ms, in which other tasks go on."""
        if watched.unstarted:
            # The engine went away before it answered: it may have started the container, which must not run twice.
            self._drop(watched)
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
            self._drop(watched)
            watched.live, watched.start_error = False, error.message
        return True

    def _send(self, handle: Handle, task: Task) -> None:
        """To an engine on another machine: everything that would be mounted."""
        image = self._image(task)
        files = {_BOX: task.box.root}
        files |= {_input_target(name, source): Path(source) for name, source in task.inputs.items()}
        if image.python is not None and not image.carries:
            files[_INJECTED] = self._staged()
        remote_files.send(self._engine, handle, files, _numeric(self._user(image)) or (0, 0))

    def _fetch(self, handle: Handle, task: Task) -> None:
        box = task.box
        folders = {
            f"{_BOX}/record": box.record.parent,
            f"{_BOX}/outputs": box.outputs,
            f"{_BOX}/tracking": box.tracking,
        }
        for name in ("outputs", "logs", *(folder for folder in task.outputs.values() if folder)):
            folders[f"{_BOX}/work/{name}"] = box.work / name
        remote_files.fetch(self._engine, handle, folders)

    def find(self, task: Task) -> Handle | None:
        """The container of that key, if one was created."""
        found = self._engine.inspect(f"runner-{task.key}")
        return str(found["Id"]) if found else None

    def watch(self, task: Task, handle: Handle) -> None:
        """Take up a container again: start it if that did not happen, and go on copying its log where it stopped."""
        found = self._engine.inspect(handle)
        watched = self._watched.setdefault(handle, _Watched(task))
        if watched.live:  # submitted twice by this very process
            return
        watched.copied = task.log.stat().st_size if task.log.exists() else 0
        if found is not None and found["State"]["Status"] == "created" and not found["State"].get("Error"):
            self._start(handle, task)
        elif found is not None:
            self._follow(handle, watched)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation | None]:
        """Facts of each container; asks the engine only where something may have changed."""
        return {handle: self._observe(handle) for handle in handles}

    def _observe(self, handle: Handle) -> Observation | None:
        watched = self._watched.get(handle)
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
                self._follow(handle, watched)
        return seen

    def _ended_early(self, watched: _Watched) -> Observation | None:
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

    def _facts_of(self, found: dict[str, Any], watched: _Watched | None) -> Observation:
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
        """Copy logs until a stream ends, or for `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self._flush_all()
            # With bytes that a full disk refuses, the streams are left alone: they would be ready at every look.
            if any(watched.pending for watched in self._watched.values()):
                time.sleep(left)
                return
            if self._read(left):
                return

    def _read(self, timeout: float) -> bool:
        """Copy what is there, or comes first; whether a stream has ended, or a start was answered."""
        changed = False
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._starter.heard()
                changed = True
            else:
                changed |= self._pump(self._watched[key.data])
        return changed

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """SIGTERM (or SIGKILL) to the container's first process, the bootstrapper."""
        watched = self._watched.get(handle)
        if watched is not None and watched.starting is not None:
            watched.starting.exception()  # waits: a container that is just being started would not hear it
        self._engine.kill(handle, "SIGKILL" if force else "SIGTERM")

    def finish(self, handle: Handle) -> Sequence[str]:
        """Copy the rest of the log, and give the box back to the caller."""
        watched = self._watched[handle]
        started = watched.last is None or watched.last.started is not None
        # A stream that broke with its connection is asked for again; a container that is gone has no more to say.
        while started and not watched.whole and self._engine.inspect(handle) is not None:
            if watched.stream is None and not self._follow(handle, watched):
                raise UnavailableError("the engine does not hand over a log", "it is asked again")
            self._drain(watched)
        self._flush(watched, must=True)
        secretfile.remove(watched.task.key)
        if not self._engine.local:
            self._fetch(handle, watched.task)
        self._gather(watched.task)
        if os.getuid() == 0:
            _chown_tree(watched.task.box.root, 0, 0)
        return ()

    def _drain(self, watched: _Watched) -> None:
        """Read the stream of an ended container to its end; the engine has all of it already."""
        while watched.stream is not None:
            if not _readable(watched.stream, 60.0):
                self._drop(watched)
                raise UnavailableError("the engine does not hand over the rest of a log", "it is asked again")
            self._pump(watched)
            self._flush(watched, must=True)

    @staticmethod
    def _gather(task: Task) -> None:
        """Without a bootstrapper nobody moved outputs that have a folder of their own; with one this finds nothing."""
        for name, folder in task.outputs.items():
            if not folder or not plain_folder(task.box.work) or not plain_folder(task.box.outputs):
                continue
            source, target = task.box.work / folder, task.box.outputs / name
            # By real paths: the script can have put a link in the place of any folder on the way.
            real = source.is_dir() and source.resolve() == task.box.work.resolve() / folder
            if real and (not os.path.lexists(target) or (plain_folder(target) and not any(target.iterdir()))):
                source.rename(target)

    def remove(self, handle: Handle) -> None:
        """Remove the container."""
        watched = self._watched.get(handle)
        if watched is not None and watched.early:
            self._engine.wait_stopped(handle, _SETTLE_S)
        self._engine.remove(handle)
        watched = self._watched.pop(handle, None)
        if watched is not None:
            self._drop(watched)
            secretfile.remove(watched.task.key)

    def close(self) -> None:
        """Close streams and connections."""
        for watched in self._watched.values():
            self._drop(watched)
        self._selector.close()
        self._starter.close()
        self._engine.close()

    # -- logs -----------------------------------------------------------------------------------------------------

    def _follow(self, handle: Handle, watched: _Watched) -> bool:
        """Open the engine's log file from its start; what ours has already is passed over. False: there is none."""
        try:
            stream = self._engine.logs(handle)
        except UnavailableError:
            raise
        except BackendError:  # the container is gone; poll will say so
            return False
        self._take(handle, watched, stream, live=False)
        self._pump(watched)
        return True

    def _take(self, handle: Handle, watched: _Watched, stream: Stream, *, live: bool) -> None:
        """Copy from this stream from now on."""
        self._drop(watched)
        watched.stream, watched.live, watched.whole = stream, live, False
        watched.frames, watched.skip, watched.pending = Frames(), 0 if live else watched.copied, b""
        self._selector.register(stream, selectors.EVENT_READ, handle)

    def _pump(self, watched: _Watched) -> bool:
        """Copy what is there; whether the stream has ended. Bytes that a full disk refused are kept and come first."""
        stream = watched.stream
        if stream is None or not self._flush(watched):
            return False
        watched.pending = _unknown(watched, watched.frames.feed(stream.read()))
        self._flush(watched)
        if stream.ended and not watched.pending:
            # A connection to another machine may end by itself, and only the engine's log file tells where it ends.
            watched.whole = (watched.live and self._engine.local) or stream.complete
            watched.ended = time.monotonic()
            self._drop(watched)
            return True
        return False

    def _flush_all(self) -> None:
        for watched in self._watched.values():
            self._flush(watched)

    def _flush(self, watched: _Watched, *, must: bool = False) -> bool:
        """Write pending log bytes; False when the disk is full (`must`: raise instead)."""
        if not watched.pending:
            return True
        fd = os.open(watched.task.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            while watched.pending:
                written = os.write(fd, watched.pending)
                watched.pending = watched.pending[written:]
                watched.copied += written
        except OSError:
            if must:
                raise
            return False
        finally:
            os.close(fd)
        return True

    def _drop(self, watched: _Watched) -> None:
        if watched.stream is not None:
            self._selector.unregister(watched.stream)
            watched.stream.close()
            watched.stream = None

    # -- images ---------------------------------------------------------------------------------------------------

    def _image(self, task: Task) -> _Image:
        """Facts of the task's image, remembered by image id.

        Raises:
            ImageError: it is not on this engine.
            CapabilityError: it has no Python, and the task has secrets.
        """
        reference = task.image or ""
        if reference not in self._images:
            info = self._engine.image(reference)
            if info is None:
                raise ImageError(f"the image {reference} is not on this engine", retryable=False)
            self._images[reference] = self._known(info)
        image = self._images[reference]
        if image.python is None and task.secrets != {}:
            raise CapabilityError(
                f"the image {reference} has no python3 (3.8 or newer), so secrets cannot reach the script unseen",
                "add python3 to the image, or build one with runner build",
            )
        return image

    def _known(self, info: ImageInfo) -> _Image:
        if info.labels.get(LABEL) == str(contract()):
            python = info.labels.get("runner.python", "python3")
            return _Image(info.id, python, carries=True, user=info.labels.get("runner.user", info.user))
        key = f"image.python.{info.id}"
        python = self._facts.fact(key)
        if python is None:
            python = self._probe(info)
            self._facts.remember(key, python)
        return _Image(info.id, python or None, carries=False, user=info.labels.get("runner.user", info.user))

    def _probe(self, info: ImageInfo) -> str:
        """The image's `python3` if it is 3.8 or newer, else "". Costs one container, once per image."""
        name = f"runner-probe-{info.id.rpartition(':')[2][:12]}-{os.getpid()}"
        config: dict[str, Any] = {
            "Image": info.id,
            "Entrypoint": ["python3", "-I", "-S", "-c", "import sys; sys.exit(sys.version_info < (3, 8))"],
            "Cmd": [],
            "Labels": {"runner.probe": "1"},
            "HostConfig": {"NetworkMode": "none"},
        }
        for old in self._engine.labelled("runner.probe=1"):  # of a process that was killed in the lines below
            if time.time() - old["Created"] > _PROBE_S * 5:
                self._engine.remove(old["Id"])
        container = self._engine.create(name, config)
        try:
            self._engine.start(container)
            if not self._engine.wait_stopped(container, _PROBE_S):
                raise UnavailableError(
                    "the engine does not end a container that asks an image for its Python", "try again"
                )
            found = self._engine.inspect(container)
            return "python3" if found and found["State"]["ExitCode"] == 0 else ""
        except BackendError as error:
            # The answer is remembered, so an engine's passing trouble must not be taken for an image without Python.
            if error.code == 400:  # no such executable, or not for this machine
                return ""
            raise
        finally:
            self._engine.remove(container)

    @staticmethod
    def _own(task: Task, user: str) -> None:
        """Give the box to the user inside. A user that is only a name cannot be looked up from here: open it to all."""
        if os.getuid() != 0 or not user or user in {"0", "root", "0:0"}:
            return
        if (ids := _numeric(user)) is not None:
            _chown_tree(task.box.root, *ids)
        else:
            for folder, _, files in os.walk(task.box.root):
                Path(folder).chmod(0o777)
                for file in files:
                    if not (path := Path(folder, file)).is_symlink():
                        path.chmod(path.stat().st_mode | 0o666)


def _readable(stream: Stream, timeout: float) -> bool:
    """Whether the stream has something within so many seconds."""
    poller = select.poll()
    poller.register(stream, select.POLLIN)
    return bool(poller.poll(timeout * 1000))


def _check(task: Task) -> None:
    """Refuse what would not arrive as it is, or would fail in a way that looks like the script's own end.

    Raises:
        SpecError: an argument or variable is no text, or all together are more than Linux takes.
    """
    words = [*task.argv, *(f"{name}={value}" for name, value in task.env.items())]
    for word in words:
        if not word.isascii() and word != os.fsencode(word).decode("utf-8", "replace"):
            raise SpecError(
                f"{word!r} is not UTF-8, and an engine takes nothing else", "pass it in a file, with --input"
            )
    if (size := sum(len(os.fsencode(word)) + 9 for word in words)) > _ARGUMENTS_MAX:
        raise SpecError(
            f"arguments and variables have {size:,} bytes together, and Linux takes 2 MiB", "pass them in a file"
        )


def _unknown(watched: _Watched, data: bytes) -> bytes:
    """What the log does not have yet of the next bytes of the engine's log file, which is read anew.

    That file spoils what is not UTF-8. Where it differs from what we have, it is taken as it is from there on: better
    spoilt than twice or not at all.
    """
    if not (again := data[: watched.skip]):
        return data
    with watched.task.log.open("rb+") as log:
        log.seek(watched.copied - watched.skip)
        have = log.read(len(again))
        if have == again:
            watched.skip -= len(again)
            return data[len(again) :]
        same = next((n for n, (a, b) in enumerate(zip(have, again, strict=False)) if a != b), len(have))
        watched.copied += same - watched.skip
        log.truncate(watched.copied)
    watched.skip = 0
    return data[same:]


def _bind(source: str, target: str, *, read_only: bool = True) -> dict[str, object]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _input_target(name: str, source: str) -> str:
    path = Path(source)
    return f"{_INPUTS}/{name}" if path.is_dir() else f"{_INPUTS}/{name}/{path.name}"


def _numeric(user: str) -> tuple[int, int] | None:
    uid, _, gid = user.partition(":")
    if uid.isdigit() and (not gid or gid.isdigit()):
        return int(uid), int(gid or uid)
    return None


def _chown_tree(root: Path, uid: int, gid: int) -> None:
    for folder, folders, files in os.walk(root):
        os.chown(folder, uid, gid)
        for name in (*files, *folders):
            os.chown(f"{folder}/{name}", uid, gid, follow_symlinks=False)


def _moment(text: str | None) -> float | None:
    """Seconds since the epoch of the engine's RFC 3339; its zero time means never."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).timestamp()
