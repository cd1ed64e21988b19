"""The attempts of one step: submitted, observed, recorded, tried again. See the package for what a kill may interrupt."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING

from runner import artifacts, tracking, verdict
from runner.backends import secretfile
from runner.backends.base import Box, Phase
from runner.bootstrapper import final_outcome, read_record
from runner.composer import compose_task
from runner.engine import logindex
from runner.engine.context import TICK_S
from runner.engine.patience import PASSING, Patience
from runner.errors import ImageError, RunnerError, StoreError, UnavailableError
from runner.model import Reason, Status
from runner.store import remove_tree, write_aside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.backends.base import Handle, Observation, Task
    from runner.engine.context import Context
    from runner.engine.publish import Copying
    from runner.model import Limits, Outcome, Step
    from runner.store import AttemptFolder, RunRow

_RETRY_PAUSE_S = (1.0, 60.0)
FORCE_AFTER_S = 10.0
"""After the grace, the bootstrapper has killed and written its record within this; else we kill it."""
_HEARS_S = 5.0
"""A bootstrapper has started within this; a busy machine needs a second, an idle one 20 ms."""
_PUBLISHED_S = 0.02
"""How often we look whether a copy is done; a backend's `wait` does not tell."""
_BACKSTOP_S = 30.0
"""Our own timeout comes this long after the bootstrapper's limit and grace, so that its word is the usual one."""

PHASES = {
    Phase.QUEUED: Status.QUEUED,
    Phase.PREPARING: Status.PREPARING,
    Phase.STARTING: Status.STARTING,
    Phase.RUNNING: Status.RUNNING,
    Phase.FINALIZING: Status.FINALIZING,
    Phase.NOT_RESPONDING: Status.NOT_RESPONDING,
}


@dataclass(frozen=True, slots=True)
class Attached:
    """A step that somebody else submits and cancels.

    handle: what the backend calls it. seen: the newest observation of it; None: the backend does not know it.
    """

    handle: Handle
    seen: Callable[[], Observation | None]


class _State(Enum):
    PAUSED = auto()
    SUBMIT = auto()
    IN_FLIGHT = auto()
    FINISH = auto()
    PUBLISH = auto()
    CLEAN = auto()
    DONE = auto()


