"""How blocked calls learn that the server is shutting down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..core.errors import WorkerError


class ShuttingDown(WorkerError):
    """The server takes no more calls, or has ended this one; the message says how to go on."""

    def __init__(self, advice: str) -> None:
        super().__init__(f"the server is shutting down; {advice}")


class Drain:
    """The one switch of a server: once it is turned, nothing that blocks goes on."""

    def __init__(self) -> None:
        self.begun = False
        self._blocked: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Interrupt every call that is blocked, and each that comes to block later."""
        self.begun = True
        now = asyncio.get_running_loop().time()
        for timeout in self._blocked:
            timeout.reschedule(now)

    def check(self, advice: str) -> None:
        """Raise ShuttingDown if the server is."""
        if self.begun:
            raise ShuttingDown(advice)

    @asynccontextmanager
    async def interrupts(self, advice: str) -> AsyncIterator[None]:
        """End what is waited for inside with ShuttingDown when the server shuts down."""
        self.check(advice)
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._blocked.add(timeout)
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise ShuttingDown(advice) from None
        finally:
            self._blocked.discard(timeout)
