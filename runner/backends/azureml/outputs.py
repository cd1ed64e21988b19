"""What a run left, brought into the box of its attempt: record, what it logged, `./outputs`, `./logs`, named outputs.

azure-ai-ml 1.35 loses named outputs without a word, so where they are is found out here: from the run history, else by
looking at where Azure ML puts them if nothing else was asked for.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.backends.azureml.blobs import Blob, Place, place_of, targets
from runner.backends.azureml.command import EMPTY
from runner.backends.azureml.members import taken
from runner.backends.azureml.tail import ARTIFACTS, folder_of
from runner.backends.base import LEFT
from runner.errors import NotFoundError, RunnerError, SpecError, UnavailableError
from runner.snapshot import COLLECTED
from runner.spec.values import human_size, size
from runner.store import write_aside

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from runner.backends.azureml.blobs import Datastores
    from runner.backends.azureml.service import Service
    from runner.backends.base import Box

LIMIT = "RUNNER_DOWNLOAD_LIMIT"
_LIMIT_B = 1 << 30
_OWN = "logs/runner/"
"""Where our launcher keeps the record and what was logged; none of the user's logs."""


@dataclass(frozen=True, slots=True)
class Output:
    """A named output there. file: it is one file, not a folder. blobs: what it holds."""

    place: Place
    file: bool
    blobs: tuple[Blob, ...]

    @property
    def bytes(self) -> int:
        """Of all its blobs."""
        return sum(blob.size for blob in self.blobs)


