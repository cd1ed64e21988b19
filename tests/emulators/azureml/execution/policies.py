"""When a sweep gives up a trial early: the three policies, as documented, on what the trials logged so far."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Logged = Sequence[float]
"""What a trial logged of the primary metric, in order. A trial's n-th interval is its n-th report."""


@dataclass(frozen=True, slots=True)
class Policy:
    """kind: bandit, medianstopping, truncationselection. slack: a factor, or an amount. percentage: of truncation."""

    kind: str
    interval: int = 1
    delay: int = 0
    slack_factor: float | None = None
    slack_amount: float | None = None
    percentage: int = 0

    def due(self, reports: int) -> bool:
        """Whether a trial is judged at its so-many-th report."""
        return reports > 0 and reports >= self.delay and reports % self.interval == 0

    def stops(self, name: str, logged: Mapping[str, Logged], *, maximize: bool) -> bool:
        """Whether the trial of that name is to be ended now."""
        sign = 1.0 if maximize else -1.0
        reports = len(logged[name])
        best = {key: max(sign * value for value in values[:reports]) for key, values in logged.items() if values}
        mine, others = best[name], [value for key, value in best.items() if key != name]
        if not others:
            return False
        match self.kind:
            case "bandit":
                return mine < _allowed(sign * max(best.values()), self, maximize=maximize) * sign
            case "medianstopping":
                averages = [
                    statistics.fmean(sign * value for value in values[:reports])
                    for key, values in logged.items()
                    if values and key != name
                ]
                return mine < statistics.median(averages)
            case _:
                cut = len(best) * self.percentage // 100
                return mine in sorted(best.values())[:cut]


def _allowed(best: float, policy: Policy, *, maximize: bool) -> float:
    """The worst that a trial may have while another has `best`."""
    if policy.slack_amount is not None:
        return best - policy.slack_amount if maximize else best + policy.slack_amount
    factor = 1 + (policy.slack_factor or 0.0)
    return best / factor if maximize else best * factor


def policy_of(told: Mapping[str, object] | None) -> Policy | None:
    """Of a sweep job or node, in either spelling. ValueError: none that there is."""
    if not told:
        return None
    values = {name.replace("_", "").casefold(): value for name, value in told.items()}
    kind = str(values.get("policytype") or values.get("type") or "").casefold().replace("_", "")
    if kind not in ("bandit", "medianstopping", "truncationselection"):
        raise ValueError(f"The early termination policy {kind or '(none)'} is not emulated.")

    def number(name: str) -> float | None:
        value = values.get(name)
        return float(str(value)) if value is not None else None

    factor, amount = number("slackfactor"), number("slackamount")
    return Policy(
        kind, int(number("evaluationinterval") or 1), int(number("delayevaluation") or 0),
        factor or None, amount if amount and not factor else None, int(number("truncationpercentage") or 0),
    )  # fmt: skip
