"""Every exception that runner raises on purpose, and the exit code of each family.

    RunnerError                1   base; never raised itself
    ├── UsageError             2   wrong use of the command line or of the Python API
    ├── SpecError              3   a file or value that the user wrote is wrong (file, line and key are named)
    ├── NotFoundError          4   no such run, output, image or file
    ├── ConflictError          5   the name is taken, or the run is in the wrong state for this
    ├── CapabilityError        6   this backend cannot do what was asked; nothing was started
    ├── CodeFolderError        7   the code folder may not or cannot be taken along
    ├── BackendError           8   a backend answered, and refused or failed
    │   └── UnavailableError   9   an engine or service cannot be reached
    ├── BuildError            10   an image could not be built; nothing was tagged
    │   └── ImageError        11   an image is missing, or could not be pulled or pushed
    ├── StoreError            12   the run store cannot be read or written
    └── InternalError         70   a fault of runner itself

A message says what failed, what it means and what to do. A failed script is data (an Outcome), never an exception.
"""

from __future__ import annotations

from typing import ClassVar


class RunnerError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what failed, in one sentence, naming the thing.
        hints: lines shown below the message: what was expected, the nearest right word, what to do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.message = message
        self.hints = hints

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {hint}" for hint in self.hints)])


class UsageError(RunnerError):
    """Wrong use of the command line or of the Python API."""

    exit_code = 2


class SpecError(RunnerError):
    """A file or value that the user wrote is wrong.

    `where` is prefixed to the message in the form that editors jump to: `libs.yaml:7: r.cran`.
    """

    exit_code = 3

    def __init__(
        self, message: str, *hints: str, file: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        where = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (where, key, message) if part), *hints)
        self.file, self.line, self.key = file, line, key


class NotFoundError(RunnerError):
    """No such run, output, image or file."""

    exit_code = 4


class ConflictError(RunnerError):
    """The name is taken, or the run is in the wrong state for what was asked."""

    exit_code = 5


class CapabilityError(RunnerError):
    """This backend cannot do what was asked. Raised before anything starts."""

    exit_code = 6


class CodeFolderError(RunnerError):
    """The code folder may not (too large, a home folder) or cannot (unreadable) be taken along."""

    exit_code = 7


class BackendError(RunnerError):
    """A backend answered, and refused or failed. `code` is its own status code where it has one (HTTP)."""

    exit_code = 8

    def __init__(self, message: str, *hints: str, code: int | None = None) -> None:
        super().__init__(message, *hints)
        self.code = code


class UnavailableError(BackendError):
    """An engine or service cannot be reached. Says nothing about the runs that it holds."""

    exit_code = 9


class BuildError(RunnerError):
    """An image could not be built. Nothing was tagged."""

    exit_code = 10


class ImageError(BuildError):
    """An image is missing, or could not be pulled or pushed. `retryable` is false where trying again cannot help.

    `problem` says in one word why a push failed (`runner.builder.registry.errors.Problem`); None elsewhere.
    """

    exit_code = 11

    def __init__(self, message: str, *hints: str, retryable: bool = True, problem: str | None = None) -> None:
        super().__init__(message, *hints)
        self.retryable = retryable
        self.problem = problem


class StoreError(RunnerError):
    """The run store cannot be read or written: disk full, no permission, written by a newer runner."""

    exit_code = 12


class InternalError(RunnerError):
    """A fault of runner itself; the traceback is kept in a file that the message names."""

    exit_code = 70
