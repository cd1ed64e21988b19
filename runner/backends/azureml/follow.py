"""Follows the tasks of one backend in the background, so that who asks for their state never waits for the network.

One thread asks for the states of all of them in one question, about every second; one says which logs are to be read on. The
reading is done by threads of their own, and so is the bringing of what an ended task left: neither a slow answer about
states nor a long download holds up a line of a log. Only when all of it is here is a task said to have ended.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.backends.azureml.bring import bring, unavailable
from runner.backends.azureml.names import root_of, run_of
from runner.backends.azureml.observe import observation
from runner.backends.azureml.parts import parts_of
from runner.backends.azureml.tail import Tail
from runner.backends.azureml.watched import Watched, never_began, unfinished
from runner.backends.base import Observation, Phase
from runner.errors import NotFoundError, RunnerError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from runner.backends.azureml.blobs import Datastores
    from runner.backends.azureml.outputs import Outputs
    from runner.backends.azureml.parts import Parts
    from runner.backends.azureml.service import Json, Service
    from runner.backends.base import Handle, Task

_READERS, _BRINGERS = 8, 4
_EVERY_S = 1.0
_LOG_S = (0.4, 1.0)
"""How often a log is looked at that has something new, and one that has not."""
_QUEUED_S = (1.0, 5.0)
"""How often a task is asked for that waits, at first and at last."""
_BROKEN_S = (1.0, 10.0)
_PATIENCE_S = 5.0
_GIVEN_UP_S = 15 * 60.0
"""For so long the storage of a job that has ended may fail while the service answers; then what it holds is left there."""
_FORGOTTEN_S = 60.0
"""A job may be accepted for so long before the run history knows of it."""

_TALKING = frozenset({Phase.RUNNING, Phase.FINALIZING})


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
    _talk: threading.Event = field(default_factory=threading.Event)
    _readers: ThreadPoolExecutor | None = None
    _bringers: ThreadPoolExecutor | None = None
    _threads: tuple[threading.Thread, ...] = ()
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
            if not self._threads:
                self._start()
        self._round.set()

    def _start(self) -> None:
        self._readers = ThreadPoolExecutor(_READERS, "azureml-logs")
        self._bringers = ThreadPoolExecutor(_BRINGERS, "azureml-ends")
        loops = {"azureml-states": self._follow_states, "azureml-talk": self._follow_logs}
        self._threads = tuple(threading.Thread(target=run, name=name, daemon=True) for name, run in loops.items())
        for thread in self._threads:
            thread.start()

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
        return seen if seen is None or seen.phase is not Phase.ENDED or never_began(seen) else unfinished(seen)

    def _of_its_whole(self, handle: Handle) -> Observation | None:
        whole = self._watched.get(root_of(handle))
        parts = whole.parts if whole is not None and root_of(handle) != handle else None
        return parts.states.get(handle) if parts is not None else None

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
        self._talk.set()
        for thread in self._threads:
            thread.join(30)
        for pool in (self._readers, self._bringers):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    # -- the two threads ------------------------------------------------------------------------------------------

    def _follow_states(self) -> None:
        broken, due = _BROKEN_S[0], 0.0
        while not self._closed:
            hurried = self._round.is_set()
            self._round.clear()
            live = self._live()
            if live and (hurried or time.monotonic() >= due):
                if self._asked(live):
                    broken, pause = _BROKEN_S[0], self._pause(live)
                else:
                    broken, pause = min(broken * 2, _BROKEN_S[1]), broken
                due = time.monotonic() + pause
                self._tell()
                self._talk.set()
            self._round.wait(max(0.0, due - time.monotonic()) if live else _QUEUED_S[1])

    def _follow_logs(self) -> None:
        talks = False
        while not self._closed:
            self._talk.wait(_LOG_S[0] if talks else None)
            self._talk.clear()  # before the look: what is told from now on is another turn's
            talks = self._look_at_logs()

    def _live(self) -> dict[Handle, Watched]:
        with self._changed:
            return {handle: one for handle, one in self._watched.items() if not one.settled}

    def _asked(self, live: Mapping[Handle, Watched]) -> bool:
        """Ask for all states; whether there was an answer, else `problem` says why not."""
        try:
            self._ask(live)
        except RunnerError as error:
            # Whatever it is, the jobs go on there: a sign-in that ran out is no end of theirs.
            self.problem = unavailable(error)
            return False
        except Exception as error:  # noqa: BLE001 - a thread that died would leave its runs Running for ever
            self.problem = UnavailableError(f"an answer of Azure ML was not understood: {error!r}")
            return False
        self.problem = None
        return True

    def _look_at_logs(self) -> bool:
        """Have those logs read on for which it is time; whether there are any that grow."""
        now, talks = time.monotonic(), False
        with self._changed:  # so that none is begun once its end is being brought
            for one in self._watched.values():
                if self._closed or one.bringing is not None or one.seen is None or one.seen.phase not in _TALKING:
                    continue
                talks = True
                if now - one.read >= _LOG_S[not one.news] and (one.reading is None or one.reading.done()):
                    assert self._readers is not None  # noqa: S101 - made with the first task
                    one.read, one.reading = now, self._readers.submit(self._read, one)
        return talks

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

    def _submit(self, handle: Handle, one: Watched) -> Future[tuple[str, ...]]:
        assert self._bringers is not None  # noqa: S101 - made with the first task
        future = self._bringers.submit(self._bring, handle, one)
        future.add_done_callback(lambda _: self._tell())
        return future

    def _read(self, one: Watched) -> None:
        """Read a log on, or look for further steps. What cannot be had now is had with the next turn, or at the end."""
        with suppress(RunnerError, OSError):
            if one.task.whole is None:
                one.news = one.tail.pull()
            else:
                self.look(one)
                self._tell()

    def look(self, one: Watched) -> Parts:
        """Ask which steps of a whole there are."""
        assert one.task.whole is not None  # noqa: S101 - the caller looked
        one.parts = parts_of(self.service, one.task.whole, one.tail.run, one.parts)
        return one.parts

    def _bring(self, handle: Handle, one: Watched) -> tuple[str, ...]:
        """What an ended task left."""
        if one.reading is not None:
            one.reading.result()
        if one.task.whole is not None:
            self.look(one)
            return ()
        if one.seen is None or one.seen.phase is not Phase.ENDED:
            one.seen = self.states([handle]).get(handle, one.seen)
        reused = one.seen.platform.reused if one.seen and one.seen.platform else None
        try:
            return bring(self.outputs, one.tail, one.task, run_of(handle), reused)
        except UnavailableError:
            if not self._given_up(handle, one):
                raise
        return bring(self.outputs, one.tail, one.task, run_of(handle), reused, whatever=True)

    def _given_up(self, handle: Handle, one: Watched) -> bool:
        """Whether the storage alone has failed for too long. Where nobody answers at all, it is we who are cut off."""
        if not self.states([handle], patience_s=_PATIENCE_S):
            return False
        now = time.monotonic()
        one.failing = now if one.failing is None else one.failing
        return now - one.failing >= _GIVEN_UP_S
