"""What `runner show` says of metrics, parameters and trials."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from runner import console, tracking

if TYPE_CHECKING:
    from runner.store import RunRow, Store
    from runner.sweeps.summary import Summary

_MOST = 20
"""Rows of a table, and metrics or parameters, that are shown; `--json` has all."""


def data(store: Store, row: RunRow) -> dict[str, Any]:
    """Members of a run's JSON: metrics, params, tracked_runs, and of a sweep `sweep`. See docs/metrics.md."""
    from runner.store import iso
    from runner.sweeps.summary import logged, summary

    found = logged(store, row)
    sweep = summary(store, row)

    def metrics(run: tracking.Tracked) -> dict[str, Any]:
        return {
            name: {"value": _plain(last.value), "step": last.step, "time": iso(last.time), "points": len(points)}
            for name, points in sorted(run.metrics.items())
            for last in [tracking.latest(points)]
        }

    return {
        "metrics": metrics(found.main),
        "params": dict(sorted(found.main.params.items())),
        "tracked_runs": [
            {"name": run.name, "metrics": metrics(run), "params": dict(run.params)} for run in found.others
        ],
        **({} if sweep is None else {"sweep": sweep.to_json()}),
    }


def show_trials(store: Store, row: RunRow) -> None:
    """Of a sweep its best trial and a table of all."""
    from runner.sweeps.summary import summary

    if (sweep := summary(store, row)) is not None:
        _show_trials(sweep)


def show(store: Store, row: RunRow) -> None:
    """Metrics and parameters as lines below the run's own."""
    from runner.sweeps.summary import logged

    found = logged(store, row)
    last = {name: tracking.latest(points) for name, points in sorted(found.main.metrics.items())}
    _lines("metric", [
        f"{name}  {point.value:.6g}" + (f"  step {point.step}" if point.step else "") for name, point in last.items()
    ])  # fmt: skip
    _lines("param", [f"{name}  {text[:200]}" for name, text in sorted(found.main.params.items())])
    _lines("MLflow run", [
        f"{run.name}  " + ", ".join(f"{name} {tracking.latest(points).value:.6g}" for name, points in run.metrics.items())
        for run in found.others
    ])  # fmt: skip


def _lines(head: str, texts: list[str]) -> None:
    for text in texts[:_MOST]:
        console.result(f"  {head:<12}{console.printable(text)}")
    if len(texts) > _MOST:
        console.result(f"  {'':<12}and {len(texts) - _MOST} more, in --json")


def _show_trials(sweep: Summary) -> None:
    objective, names = sweep.plan.objective, list(sweep.plan.search_space)
    if not sweep.rows:
        return
    if sweep.best is not None:
        drawn = ", ".join(f"{name}={_short(text)}" for name, text in sweep.trials[sweep.best].parameters.items())
        console.result(f"  best: {sweep.rows[sweep.best].name}  {objective.metric} {sweep.value(sweep.best):.6g}"
                       f"  ({objective.goal})  {console.printable(drawn)}")  # fmt: skip
    shown = sweep.ranked()[:_MOST]
    console.table(
        ("  TRIAL", *(name.upper() for name in names), objective.metric.upper(), "STATUS", "TOOK"),
        [
            (f"  {number}", *(_short(sweep.trials[number].parameters[name]) for name in names),
             "" if (value := sweep.value(number)) is None else f"{value:.6g}",
             console.status_text(sweep.rows[number]), console.elapsed(sweep.rows[number]))
            for number in shown
        ],
        [console.status_colour(sweep.rows[number].status) for number in shown],
    )  # fmt: skip
    if len(sweep.rows) > len(shown):
        console.result(f"  and {len(sweep.rows) - len(shown)} more trials, in --json")


def _short(text: str) -> str:
    """A drawn value for a table: of a long number six digits, `--json` has all."""
    try:
        return f"{float(text):.6g}" if len(text) > 8 and "." in text else text[:24]
    except ValueError:
        return text[:24]


def _plain(value: float) -> float | str:
    """JSON has no NaN."""
    return value if math.isfinite(value) else str(value)
