"""Ports that need no outside world: a journal in memory, and the system's clock."""

import asyncio
import time
from collections.abc import Sequence

from .job import JobId, JobRecord


class MemoryJournal:
    """A JobJournal that lasts as long as its object."""

    def __init__(self) -> None:
        self._records: dict[JobId, JobRecord] = {}

    async def load(self) -> Sequence[JobRecord]:
        """Return every record, oldest first."""
        return sorted(self._records.values(), key=lambda record: record.created_at)

    async def put(self, record: JobRecord) -> None:
        """Insert or replace."""
        self._records[record.id] = record

    async def remove(self, job: JobId) -> None:
        """Drop a record. Idempotent."""
        self._records.pop(job, None)

    async def close(self) -> None:
        """Keep the records: the journal may be handed to another Worker."""


class SystemClock:
    """The Clock of this machine."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def boottime(self) -> float:
        """Return seconds of CLOCK_BOOTTIME (clock_gettime(2))."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
