"""Names of jobs: fixed in length, since Azure's tools list what a job left by a prefix that another name must not share."""

from __future__ import annotations

from hashlib import sha256


def job_name(key: str) -> str:
    """The Azure job of a task's key: `r` and 31 hex digits. The same key is the same job, so a repeated submit finds it."""
    return "r" + sha256(key.encode()).hexdigest()[:31]


def child(root: str, run: str) -> str:
    """The handle of a child run of a job."""
    return f"{root}/{run}"


def root_of(handle: str) -> str:
    """The job that a handle belongs to."""
    return handle.partition("/")[0]


def run_of(handle: str) -> str:
    """The run's id in the run history: of a job its name, of a child its own."""
    return handle.rpartition("/")[2]
