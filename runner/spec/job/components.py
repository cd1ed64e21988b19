"""Components: files, mappings and names into what they are. Each file is read once, however many steps use it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.job import Component, Foreign, Graph
from runner.spec.job.commands import command, inputs_declared, outputs
from runner.spec.job.kinds import COMPONENTS, FOREIGN, KINDS, kind_of
from runner.spec.job.shapes import meant
from runner.spec.job.source import Findings, Source
from runner.spec.yamldoc import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.spec.yamldoc import KeyPath

DEEPEST = 20
"""Pipelines within pipelines."""


@dataclass
class Reader:
    """What is shared while one job is read. known: a named component → its file (of runner.yaml), or None."""

    known: Callable[[str], Path | None]
    graph: Callable[[Reader, Source, KeyPath, dict[str, Any], Path | None], Graph]
    """Reads a pipeline component; handed in, as steps are components and components have steps."""
    findings: Findings = field(default_factory=Findings)
    _files: dict[Path, Component | None] = field(default_factory=dict)
    _open: list[Path] = field(default_factory=list)

    def opened(self, path: Path) -> None:
        """The file that everything begins with."""
        self._open.append(path)

    def component(self, source: Source, path: KeyPath, given: Any, *, kind: str | None = None) -> Component | None:
        """`component:` or `trial:`. None: wrong, and noted; a Foreign of kind `component`: one that only Azure ML knows.

        Args:
            kind: what the step says that it is, by `type:`.
        """
        if isinstance(given, dict):
            return self.declared(source, path, given, None)
        text = given.strip()
        if not text.startswith("azureml:"):
            place = source.local(path, text)
            return self._file(source, path, text, place, kind) if place else None
        mapped = self.known(text)
        if mapped is not None:
            return self._file(source, path, text, mapped, kind)
        source.cannot("component.named", path, f"{text}:")
        return Foreign("component", raw={"component": text}, where=source.where(path))

    def _file(self, source: Source, path: KeyPath, text: str, place: Path, kind: str | None) -> Component | None:
        if place in self._open:
            names = " -> ".join(each.name for each in [*self._open[self._open.index(place) :], place])
            source.wrong(path, f"components use each other in a circle: {names}")
            return None
        if len(self._open) > DEEPEST:
            source.wrong(path, f"components are nested deeper than {DEEPEST} levels")
            return None
        if place not in self._files:
            self._open.append(place)
            self._files[place] = self._read(source, path, text, place, kind)
            self._open.pop()
        return self._files[place]

    def _read(self, source: Source, path: KeyPath, text: str, place: Path, kind: str | None) -> Component | None:
        shown = text if not Path(text).is_absolute() and not text.startswith("azureml:") else str(place)
        base = Path(source.document.file).parent
        if shown == text:
            shown = os.path.normpath(base / text) if not text.startswith("file:") else str(place)
        try:
            document = read(place, shown=shown, large=True)
        except SpecError as error:
            source.wrong(path, f"the component cannot be read: {error.message}", *error.hints)
            return None
        inner = Source(document, place.parent, self.findings)
        return self.declared(inner, (), document.data, place, kind=kind)

    def declared(
        self, source: Source, path: KeyPath, data: dict[str, Any], file: Path | None, *, kind: str | None = None
    ) -> Component | None:
        """A component as it is written.

        Args:
            file: where it is written, if it has a file of its own.
            kind: for a file that does not say what it is.
        """
        found = kind_of(data) or kind or "command"
        record = COMPONENTS.get(found)
        if record is None:
            hints = (
                meant(found, KINDS) if found not in {"sweep", *FOREIGN} else ("a component is a command or pipeline",)
            )
            source.wrong((*path, "type"), f"{found!r} is no kind of component", *hints)
            return None
        if not source.check(record, data, path):
            return None
        if found == "pipeline":
            return self.graph(self, source, path, data, file)
        kinds = inputs_declared(source, path, data)
        made = outputs(source, path, data)
        if found == "command":
            return command(source, path, data, kinds, made, beside=file)
        return Foreign(found, kinds, made, raw=data, where=source.where(path))
