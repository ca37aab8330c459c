"""The ports of records and time."""

from collections.abc import Collection, Sequence
from typing import Protocol

from ..model.client_id import ClientId
from ..model.job import (
    JobId,
    JobRecord,
    PastRequest,
)


class JobJournal(Protocol):
    """Stores job records across restarts. Every method may raise JournalUnusable."""

    async def load(self) -> Sequence[JobRecord]:
        """Return every readable record, oldest first."""
        ...

    @property
    def unreadable(self) -> Collection[JobId]:
        """The jobs whose records ``load`` could not read; these records are set aside unchanged."""
        ...

    async def put(self, record: JobRecord) -> None:
        """Insert or replace a record; once this returns, the record survives a crash of this process."""
        ...

    async def remove(self, job: JobId, remember: PastRequest | None = None) -> None:
        """Delete a record and store its start request, atomically. Idempotent."""
        ...

    async def past_request(self, owner: ClientId, request_id: str) -> PastRequest | None:
        """Return the stored start request, None if there is none.

        One that was stored without an issuer belongs to each client of its name (ClientId.on_record).
        """
        ...

    async def forget_requests(self, before: float) -> None:
        """Delete the requests whose jobs were removed before this time in seconds since 1970."""
        ...

    async def close(self) -> None:
        """Close the journal."""
        ...


class Clock(Protocol):
    """The wall clock, for display, and a clock to measure time with."""

    def now(self) -> float:
        """Return the wall clock time in seconds since 1970; it may jump."""
        ...

    def boottime(self) -> float:
        """Return CLOCK_BOOTTIME in seconds; it never jumps and includes time in suspend."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""
        ...
