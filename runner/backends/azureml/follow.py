"""Follows the tasks of one backend in the background, so that who asks for their state never waits for the network.

One thread asks for the states of all of them in one question, about every second; a few more read logs on, and bring what an
ended task left. Only when that is here is the task said to have ended.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.backends.azureml import trials
from runner.backends.azureml.names import child, root_of, run_of
from runner.backends.azureml.observe import observation
from runner.backends.azureml.outputs import Left, keep_record
from runner.backends.azureml.tail import Tail
from runner.backends.base import Observation, Phase, Tried
from runner.errors import BackendError, NotFoundError, RunnerError, UnavailableError
from runner.sweeps.rows import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.backends.azureml.blobs import Datastores
    from runner.backends.azureml.outputs import Outputs
    from runner.backends.azureml.service import Json, Service
    from runner.backends.base import Handle, Task

_THREADS = 8
_EVERY_S = 1.0
_QUEUED_S = (1.0, 5.0)
"""How often a task is asked for that waits, at first and at last."""
_BROKEN_S = (1.0, 10.0)
_PATIENCE_S = 5.0
_FORGOTTEN_S = 60.0
"""A job may be accepted for so long before the run history knows of it."""

_TALKING = frozenset({Phase.RUNNING, Phase.FINALIZING})


@dataclass(slots=True)
class Watched:
    """A task that is followed. seen: what is known; None once it is known that the service has no such run."""

    task: Task
    tail: Tail
    since: float
    seen: Observation | None
    asked: bool = False
    guessed: bool = False
    """Whether `seen` is no more than a start: neither has the service been asked, nor was it submitted just now."""
    steps: Mapping[str, Handle] | None = None
    """Of a plan that was handed over whole, as far as they are known."""
    states: Mapping[Handle, Observation] = field(default_factory=dict)
    """Of these steps, as of when they were asked for."""
    tried: Tried = field(default_factory=Tried)
    """Of its sweeps, as of the same moment."""
    drawn: dict[str, Json] = field(default_factory=dict)
    """Trials whose own job was asked for what was drawn for it."""
    reading: Future[None] | None = None
    bringing: Future[tuple[str, ...]] | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing about it can change any more."""
        return self.asked and (self.seen is None or self.bringing is not None)


