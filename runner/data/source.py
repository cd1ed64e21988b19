"""What a kind of address has to do for the cache: say whether a file changed, and give its bytes from any offset."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runner.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class TransientError(Exception):
    """Asking again may help. after: seconds that the server wants to be left alone."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.after = reason, after


@contextmanager
def lasting(shown: str) -> Iterator[None]:
    """Where nothing is asked again: what could have passed is an UnavailableError."""
    try:
        yield
    except TransientError as error:
        raise UnavailableError(f"{shown} could not be had: {error.reason}", "try again") from None


class NotAFileError(Exception):
    """The address is a folder's."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The bytes of a file from offset `start`. validator: tells this content from others, "" where the server has no such
    word. total: bytes of the whole file, None where it is not said. chunks raises TransientError."""

    validator: str
    total: int | None
    start: int
    chunks: Iterator[bytes]


class Source(Protocol):
    """One file. Every error but the two above is final: a RunnerError that names no login."""

    def open(self, known: str | None, offset: int, part: str) -> Stream | None:
        """Its bytes.

        Args:
            known: the validator of what is there already; None: nothing.
            offset, part: bytes that an interrupted download left, and their validator; they go on only if it still is the
                file's, else `Stream.start` is 0.

        Returns:
            None where the file is what `known` says.
        """


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a folder."""

    validator: str
    size: int | None
    source: Source


class Tree(Protocol):
    """A folder."""

    def listing(self) -> Mapping[str, Entry]:
        """Relative path → file, of all below it; empty where there is none."""


class Target(Protocol):
    """Where files are uploaded to: one address, and what is below it."""

    def upload(self, path: Path, relative: str) -> None:
        """Put a file there whole or not at all. relative: below the address; "": the address itself."""
