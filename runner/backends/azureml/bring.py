"""Brings what an ended task left: the rest of its log, its record, its outputs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.backends.azureml.outputs import Left, keep_record
from runner.backends.base import LEFT
from runner.errors import BackendError, RunnerError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.backends.azureml.outputs import Outputs
    from runner.backends.azureml.tail import Tail
    from runner.backends.base import Task


def bring(
    outputs: Outputs, tail: Tail, task: Task, run: str, reused: str | None, *, whatever: bool = False
) -> tuple[str, ...]:
    """Everything into the task's box and log; warnings of what could not be had. May be done again.

    Args:
        run: its id in the run history. reused: of the run that stands for it, since the step itself did not run: what there
            is of it is that one's. whatever: take what can be had, and leave the rest there with a warning.

    Raises:
        UnavailableError: not now, unless `whatever`. OSError: the disk cannot be written.
    """
    if reused:
        tail.run, tail.any_key = reused, True
    warnings: list[str] = []
    left = Left(reused or run)
    with _told("the log is not complete", warnings, whatever=whatever):
        tail.pull(last=True)
    with _told(f"{LEFT} (fetch them with: runner download)", warnings, whatever=whatever):
        left = outputs.left(run, list(task.outputs), artifacts_of=reused)
        warnings += outputs.bring(left, task.box)
    with _told("the record was not brought", warnings, whatever=whatever):
        record = outputs.record(left) or tail.record
        if record is not None:
            # A launcher that could not be told its key has written the run's id.
            ours = reused is not None or record.get("attempt") == run
            keep_record(task.box, {**record, "attempt": task.key} if ours else record)
    return tuple(warnings)


@contextmanager
def _told(what: str, warnings: list[str], *, whatever: bool) -> Iterator[None]:
    """What the service refuses for good becomes a warning; what may be had later (a sign-in that ran out) is waited for."""
    try:
        yield
    except UnavailableError as error:
        if not whatever:
            raise
        warnings.append(f"{what}: {error.message}")
    except RunnerError as error:
        if isinstance(error, BackendError) and error.code == 401:
            raise unavailable(error) from None
        warnings.append(f"{what}: {' '.join([error.message, *error.hints])}")


def unavailable(error: RunnerError) -> UnavailableError:
    """An error of a question about a job that goes on whatever we may ask: not known now, and asked again."""
    return error if isinstance(error, UnavailableError) else UnavailableError(error.message, *error.hints)
