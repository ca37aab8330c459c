"""Memory for output that clients have not taken: what a stream may read before it has sent it.

While its client has room in the budget of replies, a stream reads long chunks, which count there until
they are sent. Otherwise it reads short ones, which the number of streams bounds: none waits for others.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar

from ..core.engine.following import CHUNK_SIZE, Room, any_room
from ..core.model.client_id import ClientId
from .byte_budget import ByteBudget

SHORT_CHUNK = 4096
"""Bytes that a stream may read in any case."""

_PART = 0.75
"""What streams may take; the rest is for replies that cannot be made smaller."""

output_room: ContextVar[Room] = ContextVar("output_room", default=any_room)
"""That of the call that is being handled."""


class OutputRoom:
    """Room for the output of one call, in which each byte may be in memory ``copies`` times."""

    def __init__(
        self, budget: ByteBudget, client: ClientId, turn: Callable[[], Awaitable[None]], copies: int
    ) -> None:
        self._budget = budget
        self._client = client
        self._turn = turn
        self._size = CHUNK_SIZE * copies
        self._has_sent = False

    def sent(self) -> None:
        """Let the next chunk wait for a turn: nothing else waits while the socket accepts data."""
        self._has_sent = True

    @asynccontextmanager
    async def next_chunk(self) -> AsyncIterator[int]:
        """Yield the bytes that may be read; they count until the end of the context."""
        if self._has_sent:
            self._has_sent = False
            await self._turn()
        if not self._budget.try_take(self._client, self._size, _PART):
            yield SHORT_CHUNK
            return
        try:
            yield CHUNK_SIZE
        finally:
            self._budget.release(self._client, self._size)
