"""The one loop: submit, observe, record, retry, cancel, recover. Backends know nothing of it, and the store decides nothing.

Every step of an attempt can be repeated after a kill: the row of the attempt is written before its task is submitted,
the task is found again by its key, and the outcome is recorded only once record, log and outputs are safe.
"""

from __future__ import annotations

from runner.engine.context import TICK_S, Context, Driver
from runner.engine.graph import GraphDriver
from runner.engine.logindex import log_offset
from runner.engine.loop import Engine
from runner.engine.patience import NOT_RESPONDING_S
from runner.engine.pool import Pools
from runner.engine.step import StepDriver
from runner.engine.whole import WholeDriver

__all__ = [
    "NOT_RESPONDING_S", "TICK_S", "Context", "Driver", "Engine", "GraphDriver", "Pools", "StepDriver",
    "WholeDriver", "log_offset",
]  # fmt: skip
