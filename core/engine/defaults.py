"""Ports that need no outside world: a journal in memory, and the system's clock."""

import asyncio
import time
from collections.abc import Collection, Sequence

from ..model.job import JobId, JobRecord, PastRequest


class MemoryJournal:
    """A JobJournal that lasts as long as its object."""

    def __init__(self) -> None:
        self._records: dict[JobId, JobRecord] = {}
        self._requests: dict[tuple[str, str], PastRequest] = {}

    async def load(self) -> Sequence[JobRecord]:
        """Return every record, oldest first."""
        return sorted(self._records.values(), key=lambda record: record.created_at)

    @property
    def unreadable(self) -> Collection[JobId]:
        """None is: a record stays the object that it is."""
        return ()

    async def put(self, record: JobRecord) -> None:
        """Insert or replace."""
        self._records[record.id] = record

    async def remove(self, job: JobId, remember: PastRequest | None = None) -> None:
        """Drop a record, and remember the request that started it. Idempotent."""
        self._records.pop(job, None)
        if remember is not None:
            self._requests[remember.owner, remember.request_id] = remember

    async def past_request(self, owner: str, request_id: str) -> PastRequest | None:
        """Return what is remembered of a request."""
        return self._requests.get((owner, request_id))

    async def forget_requests(self, before: float) -> None:
        """Drop the requests whose jobs were removed before."""
        for request, past in list(self._requests.items()):
            if past.removed_at < before:
                del self._requests[request]

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
