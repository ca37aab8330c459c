"""Memory that clients may occupy, for each client and for all of them."""

import asyncio
from collections import deque
from typing import NamedTuple

from ..core.counts import Counts
from ..core.errors import QuotaExceeded
from ..core.model.client_id import ClientId

_PART = 0.75
"""What those that wait may take; the rest is for those that cannot wait."""


class _Waiting(NamedTuple):
    client: ClientId
    size: int
    granted: asyncio.Future[None]


class ByteBudget:
    """A number of bytes in total and for each client; ``setting`` is the name of the latter's setting.

    Calls that can wait get their bytes in order, and leave a quarter to the others. A client that has
    used up its own does not hold up the others.
    """

    def __init__(self, per_client: int, total: int, setting: str) -> None:
        self._per_client = per_client
        self._total = total
        self._setting = setting
        self._of: Counts[ClientId] = Counts()
        self._used = 0
        self._waiting: deque[_Waiting] = deque()

    @property
    def used(self) -> int:
        """The bytes in use by all clients."""
        return self._used

    def try_take(self, client: ClientId, size: int, part: float = 1) -> bool:
        """Take bytes, unless the client or all of them have too many already, or that ``part`` of it."""
        if self._used + size > part * self._total or self._of[client] + size > part * self._per_client:
            return False
        self._of[client] += size
        self._used += size
        return True

    async def take(self, client: ClientId, size: int) -> None:
        """Wait for bytes, and take them; raise QuotaExceeded if there are never so many."""
        if size > _PART * min(self._per_client, self._total):
            raise QuotaExceeded(f"{size} bytes are more than any client may use (setting {self._setting})")
        waits = any(each.client == client for each in self._waiting)
        if not waits and self.try_take(client, size, _PART):
            return
        waiting = _Waiting(client, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.done() and not waiting.granted.cancelled():
                self.release(client, size)
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    def release(self, client: ClientId, size: int) -> None:
        """Give bytes back."""
        self._used -= size
        self._of.release(client, size)
        if self._waiting:
            self._grant()

    def refusal(self, client: ClientId) -> QuotaExceeded:
        """Return the error for a client that did not get what it needs."""
        return QuotaExceeded(
            f"{client.name!r} occupies {self._of[client]} bytes of memory, all clients together "
            f"{self._used} (setting {self._setting}, or its total)"
        )

    def _grant(self) -> None:
        """Give bytes to those that wait, in order; a client with too many does not hold up others."""
        still: deque[_Waiting] = deque()
        full: set[ClientId] = set()
        while self._waiting:
            waiting = self._waiting.popleft()
            if waiting.granted.done():  # cancelled
                continue
            if waiting.client not in full and self.try_take(waiting.client, waiting.size, _PART):
                waiting.granted.set_result(None)
                continue
            still.append(waiting)
            full.add(waiting.client)
            if self._used + waiting.size > _PART * self._total:  # large ones would otherwise wait for ever
                break
        still.extend(self._waiting)
        self._waiting = still
