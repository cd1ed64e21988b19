"""A picture of a sweep as one SVG file: the metric over the trials, and over each parameter. No library is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from runner.sweeps import space
from runner.sweeps.trial import State, best_trial, best_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.plan import SweepPlan
    from runner.sweeps.trial import Trial

_WIDTH, _HEIGHT, _ACROSS = 320, 220, 3
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 30, 40
_COLOURS = {State.COMPLETED: "#3b6ea8", State.STOPPED: "#b0b0b0", State.FAILED: "#c44e52", State.RUNNING: "#8fb3d9"}
_BEST = "#e08214"
_INSET = 10
"""Pixels between the frame and the outermost values."""
_MOST = 24
"""Parameters drawn at most; a picture of more panels tells nobody anything."""
_LABELS = 6


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where values lie between 0 and 1, and the labels on it as (place, text)."""

    low: float
    high: float
    logarithmic: bool = False
    names: tuple[str, ...] = ()

    def place(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return 0.5 if high == low else (value - low) / (high - low)

    def labels(self) -> list[tuple[float, str]]:
        if self.names:
            every = -(-len(self.names) // _LABELS)
            return [(self.place(index), name) for index, name in enumerate(self.names) if index % every == 0]
        if self.low == self.high:
            return [(0.5, f"{self.low:.4g}")]
        middle = math.sqrt(self.low * self.high) if self.logarithmic else (self.low + self.high) / 2
        return [(self.place(value), f"{value:.4g}") for value in (self.low, middle, self.high)]


def svg(plan: SweepPlan, trials: Sequence[Trial]) -> str:
    """The picture. Trials without a value of the metric are in no panel."""
    goal, metric = plan.objective.goal, plan.objective.metric
    values = {
        number: value for number, trial in enumerate(trials) if (value := best_value(trial.values, goal)) is not None
    }
    names = list(plan.search_space)[:_MOST]
    rows = -(-(len(names) + 1) // _ACROSS)
    width, height = _WIDTH * min(len(names) + 1, _ACROSS), _HEIGHT * rows + 24
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="11" fill="#333">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _legend(height),
    ]
    if not values:
        parts.append(f'<text x="12" y="24">no trial has logged {escape(metric)}</text>')
        return "\n".join([*parts, "</svg>\n"])
    up = _Axis(min(values.values()), max(values.values()))
    best = best_trial(trials, goal)
    columns: list[tuple[str, _Axis, dict[int, float]]] = [
        ("trial", _Axis(0, max(len(trials) - 1, 0)), {number: float(number) for number in values})
    ]
    columns += [(name, *_column(plan, trials, name)) for name in names]
    for index, (title, across, where) in enumerate(columns):
        x, y = index % _ACROSS * _WIDTH, index // _ACROSS * _HEIGHT
        dots = [(across.place(where[number]), up.place(value), trials[number].state, number == best)
                for number, value in values.items()]  # fmt: skip
        parts.append(f'<g transform="translate({x},{y})">{_panel(title, metric, across, up, dots)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def _column(plan: SweepPlan, trials: Sequence[Trial], name: str) -> tuple[_Axis, dict[int, float]]:
    """The axis of a parameter, and each trial's place on it."""
    given = plan.search_space[name]
    if given.kind == "choice":
        texts = tuple(dict.fromkeys(space.text(space.chosen(value)) for value in given.values))
        known = {text: float(index) for index, text in enumerate(texts)}
        places = {number: known.get(trial.parameters[name], 0.0) for number, trial in enumerate(trials)}
        return _Axis(0, max(len(texts) - 1, 0), names=texts), places
    numbers = {number: float(trial.parameters[name]) for number, trial in enumerate(trials)}
    low, high = min(numbers.values()), max(numbers.values())
    return _Axis(low, high, logarithmic="log" in given.kind and low > 0), numbers


def _panel(title: str, metric: str, across: _Axis, up: _Axis, dots: list[tuple[float, float, State, bool]]) -> str:
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x_of(place: float) -> float:
        return _LEFT + _INSET + place * (wide - 2 * _INSET)

    def y_of(place: float) -> float:
        return _TOP + _INSET + (1 - place) * (high - 2 * _INSET)

    parts = [
        f'<text x="{_LEFT}" y="18" font-weight="bold">{_short(metric, 20)} by {_short(title, 20)}</text>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{wide}" height="{high}" fill="none" stroke="#ccc"/>',
    ]
    for place, text in across.labels():
        anchor = "start" if place == 0 else "end" if place == 1 else "middle"
        parts.append(f'<text x="{x_of(place):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="{anchor}">'
                     f"{_short(text, 12)}</text>")  # fmt: skip
    for place, text in up.labels():
        parts.append(f'<text x="{_LEFT - 6}" y="{y_of(place) + 4:.1f}" text-anchor="end">{text}</text>')
    for x, y, state, best in sorted(dots, key=lambda dot: dot[3]):
        colour, radius = (_BEST, 5) if best else (_COLOURS[state], 3.5)
        parts.append(f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="{radius}" '
                     f'fill="{colour}" fill-opacity="0.8"/>')  # fmt: skip
    return "".join(parts)


def _legend(height: int) -> str:
    words = [("best", _BEST), *((str(state), _COLOURS[state]) for state in State if state is not State.RUNNING)]
    return "".join(
        f'<circle cx="{16 + index * 90}" cy="{height - 12}" r="4" fill="{colour}"/>'
        f'<text x="{24 + index * 90}" y="{height - 8}">{word}</text>'
        for index, (word, colour) in enumerate(words)
    )


def _short(text: str, most: int) -> str:
    return escape(text if len(text) <= most else text[: most - 1] + "…")
