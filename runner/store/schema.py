"""The tables, as the scripts that made them."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        experiment TEXT NOT NULL,
        title TEXT NOT NULL,
        description TEXT NOT NULL,
        tags TEXT NOT NULL,
        backend TEXT NOT NULL,
        image TEXT,
        image_name TEXT,
        step TEXT NOT NULL,
        status TEXT NOT NULL,
        note TEXT NOT NULL DEFAULT '',
        outcome TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        created REAL NOT NULL,
        started REAL,
        finished REAL,
        cancel_by TEXT,
        canceled_at REAL
    );
    CREATE INDEX runs_by_status ON runs (status);
    CREATE INDEX runs_by_experiment ON runs (experiment);
    CREATE TABLE attempts (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        handle TEXT,
        submitted REAL NOT NULL,
        started REAL,
        outcome TEXT,
        PRIMARY KEY (run, number)
    );
    CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    """,
    # Steps of a pipeline are runs with a parent. The indexes are by what is asked of thousands of steps again and again.
    """
    ALTER TABLE runs ADD COLUMN parent INTEGER REFERENCES runs (id) ON DELETE CASCADE;
    ALTER TABLE runs ADD COLUMN kind TEXT NOT NULL DEFAULT 'script';
    ALTER TABLE runs ADD COLUMN path TEXT;
    ALTER TABLE runs ADD COLUMN cache_key TEXT;
    ALTER TABLE runs ADD COLUMN cache_fields TEXT;
    ALTER TABLE runs ADD COLUMN reused_from TEXT;
    ALTER TABLE runs ADD COLUMN output_digests TEXT;
    CREATE INDEX runs_roots ON runs (id) WHERE parent IS NULL;
    CREATE INDEX runs_by_parent ON runs (parent, status) WHERE parent IS NOT NULL;
    CREATE INDEX runs_ended ON runs (parent, finished) WHERE finished IS NOT NULL AND parent IS NOT NULL;
    CREATE INDEX runs_canceled ON runs (parent) WHERE cancel_by IS NOT NULL AND parent IS NOT NULL;
    CREATE INDEX runs_by_cache_key ON runs (cache_key) WHERE cache_key IS NOT NULL;
    """,
    """
    CREATE TABLE pipelines (
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        description TEXT NOT NULL,
        job TEXT NOT NULL,
        created REAL NOT NULL,
        PRIMARY KEY (name, version)
    );
    CREATE INDEX runs_by_path ON runs (path) WHERE cache_fields IS NOT NULL;
    """,
)
"""One script per schema version; `PRAGMA user_version` counts how many were applied. Only ever append."""
