"""A clock for tests, which only the test advances."""

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
        """Return the seconds by which the clock was advanced."""
        return self._elapsed

    def set(self, now: float) -> None:
        """Set the wall clock, as NTP does; ``boottime`` is unaffected."""
        self._started_at = now - self._elapsed

    async def sleep(self, seconds: float) -> None:
        """Wait until ``advance`` has advanced the clock by this time."""
        wakeup = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed + seconds, wakeup))
        if seconds <= 0:
            wakeup.set_result(None)
        await wakeup

    async def advance(self, seconds: float) -> None:
        """Advance the clock, and run all tasks until they wait for something else."""
        self._elapsed += seconds
        due = [wakeup for at, wakeup in self._sleepers if at <= self._elapsed]
        self._sleepers = [(at, wakeup) for at, wakeup in self._sleepers if at > self._elapsed]
        for wakeup in due:
            if not wakeup.done():
                wakeup.set_result(None)
        for _ in range(50):  # a chain of tasks, each waking the next
            await asyncio.sleep(0)
