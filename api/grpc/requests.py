"""Receiving requests: each is bounded, checked, and read only when its handler asks for it.

grpclib's own recv_message buffers any size that a client announces, up to 4 GiB, and answers UNKNOWN to
what it cannot decode. The private parts of grpclib in this module are listed in docs/private-parts.md.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from betterproto2 import Message
from grpclib.protocol import Connection
from grpclib.server import Stream

from ..errors import CallRejected
from ..wire.decoding import decode
from .status import Status

MAX_REQUEST = 4 << 20
"""Maximum bytes of a request; gRPC's own default."""

MAX_STREAMED_REQUEST = 128 << 10
"""Maximum bytes of a request of a call that has many: what a job that does not read costs."""

REQUEST_TIMEOUT = 60.0
"""Seconds from the headers of a call to the end of its first request: an open call occupies memory."""

WINDOW = 256 << 10
"""Bytes that a client may send over one connection before they are read: longer than most requests."""

_PREFIX = struct.Struct(">BI")  # of a gRPC message: compressed or not, size

_Request = TypeVar("_Request", bound=Message)


async def receive(
    stream: Stream[Any, Any], message_type: type[_Request], most: int = MAX_REQUEST
) -> _Request:
    """Return the first request; CallRejected or MalformedMessage if it is late, too long or invalid."""
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            data = await _next(stream, most)
    except TimeoutError:
        raise CallRejected(
            Status.DEADLINE_EXCEEDED, f"the request message did not arrive within {REQUEST_TIMEOUT:g} s"
        ) from None
    if data is None:
        raise CallRejected(Status.INVALID_ARGUMENT, "the request message is missing")
    return decode(data, message_type)


async def receive_rest(
    stream: Stream[Any, Any], message_type: type[_Request]
) -> AsyncGenerator[_Request, None]:
    """Yield the requests after the first one; they may be days apart. Raises as ``receive``.

    What the handler has not asked for stays in the window of HTTP/2, which closes.
    """
    while (data := await _next(stream, MAX_STREAMED_REQUEST)) is not None:
        yield decode(data, message_type)


async def _next(stream: Stream[Any, Any], most: int) -> bytes | None:
    """Return the bytes of the next request, or None if the client has ended its side."""
    wire = stream._stream  # noqa: SLF001 - see the module
    try:
        prefix = await wire.recv_data(_PREFIX.size)
        if not prefix:
            return None
        compressed, size = _PREFIX.unpack(prefix)
        if compressed:
            raise CallRejected(Status.UNIMPLEMENTED, "compressed messages are not supported")
        if size > most:
            raise CallRejected(
                Status.RESOURCE_EXHAUSTED, f"the request has {size} bytes; the maximum is {most}"
            )
        data = await wire.recv_data(size)
    except AssertionError:  # raised by grpclib's buffer
        raise CallRejected(Status.INVALID_ARGUMENT, "the request message is cut short") from None
    if len(data) < size:
        raise CallRejected(Status.INVALID_ARGUMENT, "the request message is cut short")
    return data


class _OwnWindows:
    """How often the window of a connection was enlarged, and how many calls use that now."""

    def __init__(self) -> None:
        self.granted = self.used = 0


_own_windows: WeakKeyDictionary[Connection, _OwnWindows] = WeakKeyDictionary()


@contextmanager
def own_window(stream: Stream[Any, Any]) -> Iterator[None]:
    """Enlarge the window of the connection by that of a call whose requests may wait to be read.

    Otherwise these would use up the window of the connection, and its other calls could send nothing: a job
    that does not read could not be stopped. A window cannot be reduced, so the next such call uses the same
    part.
    """
    wire = stream._stream  # noqa: SLF001 - see the module
    windows = _own_windows.setdefault(wire.connection, _OwnWindows())
    windows.used += 1
    if windows.used > windows.granted:
        windows.granted += 1
        h2 = wire._h2_connection  # noqa: SLF001 - see the module
        # h2 never opens a window beyond the largest one, which was that of an idle connection.
        h2._inbound_flow_control_window_manager.max_window_size += WINDOW  # noqa: SLF001
        h2.increment_flow_control_window(WINDOW)
        wire.connection.flush()
    try:
        yield
    finally:
        windows.used -= 1
