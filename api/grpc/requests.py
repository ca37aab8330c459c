"""Receiving requests: each is bounded, checked, and read only when its handler asks for it.

grpclib's own recv_message buffers any size that a client announces, up to 4 GiB, and answers UNKNOWN to
what it cannot decode. The private parts of grpclib in this module are listed in private-parts.md.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from betterproto2 import Message
from grpclib.server import Stream

from ...core.model.client_id import ClientId
from ..bounds import Bounds
from ..byte_budget import ByteBudget
from ..errors import CallRejected
from ..wire.decoding import Decoder, decode
from .message_buffer import RequestBuffer
from .status import Status

_PREFIX = struct.Struct(">BI")  # of a gRPC message: compressed or not, size

WINDOW = 16 << 10
"""Bytes of a call that a client may send before they are read: longer than almost all requests."""

SHORT_REQUEST = WINDOW - _PREFIX.size
"""Bytes of a request that needs no more room than the window."""

INPUT_WINDOW = 256 << 10
"""The window of a call with input, if there is memory for it: more than a network has under way."""

MAX_STREAMED_REQUEST = (64 << 10) + 1024
"""Maximum bytes of a request of a call that has many: 64 KiB of input, and the other fields."""

SIZE_OF_FIELD = 16
"""A request may have one field for so many of the bytes that are allowed: few enough to decode quickly."""

_FIELDS_AT_ONCE = 500
"""Fields that are decoded before other clients get their turn."""

_DECODED_AT_ONCE = 1024
"""Bytes of a request that is decoded without waiting for a turn."""


_Request = TypeVar("_Request", bound=Message)
Turn = Callable[[], Awaitable[None]]


class RequestReader:
    """Reads the first request of one call; its bytes count for the client until ``close``."""

    def __init__(
        self, stream: Stream[Any, Any], bounds: Bounds, budget: ByteBudget, client: ClientId, turn: Turn
    ) -> None:
        self._wire = stream._stream  # noqa: SLF001 - see the module
        self._bounds = bounds
        self._budget = budget
        self._client = client
        self._turn = turn
        self._reserved = 0

    async def receive(self, most: int, setting: str) -> bytes:
        """Return the bytes of the first request, at most ``most``, which is a ``setting``.

        Raises CallRejected and QuotaExceeded.
        """
        if _buffer(self._wire).ended:  # as almost always: nothing to wait for
            return await self._receive(most, setting)
        patience = self._bounds.request_timeout
        try:
            async with asyncio.timeout(patience):
                return await self._receive(most, setting)
        except TimeoutError:
            raise CallRejected(
                Status.DEADLINE_EXCEEDED,
                f"the request message did not arrive within {patience:g} s (setting request_timeout)",
            ) from None

    async def _receive(self, most: int, setting: str) -> bytes:
        size = await _size_of_next(self._wire, most, setting)
        if size is None:
            raise CallRejected(Status.INVALID_ARGUMENT, "the request message is missing")
        if size > SHORT_REQUEST and not _buffer(self._wire).ended:
            await self._make_room(size)
        return await _next(self._wire, size)

    async def decode(self, data: bytes, message_type: type[_Request], most: int) -> _Request:
        """Return the message in these bytes, which may be at most so many; raise MalformedMessage."""
        if len(data) > _DECODED_AT_ONCE:
            await self._turn()
        decoder = Decoder(data, message_type, most // SIZE_OF_FIELD)
        while not decoder.advance(_FIELDS_AT_ONCE):
            await self._turn()
        return decoder.message()

    async def _make_room(self, size: int) -> None:
        """Open the window for a request once the client may occupy as much memory."""
        await self._budget.take(self._client, size)
        self._reserved = size
        _buffer(self._wire).covered()
        self._widen_window(size)

    def close(self) -> None:
        """Count the request no longer."""
        if self._reserved:
            self._budget.release(self._client, self._reserved)
            self._reserved = 0

    def open_window(self) -> None:
        """Let the client send more requests; the memory of one window is not counted for the client."""
        buffer = _buffer(self._wire)
        buffer.covered()
        buffer.open_window()

    @contextmanager
    def input_window(self) -> Iterator[None]:
        """Let the client send more requests, and more at once while there is memory for it."""
        self.open_window()
        more = INPUT_WINDOW - WINDOW
        granted = more if self._budget.try_take(self._client, more, 0.5) else 0
        if granted:
            self._widen_window(granted)
        try:
            yield
        finally:
            if granted:
                self._budget.release(self._client, granted)

    def _widen_window(self, size: int) -> None:
        """Let the client send so many bytes more, unless the call has ended."""
        if self._wire.closable:
            self._wire._h2_connection.increment_flow_control_window(size, self._wire.id)  # noqa: SLF001
            self._wire.connection.flush()


async def receive_rest(
    stream: Stream[Any, Any],
    message_type: type[_Request],
    most: int = MAX_STREAMED_REQUEST,
    setting: str = "",
) -> AsyncGenerator[_Request, None]:
    """Yield the requests after the first one; they may be days apart. Arguments and errors as ``receive``.

    What the handler has not asked for stays in the window of HTTP/2, which closes.
    """
    wire = stream._stream  # noqa: SLF001 - see the module
    while (size := await _size_of_next(wire, most, setting)) is not None:
        yield decode(await _next(wire, size), message_type, most // SIZE_OF_FIELD)


def _buffer(wire: Any) -> RequestBuffer:
    assert isinstance(wire.buffer, RequestBuffer)
    return wire.buffer


async def _size_of_next(wire: Any, most: int, setting: str) -> int | None:
    """Return the size of the next request, or None if the client has ended its side."""
    prefix = await _next(wire, _PREFIX.size, may_end=True)
    if not prefix:
        return None
    compressed, size = _PREFIX.unpack(prefix)
    if compressed:
        raise CallRejected(Status.UNIMPLEMENTED, "compressed messages are not supported")
    if size > most:
        named = f" (setting {setting})" if setting else ""
        raise CallRejected(
            Status.RESOURCE_EXHAUSTED, f"the request has {size} bytes; the maximum is {most}{named}"
        )
    return int(size)


async def _next(wire: Any, size: int, *, may_end: bool = False) -> bytes:
    """Return the next bytes; none if the client has ended its side, which it may do between requests."""
    with suppress(AssertionError):  # raised by the buffer: there are fewer
        data: bytes = await wire.recv_data(size)
        if len(data) == size or (may_end and not data):
            return data
    raise CallRejected(Status.INVALID_ARGUMENT, "the request message is cut short")
