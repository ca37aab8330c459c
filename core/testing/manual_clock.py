"""A clock that stands still until it is told to move."""

import asyncio


class ManualClock:
    """A Clock whose time passes only through ``advance``."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._started_at = now
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Return seconds since 1970."""
        return self._started_at + self._elapsed

    def boottime(self) -> float:
        """Return seconds since this clock was made."""
        return self._elapsed

    def set(self, now: float) -> None:
        """Set the wall clock, as NTP does: no time passes by that."""
        self._started_at = now - self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait until ``advance`` has moved the clock so far."""
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed + seconds, woken))
        if seconds <= 0:
            woken.set_result(None)
        await woken

    async def advance(self, seconds: float) -> None:
        """Move time on and let everybody who waited for it run."""
        self._elapsed += seconds
        due = [woken for at, woken in self._sleepers if at <= self._elapsed]
        self._sleepers = [(at, woken) for at, woken in self._sleepers if at > self._elapsed]
        for woken in due:
            if not woken.done():
                woken.set_result(None)
        for _ in range(50):  # a chain of tasks, each waking the next
            await asyncio.sleep(0)
