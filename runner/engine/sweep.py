"""The trials of a sweep, one child run each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import CapabilityError

if TYPE_CHECKING:
    from pathlib import Path

    from runner.engine.context import Context, Driver
    from runner.engine.pool import Pools
    from runner.plan import PlanStep
    from runner.store import RunRow


def sweep_driver(context: Context, pools: Pools, run: RunRow, plan_step: PlanStep, code: Path | None) -> Driver:
    """The driver of a step that is a sweep.

    Args:
        run: the step's own row; its trials are `context.store.add_child(context.root, f"{run.path}.trial_{n}", …)`.
        plan_step: its step is the template of each trial, the inputs in place. code: what each trial works on a copy of.
        pools: what trials take their room from; the sweep itself has taken none.

    Raises:
        CapabilityError: nobody can do it.
    """
    if context.hooks.sweep is None:
        raise CapabilityError(f"the step {plan_step.name} is a sweep, which this runner cannot run")
    return context.hooks.sweep(context, pools, run, plan_step, code)
