"""Faults by rule: the nth request that looks so is refused, delayed, cut off, or held until the test lets it go."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tests.emulators.azureml.journal import Entry


@dataclass(slots=True)
class Rule:
    """Which requests, and what becomes of them.

    method, host, path: empty is any; host and path are regular expressions that are searched for, path in
    `/path?query`, case ignored. skip: matching requests let through before the first that is hit. count: how many are hit,
    None: all.
    when: `before` the service knows of the request, or `after` it did what was asked and before the answer goes out.
    One of: status (with code, message, retry_after in seconds), reset (the connection ends), cut (bytes of the body that
    are sent before it ends; with when after), delay_s, pause (held until POST /release).
    """

    method: str = ""
    host: str = ""
    path: str = ""
    skip: int = 0
    count: int | None = 1
    when: Literal["before", "after"] = "before"
    status: int = 0
    code: str = "ServiceError"
    message: str = "Injected by the emulator."
    retry_after: str = ""
    reset: bool = False
    cut: int | None = None
    delay_s: float = 0.0
    pause: bool = False
    id: int = 0
    seen: int = 0
    hits: int = 0

    def matches(self, method: str, host: str, target: str) -> bool:
        """Counts too."""
        if (self.method and self.method.upper() != method) or not re.search(self.host, host, re.IGNORECASE):
            return False
        if not re.search(self.path, target, re.IGNORECASE):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.count is not None and self.hits >= self.count):
            return False
        self.hits += 1
        return True


class Faults:
    """The rules in force. Used in the server's loop alone."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._made = 0

    def add(self, values: dict[str, Any]) -> Rule:
        """ValueError: a member that no rule has."""
        known = {field.name for field in fields(Rule)} - {"id", "seen", "hits"}
        if strange := set(values) - known:
            raise ValueError(f"a fault has no {', '.join(sorted(strange))}; it has {', '.join(sorted(known))}")
        re.compile(values.get("path", "")), re.compile(values.get("host", ""))
        self._made += 1
        rule = Rule(**values, id=self._made)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        self._rules.clear()

    def shown(self) -> list[dict[str, Any]]:
        return [asdict(rule) for rule in self._rules]

    def of(self, entry: Entry) -> list[Rule]:
        """The rules that hit this request, in the order they were made."""
        query = "&".join(f"{name}={value}" for name, value in entry["query"].items())
        target = f"{entry['path']}?{query}" if query else entry["path"]
        return [rule for rule in self._rules if rule.matches(entry["method"], entry["host"], target)]
