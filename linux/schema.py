"""The tables of the journal by version: older files are brought to this one, newer ones are refused."""

import sqlite3
from pathlib import Path

from ..core.errors import JournalUnusable

_JOBS = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID
"""
_REQUESTS = """
CREATE TABLE requests (
    owner TEXT NOT NULL,
    request_id TEXT NOT NULL,
    job TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    removed_at REAL NOT NULL,
    PRIMARY KEY (owner, request_id)
) WITHOUT ROWID
"""
_BY_REMOVAL = "CREATE INDEX requests_by_removal ON requests (removed_at)"

_STEPS = ((_JOBS,), (_REQUESTS, _BY_REMOVAL))
"""What leads from each version to the next one; that of an empty file is 0."""

VERSION = len(_STEPS)


def open_database(path: Path) -> sqlite3.Connection:
    """Open the journal's database, in this version; made if it is not there.

    Raises JournalUnusable if it is from a newer version, and sqlite3.Error.
    """
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        _migrate(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise JournalUnusable(f"{path}: written by a newer version of worker (format {version})")
    for step in _STEPS[version:]:
        version += 1
        database.execute("BEGIN IMMEDIATE")
        for statement in step:
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {version}")
        database.execute("COMMIT")
