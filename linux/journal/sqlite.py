"""The JobJournal in SQLite."""

import asyncio
import json
import logging
import sqlite3
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from uuid import UUID

import cattrs

from ...core.errors import JournalUnusable
from ...core.model.ending import End
from ...core.model.job import JobId, JobRecord, PastRequest
from ...core.model.limits import ResourceLimits
from ..ipc.encoding import end_from_message, end_to_message
from .schema import open_database, open_read_only, unusable

# As bytes: sqlite3 fails at the first text that is not UTF-8.
_ALL = "SELECT id, CAST(record AS BLOB) FROM jobs ORDER BY created_at"
_PAST = """
SELECT owner, request_id, job, fingerprint, removed_at FROM requests WHERE owner = ? AND request_id = ?
"""
_SHARED = 256
_T = TypeVar("_T")

log = logging.getLogger(__name__)


class SqliteJournal:
    """One row per job, in WAL mode: a put survives a kill of this process, but not a loss of power."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # SQLite blocks; a single thread keeps the order and needs no locks.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._database: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._unreadable: Collection[JobId] = ()

    async def load(self) -> Sequence[JobRecord]:
        records, bad = await self._run(_read_all)
        for job, reason in bad.items():
            log.error("%s: cannot read the record of job %s; ignoring the job: %s", self._path, job, reason)
        self._unreadable = [JobId(job) for job in map(_uuid, bad) if job is not None]
        return records

    @property
    def unreadable(self) -> Collection[JobId]:
        return self._unreadable

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
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
            self._database = None
        self._thread.shutdown()

    async def _run(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, step)

    def _do(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            if self._database is None:
                self._database = open_database(self._path)
                self._file = _identity(self._path)
            elif _identity(self._path) != self._file:  # a write would be lost
                raise JournalUnusable(
                    f"{self._path} was moved, deleted or replaced while the server uses it; "
                    "put it back, or restart the server: jobs continue meanwhile"
                )
            return step(self._database)
        except sqlite3.Error as error:
            raise unusable(self._path, error) from error


def unreadable_records(path: Path) -> Mapping[str, str]:
    """Return the jobs whose records cannot be read, with the reasons; changes nothing. For `worker doctor`.

    Raises JournalUnusable if it is corrupt or from a newer version.
    """
    try:
        with closing(open_read_only(path)) as database:
            return _read_all(database)[1]
    except sqlite3.Error as error:
        raise unusable(path, error) from error


def _read_all(database: sqlite3.Connection) -> tuple[list[JobRecord], dict[str, str]]:
    """Return the readable records, and for each other job why its record is unreadable."""
    records: list[JobRecord] = []
    bad: dict[str, str] = {}
    for job, text in database.execute(_ALL):
        try:
            records.append(_from_json(text))
        except Exception as error:  # noqa: BLE001 - a converter may raise anything for a foreign row
            bad[str(job)] = f"{type(error).__name__}: {error}"
    return records, bad


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


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
    with database:  # both or neither
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, ?)", past)
        database.execute(delete, (str(job),))


def _unchanged(value: object, _: object) -> object:
    return value


def _shared(
    structure: Callable[[object, type], ResourceLimits],
) -> Callable[[object, type], ResourceLimits]:
    """Return equal limits as one object: thousands of jobs share few different limits, each twice."""
    known: dict[str, ResourceLimits] = {}

    def structured(part: object, kind: type) -> ResourceLimits:
        key = repr(part)  # it contains only JSON types; takes a quarter of the time of json.dumps
        limits = known.get(key)
        if limits is None:
            limits = structure(part, kind)
            if len(known) < _SHARED:
                known[key] = limits
        return limits

    return structured


def _converter() -> cattrs.Converter:
    # Naming the invalid field would cost a try for each field; a row is valid or invalid as a whole.
    converter = cattrs.Converter(omit_if_default=True, detailed_validation=False)
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    converter.register_unstructure_hook(MappingProxyType, dict)
    # JSON has these types itself; cattrs would call three functions for each of the many optional fields.
    for kind in (int | None, float | None, str | None, int, float, str):
        converter.register_structure_hook(kind, _unchanged)
    converter.register_structure_hook(ResourceLimits, _shared(converter.get_structure_hook(ResourceLimits)))
    converter.register_unstructure_hook(End, end_to_message)
    converter.register_structure_hook(End, lambda message, _: end_from_message(message))
    return converter


_CONVERTER = _converter()


def _to_json(record: JobRecord) -> str:
    return json.dumps(_CONVERTER.unstructure(record, JobRecord), ensure_ascii=False)


def _from_json(text: bytes) -> JobRecord:
    record = json.loads(text)
    if "owner" in record:  # thousands of jobs share few different owners
        record["owner"] = sys.intern(record["owner"])
    record["spec"]["command"] = sys.intern(record["spec"]["command"])
    return _CONVERTER.structure(record, JobRecord)
