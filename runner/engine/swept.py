"""A sweep that a backend elsewhere runs by itself: its trials are steps like others there, and this is how it ends."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from runner import verdict
from runner.backends.base import Observation, Phase
from runner.engine.context import TICK_S
from runner.engine.trials import Trials, folder_of
from runner.model import Outcome, Reason, Status
from runner.sweeps.rows import path_of, trial_of
from runner.sweeps.trial import State, best_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.backends.base import Tried
    from runner.engine.context import Context
    from runner.plan import SweepPlan
    from runner.store import RunRow


class SweptDriver:
    """Brings a sweep to its end whose trials somebody else drives. It never asks for an end by itself; see `WholeDriver`.

    Args:
        run: the sweep's own row. tried: what the service says now. rows: of all trials, in their order; None: of some it
            is not known yet how they ended. alone: nothing waits for it, so the service's own verdict decides over nothing.
    """

    def __init__(
        self,
        context: Context,
        run: RunRow,
        plan: SweepPlan,
        tried: Callable[[], Tried],
        rows: Callable[[], Sequence[RunRow] | None],
        *,
        alone: bool,
    ) -> None:
        self.outcome: Outcome | None = None
        self._store, self._run, self._plan = context.store, run, plan
        self._tried, self._rows, self._alone = tried, rows, alone
        self._canceled_by: str | None = None
        self._status = run.status

    @property
    def done(self) -> bool:
        """Whether it has ended, and the backend holds nothing of it."""
        return self.outcome is not None

    def cancel(self, by: str, why: str = "") -> None:
        """It is being canceled: that is how it ended then."""
        del why
        self._canceled_by = self._canceled_by or by

    def advance(self) -> float:
        """Do what can be done now; seconds until there is something to do again at the latest."""
        seen = self._tried().sweeps.get(str(self._run.path))
        rows = self._rows()
        self._show(seen, begun=rows is None or bool(rows))
        if self.outcome is None and seen is not None and seen.phase is Phase.ENDED and rows is not None:
            self._end(seen, rows)
            return 0.0
        return TICK_S

    def _show(self, seen: Observation | None, *, begun: bool) -> None:
        asked = Status.CANCEL_REQUESTED if self._canceled_by is not None else None
        status = asked or (Status.RUNNING if begun else Status.QUEUED)
        if seen is not None and status is not self._status and self.outcome is None:
            started = time.time() if status is Status.RUNNING else None
            self._store.set_status(self._run, status, started=started, soon=True)
            self._status = status

    def _end(self, seen: Observation, rows: Sequence[RunRow]) -> None:
        trials = [trial_of(self._plan, row, folder_of(self._store, row)) for row in rows]
        all_of_them = Trials(self._store, self._run, self._plan, rows, trials)
        best = self._best(all_of_them)
        outcome = self._judge(seen, all_of_them, best)
        all_of_them.lay(best)
        elapsed = seen.platform.elapsed_s if seen.platform is not None else None
        outcome = replace(outcome, elapsed_s=outcome.elapsed_s or elapsed, started=seen.started, finished=seen.finished)
        self._store.end(self._run, outcome, attempts=1)
        self.outcome = outcome

    def _best(self, all_of_them: Trials) -> int | None:
        """The best trial by the service's word; where it has none, by what the trials logged, as here."""
        word = self._tried().best.get(str(self._run.path))
        for number, trial in enumerate(all_of_them.trials):
            if path_of(str(self._run.path), number) == word and trial.state is State.COMPLETED:
                return number
        return best_trial(all_of_them.trials, self._plan.objective.goal)

    def _judge(self, seen: Observation, all_of_them: Trials, best: int | None) -> Outcome:
        if self._canceled_by is not None:
            return verdict.canceled(self._canceled_by)
        limit_s, platform = self._plan.limits.timeout_s, seen.platform
        elapsed_s = platform.elapsed_s if platform is not None else None
        timed_out = limit_s is not None and elapsed_s is not None and elapsed_s >= limit_s
        found = all_of_them.outcome(best, timed_out=timed_out)
        if platform is not None and (platform.status == "Completed" or timed_out):
            return found
        failed = _failed(all_of_them)
        if platform is None or platform.status != "Failed" or not failed:
            return verdict.judge(seen, None, verdict.Intent())
        if found.reason is not Reason.COMPLETED:
            return found
        if self._alone:  # as here, where trials that failed are left out of account
            return found.with_warning(f"Azure ML shows it as Failed: {platform.message or 'a trial failed'}")
        return verdict.step_failed(str(failed[0].path), failed[0].outcome or found)


def _failed(trials: Trials) -> list[RunRow]:
    return [row for row, each in zip(trials.rows, trials.trials, strict=True) if each.state is State.FAILED]
