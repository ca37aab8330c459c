"""The tables of the journal by version: older files are brought to this one, newer ones are refused."""

import sqlite3
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

_STEPS = ((_JOBS,), (_REQUESTS, _BY_REMOVAL))
"""What leads from each version to the next one; that of an empty file is 0."""

VERSION = len(_STEPS)

_MAGIC = b"SQLite format 3\0"
"""How a database begins (https://www.sqlite.org/fileformat.html)."""

_REMEDY = (
    "restore it from a copy, or move it away to begin anew: running jobs run on in any case, "
    "those that are over are forgotten then, with their output"
)


def open_database(path: Path) -> sqlite3.Connection:
    """Open the journal's database, in this version; made if it is not there.

    Raises JournalUnusable if it is from a newer version or none of ours, and sqlite3.Error.
    """
    _check_file(path)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        _migrate(database, path)
    except BaseException:
        database.close()
        raise
    return database


def open_to_look(path: Path) -> sqlite3.Connection:
    """Open a database that a server may be using, and change nothing; raises as ``open_database``."""
    _check_file(path)
    # Without a log beside it nobody writes; SQLite would make one even to read.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    database = sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True)
    try:
        _check_version(database, path)
    except BaseException:
        database.close()
        raise
    return database


def explained(path: Path, error: sqlite3.Error) -> JournalUnusable:
    """Return what an error of SQLite means, and what helps."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # none where SQLite was not asked
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return _corrupt(path, str(error))
    return JournalUnusable(f"{path}: {error}")


def _corrupt(path: Path, reason: str) -> JournalUnusable:
    return JournalUnusable(f"{path} is corrupt ({reason}) and was left as it is; {_REMEDY}")


def _check_file(path: Path) -> None:
    """Refuse a file that is no database before SQLite takes it for a new one, or writes to it."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalUnusable(f"{path}: {error.strerror}") from error
    jobs = Layout(path.parent).jobs
    if not begin and jobs.is_dir() and any(jobs.iterdir()):
        raise _corrupt(path, "it is empty, and yet there are jobs")
    if begin and begin != _MAGIC:
        raise _corrupt(path, "it is no database")


def _check_version(database: sqlite3.Connection, path: Path) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise JournalUnusable(
            f"{path}: written by a newer version of worker (format {version}, this one knows {VERSION}); "
            f"start that version, or {_REMEDY}"
        )
    return int(version)


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    version = _check_version(database, path)
    for step in _STEPS[version:]:
        version += 1
        database.execute("BEGIN IMMEDIATE")
        for statement in step:
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {version}")
        database.execute("COMMIT")
