"""Default adapters without I/O: a journal in memory, and the system clock."""

import asyncio
import time
from collections.abc import Collection, Sequence

from ..model.client_id import ClientId
from ..model.job import JobId, JobRecord, PastRequest


class MemoryJournal:
    """A JobJournal in memory."""

    def __init__(self) -> None:
        self._records: dict[JobId, JobRecord] = {}
        self._requests: dict[tuple[ClientId, str], PastRequest] = {}

    async def load(self) -> Sequence[JobRecord]:
        """Return every record, oldest first."""
        return sorted(self._records.values(), key=lambda record: record.created_at)

    @property
    def unreadable(self) -> Collection[JobId]:
        """Always empty: records are stored as objects."""
        return ()

    async def put(self, record: JobRecord) -> None:
        """Insert or replace a record."""
        self._records[record.id] = record

    async def remove(self, job: JobId, remember: PastRequest | None = None) -> None:
        """Delete a record and store its start request. Idempotent."""
        self._records.pop(job, None)
        if remember is not None:
            client = ClientId(remember.owner, remember.issuer)
            self._requests[client, remember.request_id] = remember

    async def past_request(self, owner: ClientId, request_id: str) -> PastRequest | None:
        """Return the stored start request."""
        found = (self._requests.get((client, request_id)) for client in owner.on_record)
        return next(filter(None, found), None)

    async def forget_requests(self, before: float) -> None:
        """Delete the requests whose jobs were removed before this time."""
        for request, past in list(self._requests.items()):
            if past.removed_at < before:
                del self._requests[request]

    async def close(self) -> None:
        """Keep the records: another Worker may use this journal."""


# Elsewhere CLOCK_MONOTONIC also counts the time of suspension, as on macOS.
_BOOTTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def boottime(self) -> float:
        """Return seconds of CLOCK_BOOTTIME (clock_gettime(2))."""
        return time.clock_gettime(_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""
        await asyncio.sleep(seconds)
