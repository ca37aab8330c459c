"""The bytes of a call that have arrived and were not read yet: bounded, in one piece of memory.

They replace grpclib's buffer of each stream, which keeps two objects for each DATA frame: 300 bytes for a
frame of one byte.
"""

import asyncio
from collections.abc import Callable

from grpclib.exceptions import GRPCError

from ...core.model.client_id import ClientId
from ..byte_budget import ByteBudget
from .status import Status

MAX_REPLY = 16 << 20
"""Maximum bytes of a message from a server; only a list of 30,000 jobs has so many."""

_STEP = 8192
"""Bytes for which the window opens at once: half of the smallest one."""


class MessageBuffer:
    """What grpclib's streams read from; the peer may send more once ``read`` has asked for it.

    ``acknowledge`` is called with the number of bytes for which the window may open again.
    """

    opens = True
    """Whether the window opens again for what was read."""

    def __init__(self, acknowledge: Callable[[int], None]) -> None:
        self._acknowledge = acknowledge
        self._data = bytearray()
        self._wanted = 0
        self._granted = 0  # bytes of _data that the reader has asked for
        self._owed = 0  # bytes that were granted and not acknowledged
        self._ended = False
        self._changed: asyncio.Future[None] | None = None

    def add(self, data: bytes, flow_controlled: int) -> None:
        """Append what has arrived; padding counts for the window, but needs no memory."""
        self._data += data
        self._owed += flow_controlled - len(data)
        if self._changed is not None:
            self._grant()
            if len(self._data) >= self._wanted:
                self._wake()
            else:
                self._settle(1)

    @property
    def ended(self) -> bool:
        """Whether nothing more will arrive."""
        return self._ended

    def eof(self) -> None:
        """Record that nothing more will arrive."""
        self._ended = True
        self._wake()

    async def read(self, size: int) -> bytes:
        """Return so many bytes, none at the end; raise AssertionError, as grpclib, if it comes before."""
        self._wanted = size
        self._grant()
        while len(self._data) < size and not self._ended:
            self._check()
            self._settle(1)  # the peer may have no window left
            self._changed = asyncio.get_running_loop().create_future()
            try:
                await self._changed
            finally:
                self._changed = None
        self._check()
        if not self._data:
            return b""
        if len(self._data) < size:
            raise AssertionError("the message is cut short")
        with memoryview(self._data) as data:
            taken = bytes(data[:size])
        del self._data[:size]
        self._granted -= size
        return taken

    def unacked_size(self) -> int:
        """Forget the rest; return for how many bytes the window was not opened again."""
        size = len(self._data) - self._granted + self._owed
        self._data = bytearray()
        self._granted = self._owed = 0
        return size

    def _check(self) -> None:
        """Raise an error if the reader gets nothing more."""

    def _grant(self) -> None:
        size = min(len(self._data), self._wanted) - self._granted
        if size > 0:
            self._granted += size
            self._owed += size
        self._settle(_STEP)

    def _settle(self, least: int) -> None:
        """Acknowledge what is owed, if it is so much."""
        if self.opens and self._owed >= least:
            owed, self._owed = self._owed, 0
            self._acknowledge(owed)

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class ReplyBuffer(MessageBuffer):
    """The replies of one call."""

    async def read(self, size: int) -> bytes:
        """Return so many bytes, as a MessageBuffer; raise GRPCError if that is too much for any message."""
        if size > MAX_REPLY:
            raise GRPCError(
                Status.RESOURCE_EXHAUSTED,
                f"the server announces a message of {size} bytes; the maximum is {MAX_REPLY}",
            )
        return await super().read(size)


class RequestBuffer(MessageBuffer):
    """The requests of one call. Their bytes count for the client until ``covered``.

    The window stays as it is until ``open_window``: a call that has one request needs no more.
    """

    opens = False

    def __init__(self, acknowledge: Callable[[int], None], budget: ByteBudget, client: ClientId) -> None:
        super().__init__(acknowledge)
        self._budget = budget
        self._client = client
        self._counted = 0
        self._counts = True
        self._refused = False

    def add(self, data: bytes, flow_controlled: int) -> None:
        """Append what has arrived; if the client occupies too much memory, discard it and end the call."""
        if self._counts:
            if not self._budget.try_take(self._client, len(data)):
                self._refused = True
                self.covered()
                self._wake()
            else:
                self._counted += len(data)
        if not self._refused:
            super().add(data, flow_controlled)

    def covered(self) -> None:
        """Count the bytes no longer: something else accounts for them. Idempotent."""
        if self._counts:
            self._budget.release(self._client, self._counted)
            self._counted = 0
            self._counts = False

    def open_window(self) -> None:
        """Open the window again for what is read from now on, and for what was read."""
        self.opens = True
        self._grant()

    def close(self) -> None:
        """Forget everything; idempotent."""
        self.covered()
        self._data = bytearray()

    def _check(self) -> None:
        if self._refused:
            raise self._budget.refusal(self._client)
