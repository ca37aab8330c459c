"""The server's side of a connection: it belongs to a named client, which may send only so much."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import time
from typing import TYPE_CHECKING

from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, Stream
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from ..audit import ApiAudit
from ..bounds import Bounds, ConnectionSlots
from ..byte_budget import ByteBudget
from ..client_check import ClientCheck
from ..ends_of_validity import ClientExpiries
from ..errors import CertificateRefused
from ..fairness import RoundRobin
from ..identity import ANONYMOUS
from ..refusal_log import RefusalLog
from ..trust import Trust
from .connection import CLOSE_PATIENCE, Http2Connection
from .frame_budgets import LONGEST_HEADERS, FrameBudgets
from .message_buffer import MessageBuffer, RequestBuffer
from .requests import WINDOW

if TYPE_CHECKING:
    from ssl import SSLObject

_LONGEST_REQUEST_FRAME = 1 << 17
"""Bytes of a frame that a client may send; the default is 16 KiB. Input comes in messages of 64 KiB, and h2
makes several objects of each frame."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the connections of a server share."""

    bounds: Bounds
    slots: ConnectionSlots
    requests: ByteBudget
    turns: RoundRobin
    trust: Callable[[], Trust]
    refusals: RefusalLog
    expiries: ClientExpiries
    audit: ApiAudit
    most_calls: int


class ServerConnection(Http2Connection):
    """A connection of a client; closed at once, with the reason in a GOAWAY, if there are too many."""

    client = ANONYMOUS.client
    """Who the client is, once the connection is accepted."""

    received = 0
    """Bytes that the client has sent."""

    def __init__(
        self,
        handler: AbstractHandler,
        config: Configuration,
        h2_config: H2Configuration,
        shared: Shared,
    ) -> None:
        super().__init__(handler, config, h2_config)
        self._shared = shared
        self.check: ClientCheck | None = None
        """Who the client is, once the handshake is complete."""
        self.calls: set[asyncio.Task[None]] = set()
        self.refused: str | None = None
        """Why the client is being disconnected, if its certificate is the reason."""
        self._closed_for = ""
        self._has_slot = False
        self._record_end: Callable[[str], None] | None = None
        self._unprocessed = b""
        self._processing: asyncio.Task[None] | None = None

    def terminate(self, reason: str, code: ErrorCodes = ErrorCodes.ENHANCE_YOUR_CALM) -> None:
        """Tell the client why it is disconnected, log it, and close the connection."""
        assert self.transport is not None
        if not self.connection.is_closing():
            self._closed_for = reason
            address = self.transport.get_extra_info("peername")[0]
            log.warning("%s: closing a connection of %r: %s", address, self.client.name, reason)
        super().terminate(reason, code)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start HTTP/2 if the client has negotiated it and has not too many connections."""
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._now = loop.time
        streams = self.processor.streams
        self._budgets = FrameBudgets(
            self._shared.bounds,
            loop.time(),
            sent=lambda: self.connection.data_sent,
            is_open=lambda stream: stream in streams,
        )
        h2 = self.connection._connection  # noqa: SLF001 - h2's default is 100
        h2.update_settings(
            {
                SettingCodes.MAX_CONCURRENT_STREAMS: self._shared.most_calls,
                SettingCodes.MAX_FRAME_SIZE: _LONGEST_REQUEST_FRAME,
                SettingCodes.MAX_HEADER_LIST_SIZE: LONGEST_HEADERS,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            }
        )
        h2.decoder.max_header_list_size = LONGEST_HEADERS  # also of a client that does not acknowledge it
        self.connection.flush()
        tls: SSLObject = transport.get_extra_info("ssl_object")
        self.check = ClientCheck(
            tls, transport.get_extra_info("peername"), self._shared.trust, self._shared.refusals
        )
        self._record_end = self._shared.audit.connection_opened(self.check.caller)
        self._shared.expiries.connected(self.check.caller, time())
        if tls.selected_alpn_protocol() != "h2":
            self.terminate("the client does not offer HTTP/2 (ALPN protocol h2)")
            return
        client = self.check.caller.identity.client
        if (refusal := self._shared.slots.refusal(client)) is not None:
            self.terminate(refusal)
            return
        self._shared.slots.take(client)
        self.client = client
        self._has_slot = True

    def data_received(self, data: bytes) -> None:
        """Process what the client sent, or a part of it, and the rest in turns with other clients."""
        self.received += len(data)
        if self._processing is not None:
            self._unprocessed += data
            return
        end = self._process(data, 0)
        if end < len(data):
            self._unprocessed = data[end:]
            self._processing = asyncio.get_running_loop().create_task(self._process_rest())

    def eof_received(self) -> None:
        """End all calls: TLS sends nothing more to a client that has closed its side."""
        self._end_calls()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Record that the connection has ended."""
        self._end_calls()
        super().connection_lost(exc)
        if self._record_end is not None:
            self._record_end(self.refused or self._closed_for)
        self._unprocessed = b""
        if self._has_slot:
            self._shared.slots.release(self.client)
            self._has_slot = False

    def refusal(self) -> str | None:
        """Return why the client is not trusted now, None if it is."""
        return None if self.check is None else self.check.refusal()

    async def refuse(self, reason: str) -> None:
        """End all calls with the reason, then the connection; a client that reads nothing is dropped."""
        self.refused = reason
        for call in self.calls:
            call.cancel()
        if self.calls:
            await asyncio.wait(self.calls, timeout=CLOSE_PATIENCE)
        # Logged by the check.
        super().terminate(str(CertificateRefused(reason)), ErrorCodes.INADEQUATE_SECURITY)
        await self.end(CLOSE_PATIENCE)

    def _end_calls(self) -> None:
        if not self.processor.closed:
            if calls := len(self.processor.streams):
                log.info("a connection of %r has ended during %d calls", self.client.name, calls)
            self.processor.close("the client has closed the connection")

    def new_buffer(self, stream: Stream) -> MessageBuffer:
        """Return the buffer of a call's requests."""
        assert stream.id is not None
        acknowledge = partial(self.connection.ack, stream.id)
        return RequestBuffer(acknowledge, self._shared.requests, self.client)

    def _process(self, data: bytes, start: int) -> int:
        """Process some frames, and return where the next ones begin."""
        if self.connection.is_closing():
            return len(data)
        end, excess = self._budgets.take(data, start, self._now())
        if excess is not None:
            self.terminate(f"the client sends too many {excess}")
            return len(data)
        super().data_received(data if end - start == len(data) else data[start:end])
        return end

    async def _process_rest(self) -> None:
        assert self.transport is not None
        self.transport.pause_reading()  # type: ignore[attr-defined] # it is a transport for both directions
        position = 0
        while position < len(self._unprocessed):
            await self._shared.turns.turn(self.client)
            position = self._process(self._unprocessed, position)
        self._unprocessed = b""
        self._processing = None
        if not self.connection.is_closing():
            self.transport.resume_reading()  # type: ignore[attr-defined]
