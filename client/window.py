"""The size of a client's terminal, on its way to the job."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from ..core.model.terminal import WindowSize

REDRAW_PAUSE = 0.05
"""Seconds that programs have to see a size before the next one."""

_UNKNOWN = WindowSize()


class Window:
    """The size of a client's terminal, which changes; sizes that were not sent yet are replaced.

    A size that is unknown is not sent. ``redraws``: the first call sends another size before, and the
    programs on the terminal of the job redraw the screen. The kernel does not signal a size that is the
    same as before.
    """

    def __init__(self, size: WindowSize, *, redraws: bool = False) -> None:
        self._size = size
        self._redraws = redraws
        self._changed = asyncio.Event()

    def change(self, size: WindowSize) -> None:
        """Set the size at present."""
        self._size = size
        self._changed.set()

    def opening_sizes(self) -> Sequence[WindowSize]:
        """Return what a call has to send before any input: the last one is the size at present."""
        self._changed.clear()
        if self._size == _UNKNOWN:
            return []
        if not self._redraws:
            return [self._size]
        self._redraws = False
        rows = self._size.rows
        return [replace(self._size, rows=rows - 1 if rows > 1 else rows + 1), self._size]

    async def next_size(self) -> WindowSize:
        """Return the size at present, once it has changed after the previous one."""
        while not self._changed.is_set() or self._size == _UNKNOWN:
            self._changed.clear()
            await self._changed.wait()
        self._changed.clear()
        return self._size
