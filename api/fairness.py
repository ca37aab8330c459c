"""Turns between clients: however much one of them asks for, the others are served in between."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar

from ..core.errors import QuotaExceeded
from .bounds import Bounds

_Item = TypeVar("_Item")


class FairQueue(Generic[_Item]):
    """A queue for each client; the clients take turns, and each client's items keep their order."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[_Item]] = {}  # the client whose turn is next comes first

    def __bool__(self) -> bool:
        return bool(self._queues)

    def push(self, client: str, item: _Item) -> None:
        """Add an item behind those of the same client."""
        self._queues.setdefault(client, deque()).append(item)

    def pop(self, may: Callable[[str], bool] | None = None) -> tuple[str, _Item] | None:
        """Remove and return the next item and its client; only of clients that ``may`` have a turn."""
        client = next((each for each in self._queues if may is None or may(each)), None)
        if client is None:
            return None
        queue = self._queues.pop(client)
        item = queue.popleft()
        if queue:
            self._queues[client] = queue  # behind all others
        return client, item


class RoundRobin:
    """Resumes one waiting task in each iteration of the event loop; the clients take turns.

    However many streams run at full speed, another call waits for one chunk per iteration, not for a
    chunk of each stream. Long operations take a turn between their parts.
    """

    def __init__(self) -> None:
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    async def turn(self, client: str) -> None:
        """Wait for the next turn, behind what this client has waiting already."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._next)
        self._waiting.push(client, turn)
        await turn

    def _next(self) -> None:
        if (found := self._waiting.pop()) is not None:
            _, turn = found
            if not turn.done():  # done: its task was cancelled while it waited
                turn.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)


class CallTurns:
    """Unary calls: how many are executed at once, how many of a client are in progress, and whose is next.

    At most one call begins in each iteration of the event loop. One client cannot use all of ``max_calls``:
    its calls may all wait for the same slow disk.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._most_of_one = max(1, bounds.max_calls * 3 // 4)
        self._in_progress: Counter[str] = Counter()
        self._executing: Counter[str] = Counter()
        self._free = bounds.max_calls
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._scheduled = False

    @contextmanager
    def counted(self, client: str) -> Iterator[None]:
        """Count a call as in progress; raise QuotaExceeded, naming the setting, if there are too many."""
        if self._in_progress[client] >= self._bounds.max_calls_per_client:
            raise QuotaExceeded(
                f"{client!r} has {self._in_progress[client]} calls in progress, the maximum for one client "
                "(setting max_calls_per_client)"
            )
        self._in_progress[client] += 1
        try:
            yield
        finally:
            self._in_progress[client] -= 1
            if not self._in_progress[client]:
                del self._in_progress[client]

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Execute a call when it is the client's turn."""
        if self._scheduled or self._waiting or not self._may_begin(client):
            await self._wait(client)
        else:
            self._start(client)
            self._schedule()
        try:
            yield
        finally:
            self._stop(client)

    async def _wait(self, client: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.push(client, turn)
        self._schedule()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._stop(client)
            raise

    def _may_begin(self, client: str) -> bool:
        return self._free > 0 and self._executing[client] < self._most_of_one

    def _start(self, client: str) -> None:
        self._free -= 1
        self._executing[client] += 1

    def _stop(self, client: str) -> None:
        self._free += 1
        self._executing[client] -= 1
        if not self._executing[client]:
            del self._executing[client]
        if self._waiting:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._scheduled = False
        while (found := self._waiting.pop(self._may_begin)) is not None:
            client, turn = found
            if not turn.done():  # done: its call was cancelled while it waited
                self._start(client)
                turn.set_result(None)
                self._schedule()
                return
