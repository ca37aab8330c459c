"""Turns of streams that have something to send, so that other calls are answered between their chunks."""

import asyncio
from collections import deque


class RoundRobin:
    """Lets one of those who wait go on in each round of the event loop.

    However many streams run at full speed, a call waits for one chunk in each round that it takes,
    and not for a chunk of each stream.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        """Wait for the next turn, behind all who wait already."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._next)
        await turn

    def _next(self) -> None:
        turn = self._waiting.popleft()
        if not turn.done():  # it is if its stream was cancelled meanwhile
            turn.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
