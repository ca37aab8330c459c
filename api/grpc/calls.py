"""The path of every call: admission, request, handler, replies, status, audit.

Every error becomes a status (api/errors.py), and every stream of replies is closed.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from betterproto2 import Message
from grpclib.const import Cardinality, Handler
from grpclib.events import RecvRequest
from grpclib.exceptions import GRPCError
from grpclib.protocol import Peer
from grpclib.server import Stream
from h2.exceptions import StreamClosedError

from ...core.errors import AccessDenied
from ...core.model.job import Chunk
from ...core.steps import Step, reached
from ...proto.worker import AttachOpen, AttachRequest, AttachResponse, StreamRequest
from ..bounds import Bounds, ClientStalled, StreamSlots
from ..errors import CallRejected, ErrorReply, error_reply
from ..fairness import RoundRobin
from ..handlers import Handlers, caller
from ..methods import METHODS, Bidirectional, Method, OutputStream, ServerStream, Unary
from ..roles import ANONYMOUS, Identity, Right, identify
from ..shutdown import Shutdown
from .framing import ReplySender, send_reply
from .requests import MAX_STREAMED_REQUEST, own_window, receive, receive_rest
from .status import Status, code_name

if TYPE_CHECKING:
    from ssl import SSLObject

log = logging.getLogger(__name__)
audit = logging.getLogger("worker.audit")


class Calls:
    """Admits calls and runs them."""

    def __init__(self, handlers: Handlers, shutdown: Shutdown, bounds: Bounds) -> None:
        self._handlers = handlers
        self._shutdown = shutdown
        self._bounds = bounds
        self._slots = StreamSlots(bounds)
        self._streams = RoundRobin()
        self._running: set[asyncio.Task[None]] = set()
        self._identities: WeakKeyDictionary[SSLObject, Identity] = WeakKeyDictionary()

    def methods(self) -> dict[str, Handler]:
        """Return the table of methods in grpclib's form."""
        return {
            path: Handler(partial(self._run, method), _cardinality(method), method.request, method.reply)
            for path, method in METHODS.items()
        }

    async def admit(self, event: RecvRequest) -> None:
        """Admit a call in the name of its caller, or reject it."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            self._shutdown.check("call again later")
            self._authorize(event.method_name, event.peer)
        except Exception as error:  # noqa: BLE001 - error_reply logs unexpected ones
            reply = error_reply(error)
            raise GRPCError(reply.status, reply.message) from None

    async def ended(self) -> None:
        """Wait until no call is running."""
        while self._running:
            await asyncio.wait(self._running)

    def _authorize(self, path: str, peer: Peer) -> None:
        method = METHODS.get(path)
        if method is None:
            raise CallRejected(Status.UNIMPLEMENTED, f"there is no method {path}")
        identity = self._identity(peer)
        if not identity.may(method.right):
            if method.right is not Right.READ:
                audit.warning("%r: %s: denied", identity.name, method.name)
            roles = ", ".join(sorted(identity.roles)) or "none"
            raise AccessDenied(
                f"{method.name} requires a role with the right to {method.right.value}; "
                f"the roles of {identity.name!r} are: {roles}"
            )
        caller.set(identity)

    def _identity(self, peer: Peer) -> Identity:
        """Return the identity of the peer; the certificate is parsed once per connection."""
        # Peer.cert() returns a dict without the extensions that ssl does not know.
        connection = peer._transport.get_extra_info("ssl_object")  # noqa: SLF001
        if connection is None:
            return ANONYMOUS
        if connection not in self._identities:
            certificate = connection.getpeercert(binary_form=True)
            self._identities[connection] = identify(certificate) if certificate else ANONYMOUS
        return self._identities[connection]

    async def _run(self, method: Method, stream: Stream[Message, Message]) -> None:
        request: Message | None = None
        reply: Message | None = None
        outcome = "OK"
        try:
            if isinstance(method, Unary):
                request = await receive(stream, method.request)
                reply = await method.handler(self._handlers, request)
                await send_reply(stream, reply)
                reached(Step.ANSWERED, _job_of(request, reply))
            elif isinstance(method, ServerStream):
                request = await receive(stream, method.request)
                await _send_replies(stream, method.handler(self._handlers, request))
            elif isinstance(method, OutputStream):
                with self._slots.taken(caller.get().name):  # before the request, which may never arrive
                    request = await receive(stream, method.request)
                    assert isinstance(request, StreamRequest)
                    await self._send_output(stream, method.handler(self._handlers, request))
            else:
                with self._slots.taken(caller.get().name), own_window(stream):
                    request = await _opening(stream)
                    _audit(method, request, None, "writes to stdin" if request.input else "gets output")
                    rest = receive_rest(stream, method.request)
                    await self._exchange(stream, method.handler(self._handlers, request, rest))
        except asyncio.CancelledError:
            outcome = "canceled by the client"
            if stream.deadline is not None and stream.deadline.time_remaining() <= 0:
                with suppress(StreamClosedError):
                    await _fail(
                        stream, ErrorReply(Status.DEADLINE_EXCEEDED, "the call's deadline has passed")
                    )
            raise
        except StreamClosedError:  # the client is gone; what it has asked for may be done
            outcome = "canceled by the client" if reply is None else "OK, but the client was gone"
        except Exception as error:  # noqa: BLE001 - error_reply logs unexpected ones
            failure = error_reply(error)
            outcome = f"{code_name(failure.status)}: {failure.message}"
            if isinstance(error, ClientStalled):
                log.warning("%r: ending a stream: %s", caller.get().name, error)
            await _fail(stream, failure)
        finally:
            if method.right is not Right.READ:
                _audit(method, request, reply, outcome)

    async def _send_output(
        self, stream: Stream[Message, Message], output: AsyncGenerator[Chunk, None]
    ) -> None:
        sender = ReplySender(stream, self._bounds.stalled_client_timeout)
        async with aclosing(output) as chunks:
            async for chunk in chunks:
                await sender.send(chunk)
                await self._streams.turn()  # nothing above waits while the socket accepts data

    async def _exchange(
        self, stream: Stream[Message, Message], responses: AsyncGenerator[AttachResponse, None]
    ) -> None:
        sender = ReplySender(stream, self._bounds.stalled_client_timeout)
        async with aclosing(responses):
            async for response in responses:
                if response.output is None:
                    await sender.send_message(response)
                else:
                    await sender.send_output(response)
                    await self._streams.turn()


def _cardinality(method: Method) -> Cardinality:
    match method:
        case Unary():
            return Cardinality.UNARY_UNARY
        case Bidirectional():
            return Cardinality.STREAM_STREAM
    return Cardinality.UNARY_STREAM


async def _send_replies(stream: Stream[Message, Message], replies: AsyncGenerator[Message, None]) -> None:
    async with aclosing(replies):
        async for reply in replies:
            await stream.send_message(reply)


async def _opening(stream: Stream[Message, Message]) -> AttachOpen:
    """Return the first request of a bidirectional call."""
    first = await receive(stream, AttachRequest, most=MAX_STREAMED_REQUEST)
    if first.open is None:
        raise CallRejected(Status.INVALID_ARGUMENT, "the first request must be `open`")
    return first.open


async def _fail(stream: Stream[Message, Message], failure: ErrorReply) -> None:
    await stream.send_trailing_metadata(
        status=failure.status, status_message=failure.message, metadata=failure.metadata
    )


def _audit(method: Method, request: Message | None, reply: Message | None, outcome: str) -> None:
    """Log who changed what."""
    job = _job_of(request, reply)
    audit.info("%r: %s: job %.40r: %.200r", caller.get().name, method.name, job, outcome)


def _job_of(request: Message | None, reply: Message | None) -> str:
    """Return the id of the job: `job_id` in every message; that of a Start is in its reply."""
    return str(getattr(reply, "job_id", "") or getattr(request, "job_id", ""))
