"""HTTP/2 connections whose end can be awaited, for both sides."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, Connection, EventsProcessor, H2Protocol, Stream
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.events import (
    AlternativeServiceAvailable,
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    PushedStreamReceived,
    RemoteSettingsChanged,
    StreamReset,
    UnknownFrameReceived,
)
from h2.settings import SettingCodes

from .message_buffer import MessageBuffer, ReplyBuffer

_WRITE_BUFFER = 65536
"""Bytes that may wait for the socket; asyncio's default for TLS is 512 KiB."""

MOST_UNREAD = 1 << 20
"""Bytes that may wait for a peer that sends and does not read; replies and output wait before that."""

CLOSE_PATIENCE = 2.0
"""Seconds that a peer has to read the rest and to close its side when we close."""

_LONGEST_REASON = 500

_HEADER_TABLE = 4096
"""Bytes of the table in which hpack keeps headers that were sent, the default of HTTP/2."""

log = logging.getLogger(__name__)


class _Events(EventsProcessor):
    """grpclib's, but it also accepts frames that RFC 9113 allows and that have no effect."""

    closed = False
    """Whether the connection was closed on this side, or its end was processed."""

    def __init__(
        self, handler: AbstractHandler, connection: Connection, buffer: Callable[[Stream], MessageBuffer]
    ) -> None:
        super().__init__(handler, connection)
        self._buffer = buffer

    def register(self, stream: Stream) -> Callable[[], None]:
        """Begin a call, with our own buffer."""
        stream.buffer = self._buffer(stream)  # type: ignore[assignment] # it has the methods of grpclib's
        return super().register(stream)

    def close(self, reason: str = "Connection closed") -> None:
        """Wake each call only once: a second cancellation looks like one from elsewhere."""
        if not self.closed:
            self.closed = True
            super().close(reason)

    def process_stream_reset(self, event: StreamReset) -> None:
        """Wake the call; the end of the connection, which may follow at once, does not wake it again."""
        super().process_stream_reset(event)
        if (stream := self.streams.get(event.stream_id or 0)) is not None:
            stream.wrapper = None

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
        if isinstance(event, PushedStreamReceived):
            self.close("the server sends what was not requested")
            return
        if isinstance(event, ConnectionTerminated):
            self.close(_why_terminated(event))
            return
        if isinstance(event, RemoteSettingsChanged):
            self._bound_settings(event)
        super().process(event)

    def _bound_settings(self, event: RemoteSettingsChanged) -> None:
        """Bound what the peer's settings let h2 keep.

        h2 stores settings that do not exist, which the peer may send to have them ignored, and a table of
        any size that the peer offers; hpack searches all of it for each header.
        """
        h2 = self.connection._connection  # noqa: SLF001 - grpclib has no settings
        for each in event.changed_settings:
            if not isinstance(each, SettingCodes):
                h2.remote_settings.pop(each, None)
        h2.encoder.header_table_size = min(h2.encoder.header_table_size, _HEADER_TABLE)


class Http2Connection(H2Protocol):
    """grpclib's connection, which records whether the peer has sent anything and when it has ended."""

    processor: _Events

    def __init__(
        self,
        handler: AbstractHandler,
        config: Configuration,
        h2_config: H2Configuration,
    ) -> None:
        super().__init__(handler, config, h2_config)
        self.has_received = False
        self.end_reason: BaseException | None = None
        """The error that ended the connection."""
        self.transport: asyncio.WriteTransport | None = None
        self._lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start HTTP/2; the TLS handshake is complete on this side."""
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        transport.set_write_buffer_limits(_WRITE_BUFFER)
        super().connection_made(transport)
        self.processor = _Events(self.handler, self.connection, self.new_buffer)

    def new_buffer(self, stream: Stream) -> MessageBuffer:
        """Return the buffer of a call."""
        assert stream.id is not None
        return ReplyBuffer(partial(self.connection.ack, stream.id))

    def terminate(self, reason: str, code: ErrorCodes = ErrorCodes.ENHANCE_YOUR_CALM) -> None:
        """Tell the peer why it is disconnected (GOAWAY), and close the connection."""
        if self.connection.is_closing():
            return
        h2 = self.connection._connection  # noqa: SLF001 - grpclib sends no GOAWAY
        h2.close_connection(code, reason.encode())
        self.connection.flush()
        self.processor.close(reason)

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
        """Record that the connection has ended, and why."""
        self.end_reason = exc
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


def _why_terminated(event: ConnectionTerminated) -> str:
    """Return what the peer gives as the reason for its GOAWAY."""
    text = (event.additional_data or b"")[:_LONGEST_REASON].decode(errors="replace")
    reason = "".join(each if each.isprintable() else "?" for each in text)
    return f"it ends the connection: {reason or event.error_code}"
