"""The shutdown of the server, and how it interrupts calls that are waiting."""

import asyncio
from types import TracebackType

from ..core.errors import WorkerError


class ShuttingDown(WorkerError):
    """The server accepts no more calls, or has ended this one; the message states how to continue."""

    def __init__(self, advice: str) -> None:
        super().__init__(f"the server is shutting down; {advice}")


class Shutdown:
    """State of one server's shutdown: once it has begun, no call waits any longer."""

    def __init__(self) -> None:
        self.begun = False
        self._waiting: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Interrupt every call that is waiting, and each that starts to wait later."""
        self.begun = True
        now = asyncio.get_running_loop().time()
        for timeout in self._waiting:
            timeout.reschedule(now)

    def check(self, advice: str) -> None:
        """Raise ShuttingDown if the shutdown has begun."""
        if self.begun:
            raise ShuttingDown(advice)

    def interrupts(self, advice: str) -> "_Interruption":
        """Return a context in which an await raises ShuttingDown when the shutdown begins."""
        return _Interruption(self, advice)

    def add(self, timeout: asyncio.Timeout) -> None:
        """Expire this timeout when the shutdown begins."""
        self._waiting.add(timeout)

    def discard(self, timeout: asyncio.Timeout) -> None:
        """Forget a timeout."""
        self._waiting.discard(timeout)


class _Interruption:
    """An async context manager; not a generator, because a stream enters one for each chunk."""

    __slots__ = ("_advice", "_shutdown", "_timeout")

    def __init__(self, shutdown: Shutdown, advice: str) -> None:
        self._shutdown = shutdown
        self._advice = advice
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        self._shutdown.check(self._advice)
        await self._timeout.__aenter__()
        self._shutdown.add(self._timeout)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shutdown.discard(self._timeout)
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise ShuttingDown(self._advice) from None
