"""HTTP/2 connections whose end can be awaited, for both sides."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, EventsProcessor, H2Protocol
from h2.config import H2Configuration
from h2.events import (
    AlternativeServiceAvailable,
    DataReceived,
    Event,
    InformationalResponseReceived,
    UnknownFrameReceived,
)
from h2.settings import SettingCodes

_WRITE_BUFFER = 65536
"""Bytes that may wait for the socket; asyncio's default for TLS is 512 KiB."""

_MOST_UNREAD = 1 << 20
"""Bytes that may wait for a peer that asks and does not read; replies and output wait before that."""

CLOSE_PATIENCE = 2.0
"""Seconds that a peer has to take what is left, and for its good-bye, when we close."""

log = logging.getLogger(__name__)


@contextmanager
def cancellation_taken_back() -> Iterator[None]:
    """Undo how grpclib wakes a call whose connection is lost: it cancels the task, and swallows that.

    The count that stays behind would make asyncio take a later Ctrl-C for none, and a cancellation
    by somebody else at the same time would be lost.
    """
    caller = asyncio.current_task()
    before = caller.cancelling() if caller is not None else 0
    try:
        yield
    except Exception:
        task = asyncio.current_task()  # a generator can be closed by another than the one that began
        if task is caller and task is not None and task.cancelling() > before and task.uncancel() > before:
            raise asyncio.CancelledError from None
        raise


class _Events(EventsProcessor):
    """grpclib's, which takes as well what RFC 9113 lets a peer send without any use."""

    _closed = False

    def close(self, reason: str = "Connection closed") -> None:
        """Wake each call, once: to be cancelled twice looks like a cancellation by somebody else, too."""
        if not self._closed:
            self._closed = True
            super().close(reason)

    def process(self, event: Event) -> None:
        """Leave out frames that one need not know (section 5.5), and empty ones.

        grpclib fails at the former, keeps the latter without bound, and takes one for the end of a message.
        """
        if isinstance(
            event, UnknownFrameReceived | AlternativeServiceAvailable | InformationalResponseReceived
        ):
            return
        if isinstance(event, DataReceived) and not event.flow_controlled_length:
            return
        super().process(event)


class Connection(H2Protocol):
    """grpclib's connection, which knows whether the peer ever spoke, and when it is gone."""

    def __init__(
        self,
        handler: AbstractHandler,
        config: Configuration,
        h2_config: H2Configuration,
        *,
        read_buffer: int | None = None,
        most_calls: int | None = None,
    ) -> None:
        super().__init__(handler, config, h2_config)
        self._most_calls = most_calls
        self._read_buffer = read_buffer
        self.heard = False
        self._transport: asyncio.WriteTransport | None = None
        self._lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, once the handshake is done on this side."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.set_write_buffer_limits(_WRITE_BUFFER)
        if self._read_buffer is not None:
            _shrink_read_buffer(transport, self._read_buffer)
        super().connection_made(transport)
        self.processor = _Events(self.handler, self.connection)
        if self._most_calls is not None:
            h2 = self.connection._connection  # noqa: SLF001 - which says 100 by itself
            h2.update_settings(
                {SettingCodes.MAX_CONCURRENT_STREAMS: self._most_calls}
            )  # sent with the next

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        self.heard = True
        if self.connection.is_closing():
            return  # grpclib has taken its h2 state apart
        # Whatever comes shows that the peer is there; its answer to a ping may stand behind megabytes.
        self.connection.ping_ack_process()
        super().data_received(data)
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > _MOST_UNREAD:
            peer = self._transport.get_extra_info("peername")
            log.warning("%s: the connection is dropped: it asks for answers and reads none", peer)
            self._transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take note that the connection is gone."""
        super().connection_lost(exc)
        if not self._lost.done():
            self._lost.set_result(None)

    async def end(self, patience: float) -> None:
        """Close, with ``patience`` seconds for the peer to take what is left, and wait until it is gone."""
        if self._transport is None:
            return
        self.processor.close("closed on this side")
        await asyncio.wait({self._lost}, timeout=patience)
        if not self._lost.done():
            self._transport.abort()
            await asyncio.wait({self._lost})


def _shrink_read_buffer(transport: asyncio.WriteTransport, size: int) -> None:
    """Have a connection read into less memory than the 256 KiB that asyncio holds for each over TLS.

    There is no public way. Between reads nothing is in that memory, and what is not there is not touched.
    """
    protocol: Any = getattr(transport, "_ssl_protocol", None)
    if hasattr(protocol, "_ssl_buffer_view"):
        protocol.max_size = size
        protocol._ssl_buffer = bytearray(size)  # noqa: SLF001
        protocol._ssl_buffer_view = memoryview(protocol._ssl_buffer)  # noqa: SLF001
