"""The JobJournal in SQLite."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from uuid import UUID

import cattrs

from ..core.ending import End
from ..core.errors import JournalUnusable
from ..core.job import JobId, JobRecord, PastRequest
from ..core.limits import ResourceLimits
from .schema import open_database
from .values import end_from_message, end_to_message

_ALL = "SELECT id, record FROM jobs ORDER BY created_at"
_PAST = """
SELECT owner, request_id, job, fingerprint, removed_at FROM requests WHERE owner = ? AND request_id = ?
"""
_SHARED = 256
_T = TypeVar("_T")


class SqliteJournal:
    """One row a job, in WAL mode: a put survives the death of this process, not a loss of power."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # SQLite blocks; one thread keeps the order and needs no locks.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._database: sqlite3.Connection | None = None

    async def load(self) -> Sequence[JobRecord]:
        return await self._run(self._load)

    def _load(self, database: sqlite3.Connection) -> list[JobRecord]:
        return [self._record(job, text) for job, text in database.execute(_ALL)]

    def _record(self, job: str, text: str) -> JobRecord:
        try:
            return _from_json(text)
        except Exception as error:  # whatever a converter makes of a row that is none of ours
            raise JournalUnusable(f"{self._path}: the record of job {job} cannot be read") from error

    async def put(self, record: JobRecord) -> None:
        row = (str(record.id), record.created_at, _to_json(record))
        await self._run(lambda db: db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)", row))

    async def remove(self, job: JobId, remember: PastRequest | None = None) -> None:
        await self._run(partial(_remove, job, remember))

    async def past_request(self, owner: str, request_id: str) -> PastRequest | None:
        row = await self._run(lambda db: db.execute(_PAST, (owner, request_id)).fetchone())
        if row is None:
            return None
        owner, request_id, job, fingerprint, removed_at = row
        return PastRequest(owner, request_id, JobId(UUID(job)), fingerprint, removed_at)

    async def forget_requests(self, before: float) -> None:
        await self._run(lambda db: db.execute("DELETE FROM requests WHERE removed_at < ?", (before,)))

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
                self._database = open_database(self._path)
            return step(self._database)
        except sqlite3.Error as error:
            raise JournalUnusable(f"{self._path}: {error}") from error


def _remove(job: JobId, remember: PastRequest | None, database: sqlite3.Connection) -> None:
    delete = "DELETE FROM jobs WHERE id = ?"
    if remember is None:
        database.execute(delete, (str(job),))
        return
    past = (
        remember.owner,
        remember.request_id,
        str(remember.job),
        remember.fingerprint,
        remember.removed_at,
    )
    with database:  # both or nothing
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, ?)", past)
        database.execute(delete, (str(job),))


def _as_it_is(value: object, _: object) -> object:
    return value


def _converter() -> cattrs.Converter:
    # Which field is at fault would cost a try for each of them; a row is good or bad as a whole.
    converter = cattrs.Converter(omit_if_default=True, detailed_validation=False)
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    converter.register_unstructure_hook(MappingProxyType, dict)
    # JSON has these as they are; cattrs would call three functions for each of the many that may be null.
    for kind in (int | None, float | None, str | None, int, float, str):
        converter.register_structure_hook(kind, _as_it_is)
    limits = converter.get_structure_hook(ResourceLimits)
    # Thousands of jobs have the same few limits, each twice.
    shared = lru_cache(_SHARED)(lambda text: limits(json.loads(text), ResourceLimits))
    converter.register_structure_hook(ResourceLimits, lambda part, _: shared(json.dumps(part)))
    converter.register_unstructure_hook(End, end_to_message)
    converter.register_structure_hook(End, lambda message, _: end_from_message(message))
    return converter


_CONVERTER = _converter()


def _to_json(record: JobRecord) -> str:
    return json.dumps(_CONVERTER.unstructure(record, JobRecord), ensure_ascii=False)


def _from_json(text: str) -> JobRecord:
    return _CONVERTER.structure(json.loads(text), JobRecord)
