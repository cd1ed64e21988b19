"""A job with every decision taken: the steps, in an order in which each comes after what it needs. What `--dry-run` prints.

Standard library only, no I/O. Plain data, both ways: a supervisor reads it again from the run's folder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from runner.job import NOWHERE, Distribution, EarlyTermination, Objective, Sampling, SweepLimits
from runner.model import Step

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Upstream:
    """The output of another step. mode: how it comes, where that was said with the reference; only a backend elsewhere
    reads it."""

    step: str
    output: str
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What makes a step a sweep: its `Step` is the template of each trial, with `${{search_space.NAME}}` (or inputs of these
    names) left open."""

    search_space: Mapping[str, Distribution]
    objective: Objective
    sampling: Sampling
    limits: SweepLimits
    early_termination: EarlyTermination | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `asdict`."""
        stop = data["early_termination"]
        return cls(
            search_space={
                name: Distribution(**{**given, "values": tuple(given["values"]), "where": NOWHERE})
                for name, given in data["search_space"].items()
            },
            objective=Objective(**data["objective"]),
            sampling=Sampling(**data["sampling"]),
            limits=SweepLimits(**data["limits"]),
            early_termination=EarlyTermination(**stop) if stop else None,
        )


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step of a plan.

    name: unique in the plan; of a nested pipeline `outer.inner`. It is also the end of the child run's name.
    step: what is run; its inputs hold only what is there before the pipeline starts.
    upstream: the other inputs → whose output each is.
    code: key into `Plan.code`; None: an empty folder.
    compute: key into `Plan.pools`; None: the machine.
    reusable: a step of the same content need not run again.
    """

    name: str
    step: Step
    upstream: Mapping[str, Upstream] = field(default_factory=dict)
    code: str | None = None
    compute: str | None = None
    reusable: bool = True
    sweep: SweepPlan | None = None
    display_name: str | None = None

    @property
    def needs(self) -> frozenset[str]:
        """The steps that must have completed before this one."""
        return frozenset(each.step for each in self.upstream.values())

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `asdict`."""
        values = dict(data)
        values["step"] = Step.from_json(values["step"])
        values["upstream"] = {name: Upstream(**each) for name, each in values["upstream"].items()}
        values["sweep"] = SweepPlan.from_json(values["sweep"]) if values["sweep"] else None
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Pool:
    """What the steps of one compute may use together. None: what the machine has. instances: steps at once."""

    cpus: float | None = None
    memory_bytes: int | None = None
    instances: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A pipeline (or a sweep, which is a plan of one step).

    outputs: the pipeline's outputs → whose output each is. pools: compute → what its steps share.
    code: name of a code folder → digest of its content; the folders stand in the run's folder under these names.
    taken: step → the earlier run (of that step) whose outputs are taken instead of running it: a resumed run.
    native: members of the pipeline itself that only a backend elsewhere reads, as Azure ML's YAML has them.
    """

    steps: tuple[PlanStep, ...]
    outputs: Mapping[str, Upstream] = field(default_factory=dict)
    continue_on_step_failure: bool = False
    force_rerun: bool = False
    pools: Mapping[str, Pool] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    native: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data, complete; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        values = dict(data)
        values["steps"] = tuple(PlanStep.from_json(each) for each in values["steps"])
        values["outputs"] = {name: Upstream(**each) for name, each in values["outputs"].items()}
        values["pools"] = {name: Pool(**each) for name, each in values["pools"].items()}
        return cls(**values)
