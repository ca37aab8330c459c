"""The input of a job on its way to the server: read as fast as the server takes it, kept until accepted."""

import asyncio
from collections.abc import Awaitable, Callable

from ..core.model.input import InputState
from .errors import InputFailed

MOST_KEPT = 256 << 10
"""Bytes that were read and not accepted yet, from which on no more are read."""

PIECE = 64 << 10
"""Maximum bytes of one request."""

ReadInput = Callable[[], Awaitable[bytes | None]]
"""Returns the next bytes of the input, none at its end; None: the client leaves, the input stays open."""


class PendingInput:
    """Keeps what the server has not accepted, so that the next call can continue at that byte.

    ``offset`` is that of the first byte of the input; None: it continues what was accepted before.
    """

    def __init__(self, read: ReadInput, offset: int | None = None) -> None:
        self._read = read
        self._reading: asyncio.Future[bytes | None] | None = None
        self._kept = bytearray()
        self._first = offset  # the offset of the first kept byte, known from the first call on
        self._ended = self._left = False
        self._accepted = asyncio.Event()
        self._closed = False

    def continue_at(self, state: InputState) -> int:
        """Return the offset that a new call sends from."""
        if self._first is None:
            self._first = state.accepted
        self.record(state)
        return self._first

    def record(self, state: InputState) -> None:
        """Forget what was accepted; read no more if the job does not."""
        assert self._first is not None
        forgotten = max(0, min(state.accepted - self._first, len(self._kept)))
        del self._kept[:forgotten]
        self._first += forgotten
        if state.closed:
            self._closed = True
            if self._reading is not None:
                self._reading.cancel()
        self._accepted.set()

    async def piece_at(self, offset: int) -> bytes | None:
        """Return bytes from ``offset`` on, none at the end of the input, or None if it is left open.

        It is left open if the job reads no more, or the client leaves. A call may be cancelled, and the
        next one gets the same bytes. Raises InputFailed.
        """
        while not self._closed:
            assert self._first is not None
            start = offset - self._first
            if piece := bytes(self._kept[start : start + PIECE]):
                return piece
            if self._ended:
                return b""
            if self._left:
                return None
            if len(self._kept) < MOST_KEPT:
                await self._read_more()
            else:
                self._accepted.clear()
                await self._accepted.wait()
        return None

    async def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read_more(self) -> None:
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        await asyncio.wait({self._reading})  # it goes on if this is cancelled with a lost connection
        if self._closed:
            return
        reading, self._reading = self._reading, None
        try:
            data = reading.result()
        except OSError as error:
            raise InputFailed(error) from error
        self._kept += data or b""
        self._ended, self._left = data == b"", data is None
