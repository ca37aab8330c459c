"""The JobJournal in SQLite."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from uuid import UUID

import cattrs

from ..core.ending import End
from ..core.errors import JournalUnusable
from ..core.job import JobId, JobRecord
from .values import end_from_message, end_to_message

_VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID
"""
_ALL = "SELECT id, record FROM jobs ORDER BY created_at"
_T = TypeVar("_T")


class SqliteJournal:
    """One row a job, in WAL mode: a put survives the death of this process, not a loss of power."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # SQLite blocks; one thread keeps the order and needs no locks.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._database: sqlite3.Connection | None = None

    async def load(self) -> Sequence[JobRecord]:
        rows = await self._run(lambda db: db.execute(_ALL).fetchall())
        return [self._record(job, text) for job, text in rows]

    def _record(self, job: str, text: str) -> JobRecord:
        try:
            return _from_json(text)
        except Exception as error:  # whatever a converter makes of a row that is none of ours
            raise JournalUnusable(f"{self._path}: the record of job {job} cannot be read") from error

    async def put(self, record: JobRecord) -> None:
        row = (str(record.id), record.created_at, _to_json(record))
        await self._run(lambda db: db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)", row))

    async def remove(self, job: JobId) -> None:
        await self._run(lambda db: db.execute("DELETE FROM jobs WHERE id = ?", (str(job),)))

    async def close(self) -> None:
        if self._database is not None:
            await self._run(lambda db: db.close())
            self._database = None
        self._thread.shutdown()

    async def _run(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, step)

    def _do(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            if self._database is None:
                self._database = _open(self._path)
            return step(self._database)
        except sqlite3.Error as error:
            raise JournalUnusable(f"{self._path}: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
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
    """Bring the schema to this version; refuse a newer one."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise JournalUnusable(f"{path}: written by a newer version of worker (format {version})")
    if version == 0:
        database.execute("BEGIN IMMEDIATE")
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(omit_if_default=True)
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    converter.register_unstructure_hook(MappingProxyType, dict)
    converter.register_unstructure_hook(End, end_to_message)
    converter.register_structure_hook(End, lambda message, _: end_from_message(message))
    return converter


_CONVERTER = _converter()


def _to_json(record: JobRecord) -> str:
    return json.dumps(_CONVERTER.unstructure(record, JobRecord), ensure_ascii=False)


def _from_json(text: str) -> JobRecord:
    return _CONVERTER.structure(json.loads(text), JobRecord)
