"""The tables of the journal by version: older files are migrated to this one, newer ones are rejected."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from ...core.errors import JournalUnusable
from ..state.layout import Layout

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

_REQUESTS_WITH_ISSUER = """
CREATE TABLE requests_with_issuer (
    job TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    issuer TEXT,
    request_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    removed_at REAL NOT NULL
) WITHOUT ROWID
"""
_COPY_REQUESTS = """
INSERT INTO requests_with_issuer SELECT job, owner, NULL, request_id, fingerprint, removed_at FROM requests
"""
_RENAME_REQUESTS = "ALTER TABLE requests_with_issuer RENAME TO requests"
_BY_ID = "CREATE INDEX requests_by_id ON requests (owner, request_id)"

_MIGRATIONS = (
    (_JOBS,),
    (_REQUESTS, _BY_REMOVAL),
    (_REQUESTS_WITH_ISSUER, _COPY_REQUESTS, "DROP TABLE requests", _RENAME_REQUESTS, _BY_REMOVAL, _BY_ID),
)
"""The statements that migrate each version to the next one; an empty file has version 0."""

BUSY_TIMEOUT = 5000
"""Milliseconds to wait for another process that has locked the file."""

VERSION = len(_MIGRATIONS)

_MAGIC = b"SQLite format 3\0"
"""The first bytes of a database (https://www.sqlite.org/fileformat.html)."""

_REMEDY = (
    "restore it from a copy, or move it away to start with an empty one: running jobs continue in any "
    "case, but finished jobs are then forgotten, and their output deleted"
)


def open_database(path: Path) -> sqlite3.Connection:
    """Open the journal's database and migrate it to this version; create it if it does not exist.

    Raises JournalUnusable if it is from a newer version or not a journal, and sqlite3.Error.
    """
    _check_file(path)
    # SQLite would create it by the umask; the log and the shared memory get the mode of the database.
    with suppress(OSError):  # it exists, or cannot be created, which SQLite reports
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    wait = BUSY_TIMEOUT / 1000
    database = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")  # SqliteJournal decides when it may block
        _migrate(database, path)
        database.execute("PRAGMA busy_timeout = 0")  # the event loop must not wait; the thread does
    except BaseException:
        database.close()
        raise
    return database


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database that a server may be using, without changing it; raises as ``open_database``."""
    _check_file(path)
    # Without a write-ahead log no server has it open; SQLite would create one even for reading.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    database = sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True)
    try:
        _check_version(database, path)
    except BaseException:
        database.close()
        raise
    return database


def unusable(path: Path, error: sqlite3.Error) -> JournalUnusable:
    """Return an error of SQLite with its meaning and the remedy."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # absent if the error is not from SQLite itself
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return _corrupt(path, str(error))
    return JournalUnusable(f"{path}: {error}")


def _corrupt(path: Path, reason: str) -> JournalUnusable:
    return JournalUnusable(f"{path} is corrupt ({reason}) and was not changed; {_REMEDY}")


def _check_file(path: Path) -> None:
    """Reject a file that is not a database before SQLite treats it as a new one, or writes to it."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalUnusable(f"{path}: {error.strerror}") from error
    jobs = Layout(path.parent).jobs
    if not start and jobs.is_dir() and any(jobs.iterdir()):
        raise _corrupt(path, "it is empty although there are jobs")
    if start and start != _MAGIC:
        raise _corrupt(path, "it is not a database")


def _check_version(database: sqlite3.Connection, path: Path) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise JournalUnusable(
            f"{path}: written by a newer version of worker (format {version}, this one reads up to "
            f"{VERSION}); start that version, or {_REMEDY}"
        )
    return int(version)


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    version = _check_version(database, path)
    for statements in _MIGRATIONS[version:]:
        version += 1
        database.execute("BEGIN IMMEDIATE")
        for statement in statements:
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {version}")
        database.execute("COMMIT")
