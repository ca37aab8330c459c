"""The JobJournal in SQLite."""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import UUID

from ...core.errors import JournalUnusable
from ...core.model.client_id import ClientId
from ...core.model.job import JobId, JobRecord, PastRequest
from ..kernel.slow_disk import SlowDisk
from ..state.reserve import Reserve
from .records import record_from_text, record_to_text, spec_to_text
from .schema import BUSY_TIMEOUT, open_database, open_read_only, unusable

# As bytes: sqlite3 fails at the first text that is not UTF-8.
_ALL = "SELECT id, CAST(record AS BLOB) FROM jobs ORDER BY created_at"
_PAST = """
SELECT job, issuer, fingerprint, removed_at FROM requests
WHERE owner = ? AND request_id = ? AND (issuer = ? OR issuer IS NULL) ORDER BY issuer IS NULL
"""
_PUT = "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)"
_CHECKPOINT_AFTER = 250
"""Commits between checkpoints, which sync the disk. SQLite by itself does one after 1000 pages."""

_T = TypeVar("_T")
_Step = Callable[[sqlite3.Connection], object]
_PastRow = tuple[str, str | None, str, float]


class _Write(NamedTuple):
    """A write; an essential one uses the reserve of a full disk."""

    step: _Step
    essential: bool


log = logging.getLogger(__name__)


