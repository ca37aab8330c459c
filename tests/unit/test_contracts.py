"""The fakes and the SQLite journal pass the contract suites."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from worker.core import JobJournal, MemoryJournal, Sink
from worker.core.audit.record import AuditRecord
from worker.core.testing import (
    AuditLogBench,
    AuditLogContract,
    FakeLimiter,
    FakeSpawner,
    JournalContract,
    LimiterContract,
    MemoryAuditLog,
    MemoryOutputStore,
    MemorySink,
    OutputBench,
    OutputStoreContract,
    SpawnerBench,
    SpawnerContract,
)
from worker.linux.journal.sqlite import SqliteJournal

Check = Callable[[], Coroutine[None, None, None]]


def name(check: Check) -> str:
    """Return the name of a check."""
    return check.__name__


async def write(sink: Sink, data: bytes) -> None:
    """Write as a job would."""
    assert isinstance(sink, MemorySink)
    sink.write(data)


@asynccontextmanager
async def memory_outputs() -> AsyncIterator[OutputBench]:
    """Yield an empty store."""
    yield OutputBench(MemoryOutputStore(), write)


@asynccontextmanager
async def fake_spawner() -> AsyncIterator[SpawnerBench]:
    """Yield a bench whose spawner is also that of the next server."""
    spawner = FakeSpawner()
    yield SpawnerBench(MemoryOutputStore(), lambda: spawner)


@asynccontextmanager
async def fake_limiter() -> AsyncIterator[FakeLimiter]:
    """Yield a limiter without scopes."""
    yield FakeLimiter()


@asynccontextmanager
async def memory_journal() -> AsyncIterator[Callable[[], JobJournal]]:
    """Yield a function that always opens the same journal."""
    journal = MemoryJournal()
    yield lambda: journal


@asynccontextmanager
async def sqlite_journal() -> AsyncIterator[Callable[[], JobJournal]]:
    """Yield a function that opens journals on the same file."""
    with TemporaryDirectory() as directory:
        yield lambda: SqliteJournal(Path(directory, "journal.db"))


@contextmanager
def memory_audit_log() -> Iterator[AuditLogBench]:
    """Yield an empty log."""
    log = MemoryAuditLog()

    @contextmanager
    def failing() -> Iterator[None]:
        log.full = True
        yield
        log.full = False

    async def read() -> list[AuditRecord]:
        return log.records

    yield AuditLogBench(log, read, failing)


@pytest.mark.parametrize("check", AuditLogContract(memory_audit_log).checks(), ids=name)
async def test_memory_audit_log(check: Check) -> None:
    """MemoryAuditLog fulfils the contract of AuditLog."""
    await check()


@pytest.mark.parametrize("check", OutputStoreContract(memory_outputs).checks(), ids=name)
async def test_memory_output_store(check: Check) -> None:
    """MemoryOutputStore fulfils the contract of OutputStore."""
    await check()


@pytest.mark.parametrize("check", SpawnerContract(fake_spawner).checks(), ids=name)
async def test_fake_spawner(check: Check) -> None:
    """FakeSpawner fulfils the contract of ProcessSpawner."""
    await check()


@pytest.mark.parametrize("check", LimiterContract(fake_limiter).checks(), ids=name)
async def test_fake_limiter(check: Check) -> None:
    """FakeLimiter fulfils the contract of ResourceLimiter."""
    await check()


@pytest.mark.parametrize("check", JournalContract(memory_journal).checks(), ids=name)
async def test_memory_journal(check: Check) -> None:
    """MemoryJournal fulfils the contract of JobJournal."""
    await check()


@pytest.mark.parametrize("check", JournalContract(sqlite_journal).checks(), ids=name)
async def test_sqlite_journal(check: Check) -> None:
    """SqliteJournal fulfils the contract of JobJournal."""
    await check()
