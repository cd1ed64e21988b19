"""Job files: Azure ML's job and component YAML (CLI v2) as `runner.job.Job`."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from runner.job import Job


def load(
    path: Path,
    sets: Sequence[tuple[str, str]] = (),
    *,
    name: str | None = None,
    components: Callable[[str], Path | None] = lambda _: None,
) -> Job:
    """Read a job or component file with all that it refers to. Whether code and data are there is not asked.

    Args:
        path: the file.
        sets: `--set KEY=VALUE` as pairs; a key is a dotted path in the file, a value is read as a YAML scalar.
        name: the run's name, in place of the file's.
        components: a component that is named (`azureml:…`) → the file that stands for it, absolute; None: there is none.

    Raises:
        SpecError: whatever is wrong in it and in the files it refers to, all at once. What is right and cannot be done on
            this machine is no error: it stands in `Job.problems`.
    """
    from runner.spec.job.loading import load_job

    # All that is read stays, so nothing is garbage: to look for it took a third of the time that 10,000 steps need.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return load_job(path, sets, name, components)
    finally:
        if collecting:
            gc.enable()