@dataclass(slots=True)
class Follower:
    """The tasks that are followed, and the threads that do so; these start with the first task."""

    service: Service
    datastores: Datastores
    outputs: Outputs
    problem: UnavailableError | None = None
    """Why nothing is known now; None: it is."""
    _watched: dict[Handle, Watched] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _round: threading.Event = field(default_factory=threading.Event)
    _threads: ThreadPoolExecutor | None = None
    _thread: threading.Thread | None = None
    _version: int = 0
    _closed: bool = False

    def watch(self, task: Task, handle: Handle, *, submitted: bool = False) -> None:
        """Follow a task from now on. submitted: just now, so that it waits."""
        with self._changed:
            if handle in self._watched:
                return
            kept = task.box.root / "tail.json"
            tail = Tail(self.service, self.datastores, run_of(handle), task.key, task.log, kept)
            seen = self._of_its_whole(handle)
            self._watched[handle] = Watched(
                task, tail, time.monotonic(), seen or Observation(Phase.QUEUED), guessed=seen is None and not submitted
            )
            if self._thread is None:
                self._threads = ThreadPoolExecutor(_THREADS, "azureml")
                self._thread = threading.Thread(target=self._run, name="azureml", daemon=True)
                self._thread.start()
        self._round.set()

    def forget(self, handle: Handle) -> None:
        """Follow it no more."""
        with self._changed:
            self._watched.pop(handle, None)

    def known(self, handle: Handle) -> Watched | None:
        """What is followed under that handle."""
        with self._changed:
            return self._watched.get(handle)

    def unwatched(self, handle: Handle) -> Observation | None:
        """What is known of a step that is not followed itself, but its whole is; None: nothing.

        It has not ended before it was followed, so that who takes it up never waits for what it left; but one that never
        began leaves nothing.
        """
        with self._changed:
            seen = self._of_its_whole(handle)
        if seen is None or seen.phase is not Phase.ENDED or (seen.started is None and _is(seen, "Canceled")):
            return seen
        return unbrought(seen)

    def _of_its_whole(self, handle: Handle) -> Observation | None:
        whole = self._watched.get(root_of(handle))
        return whole.states.get(handle) if whole is not None and root_of(handle) != handle else None

    def hurry(self) -> None:
        """Ask for the states now, not when it is time."""
        self._round.set()

    def wait(self, timeout: float, version: int | None = None) -> int:
        """Return when something may have changed since `version`, or after `timeout` seconds; the version then."""
        with self._changed:
            before = self._version if version is None else version
            self._changed.wait_for(lambda: self._version != before or self._closed, timeout)
            return self._version

    def warnings(self, handle: Handle) -> tuple[str, ...]:
        """Wait until what an ended task left is here.

        Raises:
            UnavailableError, OSError: it could not be brought; ask again, and it is tried again.
        """
        watched = self.known(handle)
        if watched is None:
            raise UnavailableError(f"{handle} is not followed", "it is taken up again")
        with self._changed:
            bringing = watched.bringing
            if bringing is None:
                bringing = watched.bringing = self._submit(handle, watched)
            elif bringing.done() and bringing.exception() is not None:
                watched.bringing = self._submit(handle, watched)  # for the next who asks
        return bringing.result()

    def close(self) -> None:
        """Stop. What is under way is given up; the service's connections must be closed before."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._round.set()
        if self._thread is not None:
            self._thread.join(30)
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        broken = _BROKEN_S[0]
        while not self._closed:
            self._round.clear()
            with self._changed:
                live = {handle: one for handle, one in self._watched.items() if not one.settled}
            pause = _QUEUED_S[1]
            if live:
                try:
                    self._ask(live)
                    pause, broken, self.problem = self._pause(live), _BROKEN_S[0], None
                except RunnerError as error:
                    # Whatever it is, the jobs go on there: a sign-in that ran out is no end of theirs.
                    self.problem = unavailable(error)
                    pause, broken = broken, min(broken * 2, _BROKEN_S[1])
                except Exception as error:  # noqa: BLE001 - a thread that died would leave its runs Running for ever
                    self.problem = UnavailableError(f"an answer of Azure ML was not understood: {error!r}")
                    pause, broken = broken, min(broken * 2, _BROKEN_S[1])
                self._tell()
            self._round.wait(pause)

    def _pause(self, live: Mapping[Handle, Watched]) -> float:
        """Seconds until the next round: what waits long is asked for less often."""
        now, least = time.monotonic(), _QUEUED_S[1]
        for one in live.values():
            waits = one.seen is not None and one.seen.phase in {Phase.QUEUED, Phase.PREPARING}
            least = min(least, max(_QUEUED_S[0], (now - one.since) / 10) if waits else _EVERY_S)
        return least

    def _tell(self) -> None:
        with self._changed:
            self._version += 1
            self._changed.notify_all()

    def _ask(self, live: Mapping[Handle, Watched]) -> None:
        found = self.states(list(live), patience_s=_PATIENCE_S)
        for handle, one in live.items():
            if handle not in found:
                continue
            seen = found[handle]
            young = time.monotonic() - one.since < _FORGOTTEN_S
            if seen is None and young and not one.asked:
                continue
            one.seen, one.asked, one.guessed = seen, True, False
            if seen is None:
                continue
            if seen.phase is Phase.ENDED:
                with self._changed:
                    if one.bringing is None:
                        one.bringing = self._submit(handle, one)
            elif seen.phase in _TALKING and (one.reading is None or one.reading.done()):
                one.reading = self._pool().submit(self._read, one)

    def states(self, handles: Sequence[Handle], *, patience_s: float | None = None) -> dict[Handle, Observation | None]:
        """What the service says of tasks now, in one question for 200; None: it has no such run."""
        runs = self.service.runs([run_of(handle) for handle in handles], patience_s=patience_s)
        found: dict[Handle, Observation | None] = {}
        for handle in handles:
            if run_of(handle) not in runs:
                continue
            run = runs[run_of(handle)]
            one = self.known(handle)
            foreign = one is not None and one.task.remote is not None and one.task.remote.foreign is not None
            if run is None:
                found[handle] = self._accepted(handle)
            else:
                found[handle] = observation(run, bootstrapped=not foreign)
        return found

    def _accepted(self, handle: Handle) -> Observation | None:
        """A job that the run history does not know (yet): whether it was accepted at all."""
        if run_of(handle) != handle:
            return None
        try:
            job: Json = self.service.job(handle)
        except NotFoundError:
            return None
        properties = job.get("properties") or {}
        return observation({"status": properties.get("status") or "NotStarted"})

    # -- what the other threads do --------------------------------------------------------------------------------

    def _pool(self) -> ThreadPoolExecutor:
        assert self._threads is not None  # noqa: S101 - made with the first task
        return self._threads

    def _submit(self, handle: Handle, one: Watched) -> Future[tuple[str, ...]]:
        future = self._pool().submit(self._bring, handle, one)
        future.add_done_callback(lambda _: self._tell())
        return future

    def _read(self, one: Watched) -> None:
        """Read a log on, or look for further steps. What cannot be had now is had with the next turn, or at the end."""
        with suppress(RunnerError, OSError):
            if one.task.whole is None:
                one.tail.pull()
            else:
                self.look(one)
                self._tell()

    def _bring(self, handle: Handle, one: Watched) -> tuple[str, ...]:
        """Log, record and outputs of an ended task."""
        if one.reading is not None:
            one.reading.result()
        task, run = one.task, one.tail.run
        if task.whole is not None:
            self.look(one)
            return ()
        if one.seen is None or one.seen.phase is not Phase.ENDED:
            one.seen = self.states([handle]).get(handle, one.seen)
        reused = one.seen.platform.reused if one.seen and one.seen.platform else None
        if reused:
            # The step did not run: what there is of it is that of the run that stands for it.
            one.tail.run, one.tail.any_key = reused, True
        warnings: list[str] = []
        left = Left(reused or run)
        with _told("the log is not complete", warnings):
            one.tail.pull(last=True)
        with _told("what the script left was not brought", warnings):
            left = self.outputs.left(run, list(task.outputs), artifacts_of=reused)
            warnings += self.outputs.bring(left, task.box)
        with _told("the record was not brought", warnings):
            record = self.outputs.record(left) or one.tail.record
            if record is not None:
                ours = reused is not None or record.get("attempt") == run
                keep_record(task.box, {**record, "attempt": task.key} if ours else record)
        return tuple(warnings)

    # -- plans --------------------------------------------------------------------------------------------------------

    def look(self, one: Watched) -> None:
        """Ask which steps of a whole there are (see `PlanBackend.steps`), and how they stand."""
        runs = self._steps(one)
        root = one.tail.run
        one.states = {child(root, str(run["runId"])): observation(run) for run in runs.values() if run["runId"] != root}
        one.steps = {
            name: root if run["runId"] == root else child(root, str(run["runId"])) for name, run in runs.items()
        }
        assert one.task.whole is not None  # noqa: S101 - the caller looked
        # Last, so that whoever reads of an ended sweep finds all its trials among the steps.
        one.tried = trials.tried(one.task.whole, runs, lambda run: self._parameters(one, run))

    def _steps(self, one: Watched) -> dict[str, Json]:
        """Step → its run. A step is told by its display name, a trial by its number."""
        assert one.task.whole is not None  # noqa: S101 - the caller looked
        whole, root = one.task.whole, one.tail.run
        if whole.single_sweep:
            name = whole.members[0].name
            own = self.service.runs([root], patience_s=_PATIENCE_S).get(root)
            return {name: own or {"runId": root}, **self._trials(root, name)}
        members = {member.name: member for member in whole.members}
        found: dict[str, Json] = {}
        for run in self._children(root):
            name = str(run.get("displayName") or run.get("name") or "")
            if name in members:
                found[name] = run
                if members[name].sweep is not None:
                    found |= self._trials(str(run["runId"]), name)
        return found

    def _trials(self, sweep: str, name: str) -> dict[str, Json]:
        return {path_of(name, number): run for number, run in enumerate(self._children(sweep))}

    def _parameters(self, one: Watched, run: str) -> Json:
        """What the job of a trial says was drawn for it; asked for once."""
        if run not in one.drawn:
            try:
                one.drawn[run] = (self.service.job(run).get("properties") or {}).get("parameters") or {}
            except NotFoundError:
                one.drawn[run] = {}
        return one.drawn[run]

    def _children(self, run: str) -> list[Json]:
        return [one for one in self.service.children(run, patience_s=_PATIENCE_S) if one.get("runId")]


@contextmanager
def _told(what: str, warnings: list[str]) -> Iterator[None]:
    """What the service refuses for good becomes a warning; what may be had later (a sign-in that ran out) is waited for."""
    try:
        yield
    except UnavailableError:
        raise
    except RunnerError as error:
        if isinstance(error, BackendError) and error.code == 401:
            raise unavailable(error) from None
        warnings.append(f"{what}: {' '.join([error.message, *error.hints])}")


def shown(one: Watched) -> Observation | None:
    """What is said of a task: that it has ended only once all of it is here, or cannot be had at first."""
    seen = one.seen
    if seen is None or seen.phase is not Phase.ENDED:
        return seen
    return seen if one.bringing is not None and one.bringing.done() else unbrought(seen)


def unbrought(seen: Observation) -> Observation:
    """What is said of a task whose files are not here: that it has not ended."""
    if seen.phase is not Phase.ENDED:
        return seen
    return replace(seen, phase=Phase.FINALIZING, platform=None, finished=None)


def _is(seen: Observation, status: str) -> bool:
    return seen.platform is not None and seen.platform.status == status


def unavailable(error: RunnerError) -> UnavailableError:
    """An error of a question about a job that goes on whatever we may ask: not known now, and asked again."""
    return error if isinstance(error, UnavailableError) else UnavailableError(error.message, *error.hints)
