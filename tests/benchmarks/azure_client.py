"""The clients of the Azure ML benchmarks, each a process of its own: `python -m tests.benchmarks.azure_client WHICH …`.

script    the bare script: import, sign in, submit a job file: what is timed as a whole process
submits   for each line of standard input one submit in a process that has everything imported; WHO is runner or sdk
polls     as `submits`, the states of the jobs of a file, one name a line
stream    `jobs.stream`, which is what there is beside `runner logs --follow`
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner import artifacts
from runner.backends.azureml.backend import AzureMLBackend
from runner.backends.azureml.target import Target
from runner.backends.base import Box, Task
from runner.composer import compose_task
from runner.model import Limits, Remote, Step

COMPUTE = "cpu-cluster"


def target() -> Target:
    """The workspace of the emulator, from the environment."""
    return Target(
        os.environ["AZURE_SUBSCRIPTION_ID"], os.environ["AZURE_RESOURCE_GROUP"], os.environ["AZURE_WORKSPACE"]
    )


def composed(backend: AzureMLBackend, folder: Path, code: Path, image: str) -> Task:
    """A task of one script, as the engine composes it; no two are the same job."""
    key = f"bench-{uuid.uuid4().hex[:12]}"
    box = Box(folder / key)
    step = Step(name="hello", argv=("hello.py",), limits=Limits(), remote=Remote({"image": image}, COMPUTE))
    artifacts.prepare(box, None, {})
    return compose_task(
        step, run=key, experiment="bench", number=1, store_id="bench", secrets={}, box=box, log=folder / f"{key}.log",
        layout=backend.layout(box, {}, {}), code=code,
    )  # fmt: skip


def client() -> Any:
    """An MLClient as its documentation makes one."""
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    there = target()
    return MLClient(DefaultAzureCredential(), there.subscription, there.resource_group, there.workspace)


def script(job: str) -> None:
    """Written as a user writes it."""
    from azure.ai.ml import load_job

    client().jobs.create_or_update(load_job(job))


def submits(who: str, folder: str, code: str, image: str, job: str) -> Callable[[], None]:
    """Submit one job each time. Both keep what they can keep: the SDK its client, runner its backend."""
    if who == "sdk":
        from azure.ai.ml import load_job

        made = client()

        def theirs() -> None:
            made.jobs.create_or_update(load_job(job))

        return theirs
    from runner.backends.azureml import sdk

    sdk.ready()
    backend = AzureMLBackend(target())

    def once() -> None:
        backend.remove(backend.submit(composed(backend, Path(folder), Path(code), image)))

    return once


def polls(who: str, names: str) -> Callable[[], None]:
    """Ask for the states of all of them."""
    jobs = Path(names).read_text().split()
    if who == "sdk":
        made = client()

        def theirs() -> None:
            assert all(made.jobs.get(name).status for name in jobs)

        return theirs
    backend = AzureMLBackend(target())

    def once() -> None:
        assert all(backend.poll(jobs).values())

    return once


def stream(job: str) -> None:
    """What it prints is what is measured."""
    client().jobs.stream(job)


def serve(once: Callable[[], None]) -> None:
    """Once for each line of standard input; answers with seconds by the clock and of the processor."""
    for _ in sys.stdin:
        wall, used = time.perf_counter(), time.process_time()
        once()
        print(json.dumps([time.perf_counter() - wall, time.process_time() - used]), flush=True)


if __name__ == "__main__":
    which, *given = sys.argv[1:]
    match which:
        case "script":
            script(*given)
        case "stream":
            stream(*given)
        case "submits":
            serve(submits(*given))
        case "polls":
            serve(polls(*given))
        case _:
            raise SystemExit(__doc__)
    sys.stdout.flush()
    os._exit(0)  # threads that follow jobs are of no interest here
