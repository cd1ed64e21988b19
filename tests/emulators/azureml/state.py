"""What the emulator remembers: JSON documents by kind and key, in one SQLite file that survives a restart.

THE AGREEMENT between the wire (arm, history, …) and the execution. Both know each other through these documents and:

    Blobs(folder, pki: Pki, state)   .start() .stop() .port .account .key
                                     .sas(container, path | None, permissions, minutes) -> whole https URL with ?sas
                                     .resolve(uri) -> (container, path)   azureml://, https://, ARM ids of data versions
    Execution(state, blobs, profile, folder)
        .check(properties) -> ServiceError or None   before a PUT is accepted: what only execution can say
        .begin(job_name)     the job document is stored; MUST store the run document (status "NotStarted" or later) before
                             it returns; works in threads of its own from then on
        .cancel(run_id)      returns at once; run document goes CancelRequested -> (profile.cancel_lingers_s) -> Canceled
        .preempt(run_id)     the node is gone (admin port)
        .resume()            after a restart: goes on with, or ends as failed, what was under way
        .stop(keep=False)    ends threads; containers it started are removed, unless they are to be found by `resume`
        .reachable(exports, token)   how jobs that have a network reach the service, once it listens

kind "job", key = job name, written by the wire once, by PUT:
    {"name", "experiment", "created": ISO time, "properties": as PUT (camelCase), the service's own members not added}
kind "run", key = run id, written by the execution (and tags, displayName, description, properties by the wire's PATCH,
through `update`). A root job's run id is the job's name; a child's is a GUID. Members of AZUREML.md 4.3, camelCase:
    runId, rootRunId, parentRunId (absent or None of a root), status, createdUtc, startTimeUtc, endTimeUtc, displayName,
    name, experimentName, dataContainerId, runType, runTypeV2, properties, tags, compute, error, warnings, inputs,
    outputs {name: {"assetId", "type"}} and of the execution's own, never shown on the wire, beginning with `_`:
    _job (job name of the root), _node (name of the node in the pipeline), _logs {file name: blob path in the container of
    workspaceartifactstore}, _cancel (True: asked), _outputs {assetId: {"uri": long azureml URI, "type"}} for
    batchGetResolvedUris, _metrics {metric: [{"value", "step", "timestamp"}, …] as they came}, which whoever serves
    MLflow's REST API writes through `update` and sweeps read.
Other kinds, all written by the wire: "workspace", "compute", "datastore", "environment" (key "name/version"), "code",
"component", "data", "profile". A document of these is the whole ARM resource as answered: {"id", "name", "properties", …};
a datastore's key is its name, with properties.containerName; a data version's is "name/version", with properties.dataUri.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

Doc = dict[str, Any]
"""A JSON object."""

_TABLE = """create table if not exists documents (
  number integer primary key, kind text not null, key text not null, body text not null, unique (kind, key))"""


class State:
    """Every call is one transaction, from any thread. What is returned is the caller's own copy."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = RLock()
        self._db = sqlite3.connect(folder / "state.db", check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = off")  # a killed process loses nothing by it; a machine's end may
        self._db.execute(_TABLE)

    def put(self, kind: str, key: str, doc: Doc) -> Doc:
        """Store, new or in the place of what was there; the order of `list` stays that of the first time."""
        with self._lock:
            self._db.execute(
                "insert into documents (kind, key, body) values (?, ?, ?)"
                " on conflict (kind, key) do update set body = excluded.body",
                (kind, key, json.dumps(doc)),
            )
        return doc

    def get(self, kind: str, key: str) -> Doc | None:
        with self._lock:
            row = self._db.execute("select body from documents where kind = ? and key = ?", (kind, key)).fetchone()
        return _read(row[0]) if row else None

    def list(self, kind: str, **filters: object) -> list[Doc]:
        """Oldest first. filters: members at the top of the document, by equality; an absent one equals None."""
        where, values = "", [kind]
        for name, wanted in filters.items():
            where += f" and json_extract(body, '$.{name}') is ?"
            values.append(wanted)  # type: ignore[arg-type]
        with self._lock:
            rows = self._db.execute(
                f"select body from documents where kind = ?{where} order by number", values
            ).fetchall()
        return [_read(body) for (body,) in rows]

    def update(self, kind: str, key: str, change: Callable[[Doc], object]) -> Doc | None:
        """Read, let `change` edit the document in place, store: nobody writes in between. None: there is no such one."""
        with self._lock:
            self._db.execute("begin immediate")
            try:
                doc = self.get(kind, key)
                if doc is not None:
                    change(doc)
                    self.put(kind, key, doc)
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")
            return doc

    def delete(self, kind: str, key: str) -> None:
        with self._lock:
            self._db.execute("delete from documents where kind = ? and key = ?", (kind, key))

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _read(body: str) -> Doc:
    doc = json.loads(body)
    assert isinstance(doc, dict)
    return doc
