"""The adapters that need no machine pass the same suites as those that do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from worker.core.engine.defaults import MemoryJournal
from worker.core.ports import JobJournal, Sink
from worker.core.testing import (
    FakeLimiter,
    FakeSpawner,
    JournalContract,
    LimiterContract,
    MemoryOutputStore,
    OutputBench,
    OutputStoreContract,
    SpawnerBench,
    SpawnerContract,
)
from worker.core.testing.memory_outputs import MemorySink
from worker.linux.journal.sqlite import SqliteJournal

Check = Callable[[], Coroutine[None, None, None]]


def name(check: Check) -> str:
    """Return what a check is called."""
    return check.__name__


async def write(sink: Sink, data: bytes) -> None:
    """Write as a job would."""
    assert isinstance(sink, MemorySink)
    sink.write(data)


@asynccontextmanager
async def memory_outputs() -> AsyncIterator[OutputBench]:
    """Give a store that lasts as long as its object."""
    yield OutputBench(MemoryOutputStore(), write)


@asynccontextmanager
async def fake_spawner() -> AsyncIterator[SpawnerBench]:
    """Give a fake, which is its own successor."""
    spawner = FakeSpawner()
    yield SpawnerBench(MemoryOutputStore(), lambda: spawner)


@asynccontextmanager
async def fake_limiter() -> AsyncIterator[FakeLimiter]:
    """Give a limiter that limits nothing."""
    yield FakeLimiter()


@asynccontextmanager
async def memory_journal() -> AsyncIterator[Callable[[], JobJournal]]:
    """Give a journal, which is its own successor."""
    journal = MemoryJournal()
    yield lambda: journal


@asynccontextmanager
async def sqlite_journal() -> AsyncIterator[Callable[[], JobJournal]]:
    """Give journals over one file."""
    with TemporaryDirectory() as directory:
        yield lambda: SqliteJournal(Path(directory, "journal.db"))


@pytest.mark.parametrize("check", OutputStoreContract(memory_outputs).checks(), ids=name)
def test_memory_output_store(check: Check) -> None:
    """MemoryOutputStore keeps the promises of an OutputStore."""
    asyncio.run(check())


@pytest.mark.parametrize("check", SpawnerContract(fake_spawner).checks(), ids=name)
def test_fake_spawner(check: Check) -> None:
    """FakeSpawner keeps the promises of a ProcessSpawner."""
    asyncio.run(check())


@pytest.mark.parametrize("check", LimiterContract(fake_limiter).checks(), ids=name)
def test_fake_limiter(check: Check) -> None:
    """FakeLimiter keeps the promises of a ResourceLimiter."""
    asyncio.run(check())


@pytest.mark.parametrize("check", JournalContract(memory_journal).checks(), ids=name)
def test_memory_journal(check: Check) -> None:
    """MemoryJournal keeps the promises of a JobJournal."""
    asyncio.run(check())


@pytest.mark.parametrize("check", JournalContract(sqlite_journal).checks(), ids=name)
def test_sqlite_journal(check: Check) -> None:
    """SqliteJournal keeps the promises of a JobJournal."""
    asyncio.run(check())