@dataclass(slots=True)
class Left:
    """What a run left there: `artifacts` by their path below its own folder, and named outputs."""

    run: str
    artifacts: dict[str, Blob] = field(default_factory=dict)
    named: dict[str, Output] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Finds and brings what runs left."""

    service: Service
    datastores: Datastores

    def left(self, run: str, names: Collection[str], *, artifacts_of: str | None = None) -> Left:
        """What a run left.

        Args:
            names: of the outputs that are looked for. artifacts_of: the run whose artifacts are meant, if it is another
                (a step that was taken from an earlier run).
        """
        source = artifacts_of or run
        prefix = folder_of(source)
        left = Left(source)
        for blob in self.datastores.listing(Place(ARTIFACTS, prefix)):
            part = blob.name.removeprefix(prefix)
            if part.partition("/")[0] in COLLECTED:
                left.artifacts[part] = blob
        for name, found in self._named(run, names, left.warnings).items():
            left.named[name] = found
        return left

    def _named(self, run: str, names: Collection[str], warnings: list[str]) -> dict[str, Output]:
        if not names:
            return {}
        told = self._told(run, [taken(name) for name in names])
        found = {}
        for name in names:
            there = taken(name)
            try:
                output = self._output(*told[there]) if there in told else self._probed(run, there)
            except UnavailableError:
                raise
            except RunnerError as error:
                warnings.append(f"the output {name} was not brought: {error.message}")
                continue
            if output is not None:
                found[name] = output
        return found

    def _told(self, run: str, names: Collection[str]) -> dict[str, tuple[str, str]]:
        """Output → (URI, type) by the run history."""
        try:
            known = self.service.rundata(run).get("outputs") or {}
        except NotFoundError:
            return {}
        assets = {
            name: str(one["assetId"])
            for name, one in known.items()
            if name in names and isinstance(one, dict) and one.get("assetId")
        }
        resolved = self.service.resolved(list(dict.fromkeys(assets.values())))
        found = {}
        for name, asset in assets.items():
            if uri := (resolved.get(asset) or {}).get("uri"):
                kind = (resolved.get(asset) or {}).get("type") or (known.get(name) or {}).get("type")
                found[name] = str(uri), str(kind or "")
        return found

    def _output(self, uri: str, kind: str) -> Output:
        """kind: `UriFolder`, `uri_folder`, `UriFile` … as whichever part of the service writes it."""
        place = place_of(uri)
        if place is None:
            raise SpecError(f"it is at {uri.partition('?')[0]}, which is no datastore of the workspace")
        if kind.replace("_", "").lower() == "urifile":
            return Output(place, file=True, blobs=tuple(self.datastores.listing(place, exact=True)))
        return Output(place, file=False, blobs=self._files(place))

    def _files(self, place: Place) -> tuple[Blob, ...]:
        """What a folder holds, without the file that stands for its being empty."""
        return tuple(blob for blob in self.datastores.listing(place) if blob.name.rpartition("/")[2] != EMPTY)

    def _probed(self, run: str, name: str) -> Output | None:
        """Where Azure ML writes an output for which nothing else was asked; None: there is nothing."""
        datastore = self.service.default_datastore()
        for path in (f"azureml/{run}/{name}", f"dataset/{run}/{name}"):
            place = Place(datastore, path)
            if self.datastores.listing(place):
                return Output(place, file=False, blobs=self._files(place))
            if blobs := self.datastores.listing(place, exact=True):
                return Output(place, file=True, blobs=tuple(blobs))
        return None

    # -- bringing -------------------------------------------------------------------------------------------------

    def record(self, left: Left) -> dict[str, Any] | None:
        """The record that the run left, whatever attempt it is of."""
        blob = left.artifacts.get(f"{_OWN}status.json")
        if blob is None:
            return None
        try:
            found = json.loads(self.datastores.read(ARTIFACTS, blob.name, 0, 1 << 20))
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def bring(self, left: Left, box: Box) -> list[str]:
        """Everything into the box, but named outputs stay where they are if it is too much; warnings.

        May be done again after a kill: each folder is emptied first.
        """
        warnings = list(left.warnings)
        own = {part: blob for part, blob in left.artifacts.items() if part.startswith(_OWN)}
        users = {part: blob for part, blob in left.artifacts.items() if part not in own}
        tracked = {part: blob for part, blob in own.items() if part.startswith(f"{_OWN}mlflow/")}
        if tracked:
            warnings += self._place(ARTIFACTS, tracked.values(), f"{folder_of(left.run)}{_OWN}mlflow/", box.tracking)
        for own_folder in (box.work, box.outputs):
            own_folder.mkdir(parents=True, exist_ok=True)
        limit = download_limit()
        beside = sum(blob.size for blob in users.values())
        for folder in COLLECTED if beside <= limit else ():
            part = [blob for path, blob in users.items() if path.startswith(f"{folder}/")]
            warnings += self._place(ARTIFACTS, part, f"{folder_of(left.run)}{folder}/", box.work / folder)
        all_of_it = beside + sum(one.bytes for one in left.named.values())
        for name, output in left.named.items() if all_of_it <= limit else ():
            warnings += self.bring_named(name, output, box.outputs / name)
        if all_of_it > limit:
            warnings.append(
                f"{LEFT}: they have {human_size(all_of_it)} together, more than {human_size(limit)}"
                f" ({LIMIT}); fetch them with: runner download"
            )
        return warnings

    def download(self, run: str, names: Collection[str], target: Path) -> tuple[list[str], list[str]]:
        """Bring what was left there, whatever its size: (what was there, warnings). Each becomes a folder of `target`."""
        left = self.left(run, [name for name in names if name not in COLLECTED])
        warnings, found = list(left.warnings), []
        for folder in (name for name in COLLECTED if name in names):
            part = [
                blob for path, blob in left.artifacts.items()
                if path.startswith(f"{folder}/") and not path.startswith(_OWN)
            ]  # fmt: skip
            if part:
                warnings += self._place(ARTIFACTS, part, f"{folder_of(left.run)}{folder}/", target / folder)
                found.append(folder)
        for name, output in left.named.items():
            warnings += self.bring_named(name, output, target / name)
            found.append(name)
        return found, warnings

    def bring_named(self, name: str, output: Output, target: Path) -> list[str]:
        """One named output into a folder, made anew; one that is a file lands there under the output's name."""
        if output.file:
            _emptied(target)
            self.datastores.bring(output.place.datastore, [(blob, target / name) for blob in output.blobs])
            return []
        return self._place(output.place.datastore, output.blobs, output.place.folder, target)

    def _place(self, datastore: str, blobs: Collection[Blob], prefix: str, target: Path) -> list[str]:
        good, bad = targets(list(blobs), prefix, target)
        _emptied(target)
        self.datastores.bring(datastore, good)
        return [_left_out(target.name, bad)] if bad else []


def keep_record(box: Box, record: Mapping[str, Any]) -> None:
    """Put a record where the engine reads it."""
    box.record.parent.mkdir(parents=True, exist_ok=True)
    write_aside(box.record, json.dumps(record).encode())


def download_limit(environ: Mapping[str, str] = os.environ) -> int:
    """Bytes of all outputs together that are brought without being asked for.

    Raises:
        SpecError: RUNNER_DOWNLOAD_LIMIT is no size.
    """
    text = environ.get(LIMIT)
    if not text:
        return _LIMIT_B
    return 0 if text.strip() == "0" else size(text, LIMIT)


def _emptied(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _left_out(what: str, names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:3]) + (
        f" and {len(names) - 3} more" if len(names) > 3 else ""
    )
    return f"{what}: left out, since their names are none of files in a folder: {shown}"
