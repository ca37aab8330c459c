"""HTTP/2 connections whose end can be awaited, for both sides."""

import asyncio
import logging

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

MOST_UNREAD = 1 << 20
"""Bytes that may wait for a peer that sends and does not read; replies and output wait before that."""

_LONGEST_REQUEST_FRAME = 1 << 17
"""Bytes of a frame that a client may send; the default is 16 KiB. Input comes in messages of 64 KiB, and h2
makes several objects of each frame."""

CLOSE_PATIENCE = 2.0
"""Seconds that a peer has to read the rest and to close its side when we close."""

log = logging.getLogger(__name__)


class _Events(EventsProcessor):
    """grpclib's, but it also accepts frames that RFC 9113 allows and that have no effect."""

    _closed = False

    def close(self, reason: str = "Connection closed") -> None:
        """Wake each call only once: a second cancellation looks like one from elsewhere."""
        if not self._closed:
            self._closed = True
            super().close(reason)

    def process(self, event: Event) -> None:
        """Ignore frames that an endpoint may ignore (section 5.5), and empty DATA frames.

        grpclib fails on the former; it stores the latter without bound, and takes one for the end of a
        message.
        """
        if isinstance(
            event, UnknownFrameReceived | AlternativeServiceAvailable | InformationalResponseReceived
        ):
            return
        if isinstance(event, DataReceived) and not event.flow_controlled_length:
            return
        super().process(event)


class Http2Connection(H2Protocol):
    """grpclib's connection, which records whether the peer has sent anything and when it has ended."""

    def __init__(
        self,
        handler: AbstractHandler,
        config: Configuration,
        h2_config: H2Configuration,
        *,
        most_calls: int | None = None,
    ) -> None:
        super().__init__(handler, config, h2_config)
        self._most_calls = most_calls
        self.has_received = False
        self.transport: asyncio.WriteTransport | None = None
        self._lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start HTTP/2; the TLS handshake is complete on this side."""
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        transport.set_write_buffer_limits(_WRITE_BUFFER)
        super().connection_made(transport)
        self.processor = _Events(self.handler, self.connection)
        if self._most_calls is not None:
            h2 = self.connection._connection  # noqa: SLF001 - h2's default is 100
            # Sent with the next frames.
            h2.update_settings(
                {
                    SettingCodes.MAX_CONCURRENT_STREAMS: self._most_calls,
                    SettingCodes.MAX_FRAME_SIZE: _LONGEST_REQUEST_FRAME,
                }
            )

    def data_received(self, data: bytes) -> None:
        """Process what the peer sent."""
        self.has_received = True
        if self.connection.is_closing():
            return  # grpclib has discarded its h2 state
        # Any data shows that the peer is alive; its answer to a ping may be queued behind megabytes.
        self.connection.ping_ack_process()
        super().data_received(data)
        assert self.transport is not None
        if self.transport.get_write_buffer_size() > MOST_UNREAD:
            peer = self.transport.get_extra_info("peername")
            log.warning("%s: closing the connection: the client sends requests and reads no answers", peer)
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Record that the connection has ended."""
        super().connection_lost(exc)
        if not self._lost.done():
            self._lost.set_result(None)

    async def end(self, patience: float) -> None:
        """Close, give the peer ``patience`` seconds to read the rest, and wait for the end."""
        if self.transport is None:
            return
        self.processor.close("closed on this side")
        await asyncio.wait({self._lost}, timeout=patience)
        if not self._lost.done():
            self.transport.abort()
            await asyncio.wait({self._lost})
