"""What the items of an engine's push add up to: layers, bytes, and whether it is trying again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.spec.values import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_RETRIES_TOLD_EVERY_S = 4.0
"""The engine counts down aloud, second by second and layer by layer."""


@dataclass(slots=True)
class Layers:
    """One push. progress: as of `push`. on_retry: called when a layer did not go through; what it raises ends the push."""

    progress: Callable[[str, str], None]
    on_retry: Callable[[], None]
    sent: dict[str, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    _told: float = 0.0

    @property
    def begun(self) -> bool:
        """Whether anything of the image has gone up."""
        return bool(self.sent or self.done)

    def take(self, item: Mapping[str, Any]) -> None:
        """One item of the stream."""
        layer, status = str(item.get("id") or ""), str(item.get("status") or "")
        if not layer:
            return
        self.known.add(layer)
        if status == "Pushing":
            self.sent[layer] = max(self.sent.get(layer, 0), int((item.get("progressDetail") or {}).get("current") or 0))
        elif status in {"Pushed", "Layer already exists"} or status.startswith("Mounted from"):
            self.done.add(layer)
        elif status.startswith("Retrying"):
            if time.monotonic() - self._told > _RETRIES_TOLD_EVERY_S:
                self.on_retry()
                self._told = time.monotonic()
            return
        else:
            return
        self.progress("push", f"{len(self.done)} of {len(self.known)} layers, {human_size(sum(self.sent.values()))} …")

    def summary(self) -> str:
        """`3 layers sent, 61 MiB`."""
        if not self.sent:
            return "its layers were there"
        return f"{len(self.sent)} layers sent, {human_size(sum(self.sent.values()))}"
