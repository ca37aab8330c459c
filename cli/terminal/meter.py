"""How much has come so far, and how fast, on the last line of a terminal."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import Self

_INTERVAL = 0.5
_WINDOW = 10
# Intervals over which the rate is taken.


class Meter:
    """A line on a terminal that is written anew twice a second."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._total = 0
        self._seen = deque([(monotonic(), 0)], maxlen=_WINDOW)

    @classmethod
    @contextmanager
    def shown(cls) -> Iterator[Self | None]:
        """Give a meter on stderr, if that is a terminal and stdout, where the bytes go, is none."""
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
        """Write the line regularly, whether bytes come or not: the rate falls while none do."""
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
        """Count bytes that have come."""
        self._total += size

    def show(self, end: str = "\r") -> None:
        """Write the line, so that a remark would cover it; a terminal that takes nothing is no matter."""
        since, before = self._seen[0]
        rate = (self._total - before) / max(monotonic() - since, 1e-3)
        # ECMA-48: EL erases what a longer line has left.
        line = f"{_in_units(self._total)}  {_in_units(rate)}/s\x1b[K{end}"
        with suppress(OSError):
            os.write(self._terminal, line.encode())


def _in_units(size: float) -> str:
    """Return a size as 1.5 MB, in powers of 1000 as rates are told."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
