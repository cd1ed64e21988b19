"""One task that is followed, and what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.backends.base import Observation, Phase

if TYPE_CHECKING:
    from concurrent.futures import Future

    from runner.backends.azureml.parts import Parts
    from runner.backends.azureml.tail import Tail
    from runner.backends.base import Task


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
    parts: Parts | None = None
    """Of a plan that was handed over whole, once they were asked for."""
    reading: Future[None] | None = None
    news: bool = False
    """Whether the last look at its log found something."""
    read: float = 0.0
    """When that look began."""
    bringing: Future[tuple[str, ...]] | None = None
    failing: float | None = None
    """Since when what it left cannot be had, though the service answers."""

    @property
    def settled(self) -> bool:
        """Whether nothing about it can change any more."""
        return self.asked and (self.seen is None or self.bringing is not None)


def shown(one: Watched) -> Observation | None:
    """What is said of a task: that it has ended only once all of it is here, or cannot be had at first."""
    seen = one.seen
    if seen is None or (one.bringing is not None and one.bringing.done()):
        return seen
    return unfinished(seen)


def unfinished(seen: Observation) -> Observation:
    """An end of which not everything is here yet; anything else as it is."""
    if seen.phase is not Phase.ENDED:
        return seen
    return replace(seen, phase=Phase.FINALIZING, platform=None, finished=None)


def never_began(seen: Observation) -> bool:
    """Whether a step that has ended was never begun: then it left nothing."""
    return seen.started is None and seen.platform is not None and seen.platform.status == "Canceled"