class StepDriver:
    """The attempts of one step, as a state machine that never blocks: `advance` does what can be done now.

    Args:
        run: its row. code: the folder that is copied for each attempt; None: none.
        step: what to run, its inputs in place; default: the row's.
        attached: the step is part of a whole that the backend starts and stops itself; see `Attached`.
        clean_later: `outcome` is there as soon as it is recorded, and `advance` has to be called until `done` all the same.
    """

    def __init__(
        self,
        context: Context,
        run: RunRow,
        *,
        code: Path | None,
        step: Step | None = None,
        clean_later: bool = False,
        attached: Attached | None = None,
    ) -> None:
        self.outcome: Outcome | None = None
        self._clean_later, self._attached = clean_later, attached
        self._remote = context.backend.capabilities.remote
        self._context, self._run, self._code = context, run, code
        self._given = step or run.step
        self._store, self._backend = context.store, context.backend
        self._status, self._note = run.status, run.note
        self._cancel_by: str | None = run.cancel_by
        self._why = ""
        self._cancel_seen: float | None = None
        self._asked_at: float | None = None
        self._forced = False
        self._timed_out = False
        self._running_since: float | None = None
        self._backoff = Patience(lambda why: self._show(Status.NOT_RESPONDING, why))
        self._number = 1
        self._folder: AttemptFolder = self._store.folder(run.name).attempt(1)
        self._task: Task | None = None
        self._handle: str | None = None
        self._seen: Observation | None = None
        self._ended: Outcome | None = None
        self._publishing: tuple[Outcome, Copying] | None = None
        self._log_size = 0
        self._state = _State.SUBMIT
        self._recovered = self._resume()

    def _resume(self) -> bool:
        """Take up where a killed supervisor stopped; whether there was one."""
        attempts = self._store.attempts(self._run) if self._run.attempts else []
        if not attempts:
            return False
        last = attempts[-1]
        self._number, self._handle = last.number, last.handle
        self._folder = self._store.folder(self._run.name).attempt(last.number)
        if last.outcome is not None:
            self._ended = last.outcome
            self._state = _State.CLEAN
        return True

    @property
    def number(self) -> int:
        """Of the attempt that is under way, or was the last."""
        return self._number

    @property
    def done(self) -> bool:
        """Whether it has ended, and the backend holds nothing of it."""
        return self._state is _State.DONE

    def cancel(self, by: str, why: str = "") -> None:
        """Ask for the end, as if it had been asked for in the store. why: what the outcome says if it ends by this."""
        self._cancel_by = self._cancel_by or by
        self._why = self._why or why

    def advance(self) -> float:
        """Do what can be done now; seconds until there is something to do again at the latest."""
        left = self._backoff.left
        # A cancel ends a pause between attempts at once; a pause for an unreachable backend has to be waited for.
        if left > 0 and not (self._state is _State.PAUSED and self._cancel_asked()):
            return left
        return self._backoff.tried(self._step)

    def _step(self) -> float:
        match self._state:
            case _State.PAUSED | _State.SUBMIT:
                return self._submit()
            case _State.IN_FLIGHT:
                return self._observe()
            case _State.FINISH:
                return self._finish()
            case _State.PUBLISH:
                return self._publish()
            case _State.CLEAN:
                return self._clean()
            case _State.DONE:
                return TICK_S

    # -- submitting -----------------------------------------------------------------------------------------------

    def _submit(self) -> float:
        task = self._compose()
        if self._attached is not None:
            return self._attach(task, self._attached)
        if self._recovered or self._task is not None:
            # A killed supervisor may have submitted it without recording so, and so may a call that found no answer.
            self._handle = self._handle or self._backend.find(task)
            if self._handle is not None:
                self._backend.watch(task, self._handle)
                return self._in_flight(task)
        self._task = task
        if self._cancel_asked(now=True):
            self._store.begin_attempt(self._run, self._number)
            return self._fail_early(verdict.canceled(self._cancel_by or "user"))
        if task.secrets is None:
            self._store.begin_attempt(self._run, self._number)
            return self._fail_early(verdict.secret_missing(self._given.secrets))
        self._show(Status.PREPARING)
        self._store.begin_attempt(self._run, self._number)
        try:
            self._prepare(task)
            self._show(Status.STARTING)
            self._handle = self._backend.submit(task)
        except (UnavailableError, StoreError):
            raise
        except ImageError as error:
            return self._fail_early(verdict.image_unavailable(str(error), retryable=error.retryable))
        except RunnerError as error:
            who = "the service" if self._remote else "the engine"
            return self._fail_early(verdict.start_failed(str(error), who))
        except OSError as error:
            if error.errno in PASSING:
                raise
            return self._fail_early(verdict.start_failed(str(error)))
        self._store.set_handle(self._run, self._number, self._handle)
        return self._in_flight(task)

    def _prepare(self, task: Task) -> None:
        """Make the box. Of a backend elsewhere it receives what comes back, and the code goes there by itself."""
        artifacts.prepare(task.box, None if self._remote else self._code, dict(self._given.outputs))
        if not self._remote:
            tracking.prepare(task.box.tracking, seen=task.tracking, run=self._run.name, experiment=self._run.experiment)

    def _attach(self, task: Task, attached: Attached) -> float:
        """Take up what the backend has begun. The box is there before the attempt is, so it is there after a kill too."""
        if not self._recovered:
            self._prepare(task)
            self._store.begin_attempt(self._run, self._number)
        self._handle = attached.handle
        self._store.set_handle(self._run, self._number, self._handle)
        self._backend.watch(task, self._handle)
        return self._in_flight(task)

    def _compose(self) -> Task:
        run, step, box = self._run, self._attempted(), Box(self._folder.box)
        return compose_task(
            step, run=run.name, experiment=run.experiment, number=self._number, store_id=self._store.id,
            secrets=self._context.secrets_of(step), box=box, log=self._folder.log,
            layout=self._backend.layout(box, step.inputs, step.outputs, step.files), code=self._code,
        )  # fmt: skip

    def _attempted(self) -> Step:
        """The step with the limits of this attempt: each one more may get more memory."""
        step, factor = self._given, self._given.retry.memory_factor
        memory = step.limits.memory_bytes
        if factor is None or memory is None or self._number == 1:
            return step
        limits: Limits = replace(step.limits, memory_bytes=int(memory * factor ** (self._number - 1)))
        return replace(step, limits=limits)

    def _in_flight(self, task: Task) -> float:
        self._task = task
        self._state = _State.IN_FLIGHT
        return 0.0

    def _fail_early(self, outcome: Outcome) -> float:
        """The attempt ended before there was a task."""
        self._folder.root.mkdir(parents=True, exist_ok=True)
        self._record_end(outcome)
        return 0.0

    # -- observing ------------------------------------------------------------------------------------------------

    def _observe(self) -> float:
        assert self._task is not None  # noqa: S101 - the state says so
        assert self._handle is not None  # noqa: S101
        seen = self._attached.seen() if self._attached else self._backend.poll([self._handle])[self._handle]
        self._index_log()
        if seen is None or seen.phase is Phase.ENDED:
            self._seen = seen
            self._state = _State.FINISH
            return 0.0
        self._note_running(seen)
        self._press(self._task, self._handle, seen)
        if self._asked_at is None:
            self._show(PHASES[seen.phase], seen.note)
        elif self._status is Status.NOT_RESPONDING:
            self._show(Status.RUNNING if self._timed_out else Status.CANCEL_REQUESTED)
        return TICK_S

    def _note_running(self, seen: Observation) -> None:
        if seen.phase is not Phase.RUNNING or self._running_since is not None:
            return
        # After a restart of ours only the wall clock knows since when; it may have been set back meanwhile.
        ago = time.time() - _epoch(seen.started) if self._recovered and seen.started else 0.0
        self._running_since = time.monotonic() - max(0.0, ago)

    def _press(self, task: Task, handle: str, seen: Observation) -> None:
        """Carry out a cancel, and the timeouts that the bootstrapper cannot keep or did not keep."""
        now = time.monotonic()
        if self._attached is not None:  # whoever holds the whole asks, and the service keeps the limits
            if self._asked_at is None and self._cancel_asked():
                self._show(Status.CANCEL_REQUESTED)
                self._asked_at = now
            return
        limit, grace = task.limits.timeout_s, task.limits.grace_s
        if self._asked_at is None and self._cancel_asked() and self._hears(task, seen, now):
            self._ask(handle, now)
        if limit is not None and self._running_since is not None and self._asked_at is None:
            backstop = limit + (grace + _BACKSTOP_S if seen.bootstrapped else 0.0)
            if now - self._running_since >= backstop:
                self._timed_out = True
                self._ask(handle, now)
        if self._asked_at is not None and not self._forced:
            patience = grace + (FORCE_AFTER_S if seen.bootstrapped else 0.0)
            if now - self._asked_at >= patience:
                self._backend.cancel(handle, force=True)
                self._forced = True

    def _hears(self, task: Task, seen: Observation, now: float) -> bool:
        """Whether the bootstrapper takes signals yet: the kernel drops what comes earlier for a container's first process.

        It writes its record right after it has blocked them. One that cannot write is asked after 5 s all the same.
        """
        self._cancel_seen = self._cancel_seen or now
        if self._remote or not seen.bootstrapped or now - self._cancel_seen > _HEARS_S:
            return True
        return (read_record(task.box.record) or {}).get("attempt") == task.key

    def _ask(self, handle: str, now: float) -> None:
        self._show(Status.CANCEL_REQUESTED if not self._timed_out else Status.RUNNING)
        self._backend.cancel(handle)
        self._asked_at = now

    def _cancel_asked(self, *, now: bool = False) -> bool:
        """Whether somebody wants the end, as of the last tick; `now`: as of now, where it decides what is done next."""
        if self._cancel_by is None:
            if now:
                self._context.cancels.refresh()
            self._cancel_by = self._context.cancels.of(self._run)
        return self._cancel_by is not None

    # -- ending ---------------------------------------------------------------------------------------------------

    def _finish(self) -> float:
        """Make log, record and outputs safe, judge, and record the end. Each part may run again after a kill."""
        assert self._task is not None  # noqa: S101 - the state says so
        assert self._handle is not None  # noqa: S101
        task, step = self._task, self._given
        self._show(Status.FINALIZING)
        warnings = self._backend.finish(self._handle)
        self._index_log()
        # The script may have put a link in the place of the folder, and so would choose what we read.
        record = read_record(task.box.record) if artifacts.plain_folder(task.box.record.parent) else None
        outcome = self._judge(final_outcome(record, task.key))
        if record is not None:
            write_aside(self._folder.record, json.dumps(record).encode())
        for warning in warnings:
            outcome = outcome.with_warning(warning)
        try:
            for warning in artifacts.collect(
                task.box, self._code, self._folder.artifacts, dict(step.outputs), self._run.name
            ):
                outcome = outcome.with_warning(warning)
        except OSError as error:
            outcome = verdict.output_error(outcome, str(error.strerror or error))
        if step.publish and outcome.status is Status.COMPLETED:
            return self._begin_publishing(outcome)
        self._record_end(outcome)
        return 0.0

    def _begin_publishing(self, outcome: Outcome) -> float:
        self._publishing = outcome, self._context.publish(self._run, self._given, self._number)
        self._state = _State.PUBLISH
        return 0.0

    def _publish(self) -> float:
        """A kill before the end is recorded publishes once more: the same bytes to the same place."""
        assert self._publishing is not None  # noqa: S101 - the state says so
        outcome, copying = self._publishing
        if copying.given_up(canceled=self._cancel_asked()):
            self._record_end(verdict.copy_canceled(outcome, self._cancel_by or "user"))
            return 0.0
        if not copying.copied.done():
            return _PUBLISHED_S
        if (error := copying.copied.result()) is not None:
            outcome = verdict.output_error(outcome, error)
        self._record_end(outcome)
        return 0.0

    def _judge(self, recorded: Outcome | None) -> Outcome:
        from runner.backends.base import Observation

        limit = self._given.limits.timeout_s
        seen = self._seen or Observation(Phase.ENDED, lost=True)
        # An attempt that ended by itself while a cancel was on its way is judged by its record (row 10); one that did
        # not end by itself was canceled, even where our own signal came too late (an engine that was away).
        pressed = self._asked_at is not None or self._recovered or seen.lost or self._attached is not None
        pressed |= recorded is not None and recorded.reason is Reason.CANCELED
        by = self._cancel_by if pressed and self._cancel_asked(now=True) else None
        intent = verdict.Intent(by, limit if self._timed_out else None, limit)
        return verdict.judge(seen, recorded, intent)

    def _record_end(self, outcome: Outcome) -> None:
        if self._why and outcome.reason is Reason.CANCELED:
            outcome = replace(outcome, message=self._why)
        if self._clean_later and not self._wants_more(outcome):
            started = _epoch(outcome.started) if outcome.started else None
            self._store.end_last(self._run, self._number, outcome, started)
            self.outcome = outcome
        else:
            self._store.end_attempt(self._run, self._number, outcome)
        self._ended = outcome
        self._state = _State.CLEAN

    def _wants_more(self, outcome: Outcome) -> bool:
        return self._given.retry.wants(outcome, self._number) and not self._cancel_asked(now=True)

    def _clean(self) -> float:
        """Free what the attempt held, then retry or end the run."""
        assert self._ended is not None  # noqa: S101 - the state says so
        if self._handle is None and self._recovered:
            self._handle = self._backend.find(self._compose())
        if self._handle is not None:
            self._backend.remove(self._handle)
        if self._given.secrets:  # written before the task exists, and a kill can come in between
            secretfile.remove(self._compose().key)
        if self._run.parent is None:
            remove_tree(self._folder.box)
        else:  # the whole ends only when all of these are gone
            self._context.trash.put(self._folder.box)
        if self.outcome is not None:
            self._store.cleaned(self._run, self._number)
        elif self._wants_more(self._ended):
            return self._again(self._ended)
        else:
            self._store.end(self._run, self._ended, attempts=self._number)
            self.outcome = self._ended
        self._state = _State.DONE
        return 0.0

    def _again(self, outcome: Outcome) -> float:
        pause = min(_RETRY_PAUSE_S[0] * 2.0 ** (self._number - 1), _RETRY_PAUSE_S[1])
        self._show(Status.QUEUED, f"attempt {self._number} ended with {outcome.reason}; next in {pause:g} s")
        self._number += 1
        self._folder = self._store.folder(self._run.name).attempt(self._number)
        self._task = self._handle = self._seen = self._ended = self._publishing = None
        self._asked_at = self._running_since = None
        self._forced = self._timed_out = self._recovered = False
        self._log_size = 0
        self._backoff.rest(pause)
        self._state = _State.PAUSED
        return pause

    # -- showing --------------------------------------------------------------------------------------------------

    def _show(self, status: Status, note: str = "") -> None:
        """Record the status if it changed, with the next commit (0.3 ms each) or before the loop waits."""
        if (status, note) == (self._status, self._note):
            return
        started = time.time() if status is Status.RUNNING else None
        self._store.set_status(self._run, status, note=note, started=started, soon=True)
        self._status, self._note = status, note

    def _index_log(self) -> None:
        """Note how long the log is now, for `logs --since`."""
        with suppress(OSError):
            size = self._folder.log.stat().st_size
            if size != self._log_size:
                logindex.note(self._folder.log_index, size)
                self._log_size = size


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
