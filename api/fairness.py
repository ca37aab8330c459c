"""Round-robin between streams that have output to send, so that other calls are answered between chunks."""

import asyncio
from collections import deque


class RoundRobin:
    """Resumes one waiting stream in each iteration of the event loop.

    However many streams run at full speed, another call waits for one chunk per iteration, not for a
    chunk of each stream.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        """Wait for the next turn, behind all streams that are already waiting."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._next)
        await turn

    def _next(self) -> None:
        turn = self._waiting.popleft()
        if not turn.done():  # done: its stream was cancelled while it waited
            turn.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
