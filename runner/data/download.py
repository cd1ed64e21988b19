"""One file from its source to the disk: continued where it broke, asked again with growing pauses, verified in length.

Only what is whole leaves here; what is not yet stays aside with its validator, for the next try or the next command.
"""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.data.source import TransientError
from runner.errors import UnavailableError
from runner.spec.values import human_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.data.source import Source, Stream

_TALK_S = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """tries: in a row that bring no byte. first_s: the first pause in seconds, doubled each time up to longest_s, which also
    bounds what a server may ask for."""

    tries: int = 5
    first_s: float = 0.5
    longest_s: float = 60.0

    def pause(self, failed: int, after: float | None) -> float:
        """Seconds to wait after so many failures in a row. Uneven, so that many who failed together do not come together."""
        own = self.first_s * 2.0 ** (failed - 1) * random.uniform(0.5, 1)  # noqa: S311 - no secret
        return min(max(own, after or 0.0), self.longest_s)


PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Got:
    """What was downloaded: the validator of it."""

    validator: str
    size: int


def download(
    source: Source,
    aside: Path,
    known: str | None,
    *,
    shown: str,
    say: Callable[[str], None],
    patience: Patience = PATIENCE,
) -> Got | None:
    """Have the file whole at `aside`; None where it is what `known` says, and nothing was written.

    Args:
        aside: the file to write; with `.json` behind it, what is known of its beginning.
        shown: how messages call it.

    Raises:
        UnavailableError: it does not come, after all tries.
        RunnerError: what the source raises.
        OSError: the disk.
    """
    failed, most = 0, _size(aside)
    while True:
        try:
            return _once(source, aside, known, shown, say)
        except TransientError as error:
            failed = 1 if _size(aside) > most else failed + 1
            most = max(most, _size(aside))
            if failed >= patience.tries:
                raise UnavailableError(
                    f"{shown} could not be had: {error.reason}", "try again: what has come is kept"
                ) from None
            pause = patience.pause(failed, error.after)
            say(f"{shown}: {error.reason}; again in {pause:.1f} s")
            time.sleep(pause)


def _once(source: Source, aside: Path, known: str | None, shown: str, say: Callable[[str], None]) -> Got | None:
    part, offset = _begun(aside)
    stream = source.open(known, offset, part)
    if stream is None:
        return None
    note = aside.with_name(aside.name + ".json")
    if stream.start == 0:
        note.unlink(missing_ok=True)  # before the file: the old word must not stand beside new bytes
    with aside.open("r+b" if stream.start else "wb") as file:
        file.seek(stream.start)
        file.truncate()
        if _strong(stream.validator) and not stream.start:
            note.write_text(json.dumps(stream.validator))
        size = _copy(stream, file.write, shown, say)
        file.flush()
        os.fsync(file.fileno())
    if stream.total is not None and size != stream.total:
        if size > stream.total:
            aside.unlink()
        raise TransientError(f"{size} of {stream.total} bytes came")
    note.unlink(missing_ok=True)
    return Got(stream.validator, size)


def _copy(stream: Stream, write: Callable[[bytes], object], shown: str, say: Callable[[str], None]) -> int:
    size, said = stream.start, time.monotonic()
    for chunk in stream.chunks:
        write(chunk)
        size += len(chunk)
        if time.monotonic() > said + _TALK_S:
            said = time.monotonic()
            of = f" of {human_size(stream.total)}" if stream.total else ""
            say(f"{shown}  {human_size(size)}{of}")
    return size


def _begun(aside: Path) -> tuple[str, int]:
    """The validator and size of an interrupted download; ("", 0) where there is none that can go on."""
    try:
        part = json.loads(aside.with_name(aside.name + ".json").read_text())
    except (OSError, ValueError):
        return "", 0
    size = _size(aside)
    return (part, size) if isinstance(part, str) and size else ("", 0)


def _strong(validator: str) -> bool:
    """Whether two contents with it are the same byte for byte; a weak ETag does not say so."""
    return bool(validator) and not validator.startswith("W/")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
