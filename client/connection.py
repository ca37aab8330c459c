"""One connection to a server: calls over it, each made once, and the errors that they raise."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from ..api.grpc.channel import Call, Channel, errors_translated
from ..api.grpc.errors import ConnectionLost
from ..api.wire.decoding import MalformedMessage
from ..core.errors import WorkerError
from ..proto import betterproto2  # loads it without what only its tools need
from .address import Address
from .errors import OTHER_CERTIFICATE, RpcError, ServerUnreachable
from .unreachable import why_unreachable

CONNECT_TIMEOUT = 10.0
"""Seconds that a server may take to accept a connection."""

_Request = TypeVar("_Request", bound=betterproto2.Message)
_Reply = TypeVar("_Reply", bound=betterproto2.Message)
_Result = TypeVar("_Result")


class Connection:
    """A connection, made by the first call. Every call raises RpcError and ServerUnreachable.

    ``path`` is that of a method, such as ``/worker.v1.WorkerService/Start``. ``read`` makes a result of a
    reply; an error that it raises is one of the reply.
    """

    def __init__(self, host: str, port: int, ssl_context: ssl.SSLContext) -> None:
        self.address = str(Address(host, port))
        self._host = host
        self._ssl_context = ssl_context
        self._channel = Channel(host, port, ssl_context)
        self._channel.raise_statuses()

    async def close(self) -> None:
        """Disconnect. All calls have ended; waiting for the server to close would cost a round trip."""
        await self._channel.disconnect()

    async def unary(
        self,
        path: str,
        request: betterproto2.Message,
        reply_type: type[_Reply],
        read: Callable[[_Reply], _Result],
    ) -> _Result:
        """Make a call with one request and one reply."""
        async with self._errors_translated():
            reply = await self._channel.unary(path, request, reply_type)
            if reply is None:
                raise MalformedMessage("it is empty")
            return read(reply)

    async def replies(
        self,
        path: str,
        request: betterproto2.Message,
        reply_type: type[_Reply],
        read: Callable[[_Reply], _Result],
    ) -> AsyncGenerator[_Result, None]:
        """Make a call with one request and a stream of replies."""
        call = self._channel.replies(path, request, reply_type)
        async with self._errors_translated(), aclosing(call) as replies:
            async for reply in replies:
                yield read(reply)

    @asynccontextmanager
    async def call(
        self, path: str, request_type: type[_Request], reply_type: type[_Reply]
    ) -> AsyncIterator[Call[_Request, _Reply]]:
        """Make a call in both directions; its errors are translated when the context is left."""
        made = self._channel.call(path, request_type, reply_type)
        async with self._errors_translated(), made as stream:
            yield stream

    @asynccontextmanager
    async def _errors_translated(self) -> AsyncIterator[None]:
        """Connect, and raise RpcError and ServerUnreachable for the errors of the layers below."""
        await self._connect()
        try:
            with errors_translated():
                yield
        except ConnectionLost as error:
            raise self._unreachable(self._why_lost(str(error)), lost=True) from None
        except OSError as error:
            raise self._unreachable(why_unreachable(error, self._host), lost=True) from error
        except UnicodeEncodeError:
            raise RpcError("InvalidArgument", "the request contains text that is not Unicode") from None
        except (MalformedMessage, WorkerError) as error:
            raise RpcError("Internal", f"the server's reply is invalid: {error}") from error

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._channel.connect()
        except TimeoutError:
            reason = f"no answer within {CONNECT_TIMEOUT:g} s; check the address, and the firewalls between"
            raise self._unreachable(reason) from None
        except OSError as error:
            lost = isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)
            raise self._unreachable(why_unreachable(error, self._host), lost=lost) from error

    def _unreachable(self, reason: str, *, lost: bool = False) -> ServerUnreachable:
        return ServerUnreachable(
            self.address, reason, lost=lost, silent=lost and not self._channel.has_received
        )

    def _why_lost(self, reason: str) -> str:
        """Return why the connection was lost.

        In TLS 1.3 the client completes its handshake before the server has checked the client's
        certificate; a server that rejects it closes the connection before it has sent anything.
        """
        if self._channel.current is None or self._channel.has_received:
            return reason[:1].lower() + reason[1:]
        from .own_certificate import why_refused  # noqa: PLC0415 - only after an error

        why = why_refused(self._ssl_context, self._channel.current.end_reason)
        return f"it rejects this client's certificate: {why}; {OTHER_CERTIFICATE}"
