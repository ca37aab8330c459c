"""The client's channel: one connection to a server, and the calls made over it."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar

from grpclib.client import Channel as GrpcChannel
from grpclib.client import Stream
from grpclib.config import Configuration
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase
from grpclib.events import RecvTrailingMetadata, listen
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import StreamClosedError

from ...proto import betterproto2  # loads it without what only its tools need
from .codec import MessageCodec
from .connection import CLOSE_PATIENCE, Http2Connection
from .errors import ConnectionLost, RpcError
from .receiving import ReceivingConnection
from .sending import RequestSender
from .status import ERRNO_KEY, Status, code_name

# A call that waits notices within 40 s that the server has vanished without closing its connection.
KEEPALIVE = Configuration(
    _keepalive_time=20.0,
    _keepalive_timeout=20.0,
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=10.0,
)

_Request = TypeVar("_Request", bound=betterproto2.Message)
_Reply = TypeVar("_Reply", bound=betterproto2.Message)


class Channel(GrpcChannel):
    """grpclib's channel; its connection can be awaited, and its calls leave nothing open."""

    current: Http2Connection | None = None

    def __init__(
        self, host: str, port: int, ssl_context: ssl.SSLContext, codec: CodecBase | None = None
    ) -> None:
        super().__init__(host, port, codec=codec or MessageCodec(), ssl=ssl_context, config=KEEPALIVE)

    async def connect(self) -> None:
        """Connect, unless there is a connection; raise OSError."""
        await self.__connect__()

    async def disconnect(self, patience: float = 0) -> None:
        """Close the connection, with ``patience`` seconds for the server to read the rest."""
        connection = self.current
        self.close()
        if connection is not None:
            await connection.end(patience)

    @property
    def has_received(self) -> bool:
        """Whether the server has sent anything over the current connection."""
        return self.current is not None and self.current.has_received

    def raise_statuses(self) -> None:
        """Raise each status other than OK as RpcError, with the errno that goes with it."""
        listen(self, RecvTrailingMetadata, _raise_status)

    async def unary(
        self, path: str, request: betterproto2.Message, reply_type: type[_Reply]
    ) -> _Reply | None:
        """Make a call with one request and one reply; None: the server has sent OK without a reply."""
        call = self.request(path, Cardinality.UNARY_UNARY, type(request), reply_type)
        async with call as stream:
            await stream.send_message(request, end=True)
            reply = await _next(stream)
            # As in replies; the status of a call without a reply is not checked elsewhere.
            await stream.recv_trailing_metadata()
            return reply

    async def replies(
        self, path: str, request: betterproto2.Message, reply_type: type[_Reply]
    ) -> AsyncGenerator[_Reply, None]:
        """Make a call with a stream of replies; unlike the stub, closing the generator ends the call."""
        call = self.request(path, Cardinality.UNARY_STREAM, type(request), reply_type)
        async with call as stream:
            await stream.send_message(request, end=True)
            while (reply := await _next(stream)) is not None:
                yield reply
            # grpclib itself does not check the status once the connection is being closed.
            await stream.recv_trailing_metadata()

    @asynccontextmanager
    async def call(
        self, path: str, request_type: type[_Request], reply_type: type[_Reply]
    ) -> AsyncIterator["Call[_Request, _Reply]"]:
        """Make a call with any number of requests and replies; leaving the context ends it."""
        made = self.request(path, Cardinality.STREAM_STREAM, request_type, reply_type)
        async with made as stream:
            call = Call(stream)
            yield call
            if not call.over:
                await stream.cancel()

    def _protocol_factory(self) -> Http2Connection:
        made = super()._protocol_factory()
        self.current = ReceivingConnection(made.handler, made.config, made.h2_config)
        return self.current

    async def _create_connection(self) -> Http2Connection:
        """Connect as grpclib does, but wait less than asyncio's 30 s for the closing TLS alert."""
        _, connection = await self._loop.create_connection(
            self._protocol_factory,
            self._host,
            self._port,
            ssl=self._ssl,
            server_hostname=self._config.ssl_target_name_override,
            ssl_shutdown_timeout=CLOSE_PATIENCE,
        )
        return connection


class Call(Generic[_Request, _Reply]):
    """A call in both directions. One task may send while another one receives."""

    def __init__(self, stream: Stream[_Request, _Reply]) -> None:
        self._stream = stream
        self._sender: RequestSender | None = None
        self._ended = False
        self.over = False
        """Whether the server has ended the call with OK."""

    async def send(self, request: _Request) -> None:
        """Send a request, once the window of the server allows it; nothing after the end of the call."""
        if self._ended:  # the server can end it at any time
            return
        if self._sender is None:  # the first one opens the call
            await self._stream.send_message(request)
            self._sender = RequestSender(self._stream)
            return
        with _ended_by_server():
            await self._sender.send(request)

    async def end(self) -> None:
        """End this side of the call; idempotent."""
        if not self._ended:
            self._ended = True
            with _ended_by_server():
                await self._stream.end()

    async def receive(self) -> _Reply | None:
        """Return the next reply, or None if the server has ended the call with OK."""
        reply = await _next(self._stream)
        if reply is None:
            await self.end()  # grpclib requires it before the status
            await self._stream.recv_trailing_metadata()
            self.over = True
        return reply


@contextmanager
def _ended_by_server() -> Iterator[None]:
    """Raise StreamTerminatedError if the server has ended the call; grpclib replaces it by the status."""
    try:
        yield
    except StreamClosedError:
        raise StreamTerminatedError("the server has ended the call") from None


@contextmanager
def errors_translated() -> Iterator[None]:
    """Raise grpclib's errors as RpcError and ConnectionLost."""
    try:
        with _no_leftover_cancellation():
            yield
    except GRPCError as error:
        raise RpcError(code_name(error.status), error.message or "no reason given") from None
    except StreamTerminatedError as error:
        raise ConnectionLost(str(error)) from None


@contextmanager
def _no_leftover_cancellation() -> Iterator[None]:
    """Undo how grpclib wakes a call whose connection is lost: it cancels the task and suppresses that.

    The cancellation count that remains would make asyncio ignore a later Ctrl-C, and a cancellation
    from elsewhere at the same time would be lost.
    """
    caller = asyncio.current_task()
    before = caller.cancelling() if caller is not None else 0
    try:
        yield
    except Exception:
        task = asyncio.current_task()  # a generator may be closed by another task than the one that began
        if task is caller and task is not None and task.cancelling() > before and task.uncancel() > before:
            raise asyncio.CancelledError from None
        raise


async def _next(stream: Stream[_Request, _Reply]) -> _Reply | None:
    """Return the next reply, or None when the status follows."""
    try:
        return await stream.recv_message()
    except AssertionError:  # raised by grpclib when the server ends the stream within a message
        return None


async def _raise_status(event: RecvTrailingMetadata) -> None:
    if event.status is not Status.OK:
        errno = str(event.metadata.get(ERRNO_KEY, ""))
        raise RpcError(
            code_name(event.status),
            event.status_message or "no reason given",
            int(errno) if errno.isdecimal() else None,
        )