class SqliteJournal:
    """One row per job, in WAL mode: a write survives a kill of this process, but not a loss of power.

    Writes that are requested at the same time, or while others are being committed, are committed together
    (group commit): a transaction costs five times as much as a row. The event loop commits them itself,
    unless the disk is slow or must be synced: that takes less than the switch to a thread and back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # SQLite blocks; a single thread keeps the order and needs no locks.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._database: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._unreadable: Collection[JobId] = ()
        self._specs: dict[JobId, str] = {}
        self._waiting: list[tuple[_Write, asyncio.Future[None]]] = []
        self._reserve = Reserve(str(path.parent))
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_thread = 0
        self._disk = SlowDisk()
        self._commits = 0  # since the last checkpoint
        self._checkpointed = False

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
        spec = self._specs.pop(record.id, None) or spec_to_text(record.spec)
        if record.end is None:  # there will be another one
            self._specs[record.id] = spec
        row = (str(record.id), record.created_at, record_to_text(record, spec))
        await self._write(lambda database: database.execute(_PUT, row), essential=record.end is not None)

    async def remove(self, job: JobId, remember: PastRequest | None = None) -> None:
        self._specs.pop(job, None)
        await self._write(partial(_remove, job, remember), essential=True)

    async def past_request(self, owner: ClientId, request_id: str) -> PastRequest | None:
        row = await self._find(_PAST, (owner.name, request_id, owner.issuer))
        if row is None:
            return None
        job, issuer, fingerprint, removed_at = row
        return PastRequest(owner.name, request_id, JobId(UUID(job)), fingerprint, removed_at, issuer)

    async def forget_requests(self, before: float) -> None:
        await self._write(lambda db: db.execute("DELETE FROM requests WHERE removed_at < ?", (before,)))

    async def close(self) -> None:
        await self._idle.wait()
        if self._database is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
            self._database = None
        self._thread.shutdown()

    async def _write(self, step: _Step, *, essential: bool = False) -> None:
        """Commit a write with all others that wait."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((_Write(step, essential), done))
        if self._idle.is_set():
            self._idle.clear()
            loop.call_soon(self._commit_waiting, loop)  # the other calls of this round may write too
        await done

    def _commit_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Commit all writes that wait."""
        waiting, self._waiting = self._waiting, []
        writes, callers = [write for write, _ in waiting], [done for _, done in waiting]
        if not self._may_block():
            self._disk.begin()
            outcomes = self._commit(writes)
            self._disk.end()
            if not any(map(_is_busy, outcomes)):
                self._committed(callers, loop, outcomes)
                return
        commit = self._thread.submit(self._commit_and_sync, writes)
        commit.add_done_callback(
            lambda commit: loop.call_soon_threadsafe(self._committed, callers, loop, commit.result())
        )

    def _may_block(self) -> bool:
        """Whether a commit is left to the thread: it may sync the disk, or wait for the thread."""
        return (
            self._database is None
            or self._in_thread > 0
            or self._commits >= _CHECKPOINT_AFTER
            or self._disk.is_slow
        )

    def _commit_and_sync(self, writes: Sequence[_Write]) -> Sequence[Exception | None]:
        """Commit in the thread; then do a checkpoint if it is due."""
        outcomes = self._commit_patiently(writes)
        if self._checkpointed:  # this commit has begun the log anew, which syncs it
            self._commits, self._checkpointed = 0, False
        elif self._commits > _CHECKPOINT_AFTER and self._database is not None:
            with suppress(sqlite3.Error):  # such as a full disk: a later one does it
                self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._checkpointed = True
        return outcomes

    def _commit_patiently(self, writes: Sequence[_Write]) -> Sequence[Exception | None]:
        """Commit in the thread: wait for another process that has locked the file, such as a backup."""
        if self._database is None:
            return self._commit(writes)
        self._database.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
        try:
            return self._commit(writes)
        finally:
            self._database.execute("PRAGMA busy_timeout = 0")

    def _committed(
        self,
        callers: Sequence[asyncio.Future[None]],
        loop: asyncio.AbstractEventLoop,
        outcomes: Sequence[Exception | None],
    ) -> None:
        """Wake the callers, and commit what was requested meanwhile."""
        for done, error in zip(callers, outcomes, strict=True):
            if done.done():  # its caller was cancelled
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
        if self._waiting:
            self._commit_waiting(loop)
        else:
            self._idle.set()

    def _commit(self, writes: Sequence[_Write]) -> Sequence[Exception | None]:
        """Return the outcome of each write. If all together fail, each one succeeds or fails by itself."""
        self._commits += 1
        error = self._outcome([write.step for write in writes])
        if error is None or _is_busy(error) or (len(writes) == 1 and not _is_full(error)):
            return [error] * len(writes)
        return [self._outcome_of(write) for write in writes]

    def _outcome_of(self, write: _Write) -> Exception | None:
        """Return the outcome of one write, with as much of the reserve as it needs."""
        while True:
            error = self._outcome([write.step])
            if not (write.essential and _is_full(error) and self._reserve.release()):
                return error

    def _outcome(self, steps: Sequence[_Step]) -> Exception | None:
        try:
            self._do(partial(_transaction, steps))
        except Exception as error:  # noqa: BLE001 - raised by the callers
            return error
        return None

    async def _find(self, query: str, key: tuple[str | None, ...]) -> _PastRow | None:
        """Return the row with a key; every start asks for one. The event loop reads unless it may block."""

        def fetch(database: sqlite3.Connection) -> _PastRow | None:
            row: _PastRow | None = database.execute(query, key).fetchone()
            return row

        if self._idle.is_set() and not self._may_block():
            return self._do(fetch)
        return await self._run(fetch)

    async def _run(self, step: Callable[[sqlite3.Connection], _T]) -> _T:
        self._in_thread += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, step)
        finally:
            self._in_thread -= 1

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
            record = record_from_text(text)
            if str(record.id) != job:
                raise ValueError(f"it is the record of job {record.id}")  # noqa: TRY301 - reported as the others
            records.append(record)
        except Exception as error:  # noqa: BLE001 - a converter may raise anything for a foreign row
            bad[str(job)] = f"{type(error).__name__}: {error}"
    return records, bad


def _is_busy(error: Exception | None) -> bool:
    """Whether another process has locked the file."""
    return _code(error) == sqlite3.SQLITE_BUSY


def _is_full(error: Exception | None) -> bool:
    """Whether the disk is full."""
    return _code(error) == sqlite3.SQLITE_FULL


def _code(error: Exception | None) -> int:
    """Return the primary code of an error of SQLite, 0 if it is none."""
    return int(getattr(error.__cause__, "sqlite_errorcode", 0)) & 0xFF if error is not None else 0


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # before each commit: Path.stat takes twice as long
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _transaction(steps: Sequence[_Step], database: sqlite3.Connection) -> None:
    """Do all steps or none."""
    with database:  # commits, or rolls back
        database.execute("BEGIN IMMEDIATE")
        for step in steps:
            step(database)


def _remove(job: JobId, remember: PastRequest | None, database: sqlite3.Connection) -> None:
    if remember is not None:
        past = (
            str(remember.job),
            remember.owner,
            remember.issuer,
            remember.request_id,
            remember.fingerprint,
            remember.removed_at,
        )
        database.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, ?, ?)", past)
    database.execute("DELETE FROM jobs WHERE id = ?", (str(job),))
