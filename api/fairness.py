"""Turns between clients: however much one of them asks for, the others are served in between."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from ..core.counts import Counts
from ..core.errors import QuotaExceeded
from ..core.model.client_id import ClientId
from .bounds import Bounds

SLICE = 0.001
"""Seconds that calls are executed one after the other before something else gets its turn."""

MOST_TOGETHER = 8
"""Waiting calls that begin in one iteration of the event loop, if they are short."""

_Item = TypeVar("_Item")


class FairQueue(Generic[_Item]):
    """A queue for each client; the clients take turns, and each client's items keep their order."""

    def __init__(self) -> None:
        self._queues: dict[ClientId, deque[_Item]] = {}  # the client whose turn is next comes first

    def __bool__(self) -> bool:
        return bool(self._queues)

    def push(self, client: ClientId, item: _Item) -> None:
        """Add an item behind those of the same client."""
        self._queues.setdefault(client, deque()).append(item)

    def pop(self, may: Callable[[ClientId], bool] | None = None) -> tuple[ClientId, _Item] | None:
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

    async def turn(self, client: ClientId) -> None:
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

    Short calls begin at once. When those of one iteration of the event loop take longer than SLICE, the
    next ones wait for their turn. One client cannot use all of ``max_calls``: its calls may all wait for
    the same slow disk.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._most_of_one = max(1, bounds.max_calls * 3 // 4)
        self._in_progress: Counts[ClientId] = Counts()
        self._executing: Counts[ClientId] = Counts()
        self._free = bounds.max_calls
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._scheduled = False
        self._slice_began = 0.0
        self._batch = 1  # calls that begin together in the next iteration

    def enter(self, client: ClientId) -> None:
        """Count a call as in progress; raise QuotaExceeded, naming the setting, if there are too many."""
        if self._in_progress[client] >= self._bounds.max_calls_per_client:
            raise QuotaExceeded(
                f"{client.name!r} has {self._in_progress[client]} calls in progress, the maximum for one "
                "client (setting max_calls_per_client)"
            )
        self._in_progress[client] += 1

    def leave(self, client: ClientId) -> None:
        """Count a call no longer."""
        self._in_progress.release(client)

    async def begin(self, client: ClientId) -> None:
        """Wait until a call of this client may be executed; ``end`` must follow."""
        if self._waiting or self._slice_is_over() or not self._may_begin(client):
            await self._wait(client)
        else:
            self._start(client)

    def end(self, client: ClientId) -> None:
        """Let the next call begin."""
        self._free += 1
        self._executing.release(client)
        if self._waiting:
            self._schedule()

    async def _wait(self, client: ClientId) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.push(client, turn)
        self._schedule()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.end(client)
            raise

    def _slice_is_over(self) -> bool:
        """Whether the calls that have begun in this iteration of the loop have used up its time."""
        now = asyncio.get_running_loop().time()
        if self._scheduled:
            return now - self._slice_began > SLICE
        self._schedule()
        self._slice_began = now
        return False

    def _may_begin(self, client: ClientId) -> bool:
        return self._free > 0 and self._executing[client] < self._most_of_one

    def _start(self, client: ClientId) -> None:
        self._free -= 1
        self._executing[client] += 1

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Begin some calls: more than in the last iteration if those were short."""
        self._scheduled = False
        if not self._waiting:
            self._batch = 1
            return
        now = asyncio.get_running_loop().time()
        self._batch = min(2 * self._batch, MOST_TOGETHER) if now - self._slice_began < SLICE else 1
        self._slice_began = now
        begun = 0
        while begun < self._batch and (found := self._waiting.pop(self._may_begin)) is not None:
            client, turn = found
            if not turn.done():  # done: its call was cancelled while it waited
                self._start(client)
                turn.set_result(None)
                begun += 1
        if begun:
            self._schedule()
