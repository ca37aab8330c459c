"""How blocked calls learn that the server is shutting down."""

import asyncio
from types import TracebackType

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

    def interrupts(self, advice: str) -> "_Interruption":
        """End what is waited for inside with ShuttingDown when the server shuts down."""
        return _Interruption(self, advice)

    def blocks(self, timeout: asyncio.Timeout) -> None:
        """Have a timeout run out when the server shuts down."""
        self._blocked.add(timeout)

    def goes_on(self, timeout: asyncio.Timeout) -> None:
        """Forget a timeout."""
        self._blocked.discard(timeout)


class _Interruption:
    """An async context manager; no generator, because a stream enters one for each chunk."""

    __slots__ = ("_advice", "_drain", "_timeout")

    def __init__(self, drain: Drain, advice: str) -> None:
        self._drain = drain
        self._advice = advice
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        self._drain.check(self._advice)
        await self._timeout.__aenter__()
        self._drain.blocks(self._timeout)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._drain.goes_on(self._timeout)
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise ShuttingDown(self._advice) from None
