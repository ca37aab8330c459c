"""The number of bytes received and their rate, on the last line of a terminal."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import Self

_INTERVAL = 0.5
_WINDOW = 10
"""Intervals over which the rate is averaged."""


class Meter:
    """A line on a terminal that is rewritten twice a second."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._total = 0
        self._seen = deque([(monotonic(), 0)], maxlen=_WINDOW)

    @classmethod
    @contextmanager
    def shown(cls) -> Iterator[Self | None]:
        """Return a meter on stderr, if stderr is a terminal and stdout is not; else None."""
        if not os.isatty(2) or os.isatty(1):
            yield None
            return
        meter = cls(2)
        try:
            yield meter
        finally:
            meter.show(end="\n")

    @asynccontextmanager
    async def ticking(self) -> AsyncIterator[None]:
        """Rewrite the line at intervals, also while no bytes arrive, so that the rate falls."""
        ticks = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            ticks.cancel()
            await asyncio.wait({ticks})

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            self._seen.append((monotonic(), self._total))
            self.show()

    def add(self, size: int) -> None:
        """Count bytes that have arrived."""
        self._total += size

    def show(self, end: str = "\r") -> None:
        """Write the line so that a later note overwrites it; ignore a failure of the terminal."""
        since, before = self._seen[0]
        rate = (self._total - before) / max(monotonic() - since, 1e-3)
        # EL (ECMA-48) erases the rest of a longer previous line.
        line = f"{_in_units(self._total)}  {_in_units(rate)}/s\x1b[K{end}"
        with suppress(OSError):
            os.write(self._terminal, line.encode())


def _in_units(size: float) -> str:
    """Return a size as 1.5 MB, in powers of 1000, as is usual for rates."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
