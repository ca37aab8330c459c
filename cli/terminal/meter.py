"""The number of bytes received and their rate, on the last line of a terminal."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import Self

_INTERVAL = 0.5
_WINDOW = 2
"""Intervals over which the rate is averaged: the last second, so that a backlog does not count for long."""

_ERASE = "\x1b[K"
"""EL (ECMA-48): erases the line from the cursor on."""


class Meter:
    """A line on a terminal that is rewritten twice a second."""

    def __init__(self, terminal: int, clock: Callable[[], float] = monotonic) -> None:
        self.terminal = terminal
        self._clock = clock
        self._total = 0
        self._samples = deque([(clock(), 0)], maxlen=_WINDOW + 1)
        self._beside_text = False

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
        ticks = asyncio.create_task(self._ticks())
        try:
            yield
        finally:
            ticks.cancel()
            await asyncio.wait({ticks})

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            self.tick()

    def tick(self) -> None:
        """End an interval, and rewrite the line, unless an incomplete line of the job is in its place."""
        self._samples.append((self._clock(), self._total))
        if not self._beside_text:
            self.show()

    def add(self, size: int) -> None:
        """Count bytes that have arrived."""
        self._total += size

    def show(self, end: str = "\r") -> None:
        """Write the line so that a later note overwrites it."""
        since, before = self._samples[0]
        rate = (self._total - before) / max(self._clock() - since, 1e-3)
        self._write(f"{_in_units(self._total)}  {_in_units(rate)}/s{_ERASE}{end}")

    def make_room(self, output: bytes) -> None:
        """Erase the line, before this output of the job is written to the same terminal."""
        if not self._beside_text:
            self._write(_ERASE)
        self._beside_text = not output.endswith(b"\n")

    def _write(self, text: str) -> None:
        """Write to the terminal; ignore a failure."""
        with suppress(OSError):
            os.write(self.terminal, text.encode())


def _in_units(size: float) -> str:
    """Return a size as 1.5 MB, in powers of 1000, as is usual for rates."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
