"""Finds and removes what nothing needs any more: debris of killed processes, and on request old runs."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.errors import RunnerError
from runner.store import remove_tree
from runner.supervisor import ensure

if TYPE_CHECKING:
    from runner.store import Store


def prune(store: Store, older_than_s: float | None) -> dict[str, list[str]]:
    """Remove debris, and runs that ended longer ago than `older_than_s`; names by kind."""
    for run in store.live():
        ensure(store, run)
    removed: dict[str, list[str]] = {"run": [], "folder": [], "container": []}
    if older_than_s is not None:
        before = time.time() - older_than_s
        for run in store.list():
            if run.status.terminal and (run.finished or run.created) < before:
                store.delete(run)
                removed["run"].append(run.name)
    for path in store.strays():
        remove_tree(path)
        removed["folder"].append(path.name)
    with suppress(RunnerError):  # without an engine there are no containers to remove
        removed["container"] = _containers(store)
    return removed


def _containers(store: Store) -> list[str]:
    """Containers of this store whose run has ended or is gone: a supervisor was killed in its very last step."""
    from runner.docker_api.containers import Engine

    engine = Engine()
    removed = []
    try:
        for found in engine.labelled("runner.probe=1"):
            if found["State"] != "running":
                engine.remove(found["Id"])
                removed.append(found["Names"][0].lstrip("/"))
        containers = engine.labelled(f"runner.store={store.id}")
        # After the containers: a run that was accepted in between has none among them.
        live = {run.name for run in store.live()}
        for found in containers:
            run = found["Labels"].get("runner.run", "")
            if run not in live and store.root_name(run) not in live:
                engine.remove(found["Id"])
                removed.append(found["Names"][0].lstrip("/"))
    finally:
        engine.close()
    return removed
